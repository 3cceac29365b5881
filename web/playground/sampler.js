// The sampler of the book, ddim_lib's in JavaScript. Labels and numbers are those of the book's equations.
//
// A state is one typed array that holds a batch of images one after the other; coefficients are computed in double
// precision. `model(xt, t)` returns a promise of the noise estimate, an array like `xt`. A sampler yields
// { t, xt, x0Pred, evaluations } at every time of tau, from tau_S down to 0, like ddim_lib.ddim_sample.

/** alpha-bar at the times 0..T of the linear schedule, Float64Array(T + 1). def-abar (1.2) */
export function linearAlphaBar(T = 1000, beta1 = 1e-4, betaT = 0.02) {
  const alphaBar = new Float64Array(T + 1).fill(1);
  for (let t = 1; t <= T; t++) {
    const beta = T === 1 ? beta1 : beta1 + ((betaT - beta1) * (t - 1)) / (T - 1);
    alphaBar[t] = alphaBar[t - 1] * (1 - beta);
  }
  return alphaBar;
}

/** The S times at which the network is evaluated, after time 0: S + 1 whole numbers. def-tau (7.1) */
export function makeTau(T, S) {
  if (!Number.isInteger(S) || S < 1 || S > T) {
    throw new RangeError(`S must be a whole number in 1..T = 1..${T}, got ${S}`);
  }
  return Array.from({ length: S + 1 }, (_, i) => Math.floor((i * T) / S));
}

/** The noise put back in a step from t to s < t: eta times DDPM's. def-eta (8.1) */
export function ddimSigma(alphaBarT, alphaBarS, eta) {
  const oneStep = 1 - alphaBarT / alphaBarS;
  return eta * Math.sqrt(((1 - alphaBarS) / (1 - alphaBarT)) * oneStep);
}

/** The clean image that a noise estimate implies. eq-x0-pred (6.1) */
export function predictX0(xt, eps, alphaBarT) {
  const signal = Math.sqrt(alphaBarT);
  const std = Math.sqrt(1 - alphaBarT);
  return xt.map((x, k) => (x - std * eps[k]) / signal);
}

/** One update to time s; `noise` is standard Gaussian, for sigma > 0. eq-update (6.4) */
export function ddimStep(x0Pred, eps, alphaBarS, sigma, noise) {
  const signal = Math.sqrt(alphaBarS);
  const direction = Math.sqrt(Math.max(0, 1 - alphaBarS - sigma * sigma));
  return x0Pred.map(
    (x, k) => signal * x + direction * eps[k] + (sigma > 0 ? sigma * noise[k] : 0),
  );
}

/**
 * Walk from x_T down to x_0 along tau. `drawNoise()` gives fresh Gaussian noise like
 * xT; it is called only where eta > 0, and not on the last step.
 */
export async function* ddimSample(model, alphaBar, xT, tau, eta = 0, drawNoise) {
  let xt = xT;
  for (let i = tau.length - 1; i > 0; i--) {
    const [t, s] = [tau[i], tau[i - 1]];
    const eps = await model(xt, t);
    const x0Pred = predictX0(xt, eps, alphaBar[t]);
    yield { t, xt, x0Pred, evaluations: tau.length - i };
    const sigma = ddimSigma(alphaBar[t], alphaBar[s], eta); // 0 if s = 0
    xt = ddimStep(x0Pred, eps, alphaBar[s], sigma, sigma > 0 ? drawNoise() : null);
  }
  yield { t: 0, xt, x0Pred: xt, evaluations: tau.length - 1 };
}

/** The two-step exponential integrator: x0Pred is extrapolated in lambda = -log sigma-bar. Deterministic. */
export async function* exponentialSample(model, alphaBar, xT, tau) {
  const level = tau.map((t) => Math.sqrt((1 - alphaBar[t]) / alphaBar[t])); // sigma-bar
  let xt = xT;
  let before; // x0Pred of the step before
  for (let i = tau.length - 1; i > 0; i--) {
    const x0Pred = predictX0(xt, await model(xt, tau[i]), alphaBar[tau[i]]);
    yield { t: tau[i], xt, x0Pred, evaluations: tau.length - i };
    let target = x0Pred;
    if (before && i > 1) {
      const ratio = Math.log(level[i] / level[i - 1]) / Math.log(level[i + 1] / level[i]);
      target = x0Pred.map((x, k) => x + (ratio / 2) * (x - before[k])); // eq-exp2 (12.13)
    }
    const share = level[i - 1] / level[i]; // eq-exp-step (12.12), for x = sqrt(alpha-bar) x-bar
    const [signalT, signalS] = [Math.sqrt(alphaBar[tau[i]]), Math.sqrt(alphaBar[tau[i - 1]])];
    xt = xt.map((x, k) => signalS * ((share * x) / signalT + (1 - share) * target[k]));
    before = x0Pred;
  }
  yield { t: 0, xt, x0Pred: xt, evaluations: tau.length - 1 };
}

/** Spherical interpolation of two images of noise: x at weight 0, y at 1. def-slerp (11.5) */
export function slerp(x, y, weight) {
  let [xx, yy, xy] = [0, 0, 0];
  for (let k = 0; k < x.length; k++) {
    xx += x[k] * x[k];
    yy += y[k] * y[k];
    xy += x[k] * y[k];
  }
  const angle = Math.acos(Math.min(1, Math.max(-1, xy / Math.sqrt(xx * yy))));
  const parallel = Math.sin(angle) < 1e-6;
  const atX = parallel ? 1 - weight : Math.sin((1 - weight) * angle) / Math.sin(angle);
  const atY = parallel ? weight : Math.sin(weight * angle) / Math.sin(angle);
  return x.map((value, k) => atX * value + atY * y[k]);
}
