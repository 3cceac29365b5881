"""Formulas of the derivation, right and wrong, for the tests of the proof machinery."""

import sympy as sp

from ddim_lib.symbols import (
    alpha_bar_r,
    alpha_bar_s,
    alpha_bar_t,
    beta_t,
    beta_tilde,
    eps,
    m,
    m_ddpm,
    m_solved,
    n,
    n_ddpm,
    n_solved,
    sigma,
    x0,
    xs,
    xt,
    z,
)

Eq, Lt, Le, Gt, Ge = sp.Eq, sp.Lt, sp.Le, sp.Gt, sp.Ge
sqrt, cbrt, log, exp = sp.sqrt, sp.cbrt, sp.log, sp.exp
a_t, a_s, a_r = alpha_bar_t, alpha_bar_s, alpha_bar_r

eta = sp.Symbol("eta", nonnegative=True)
d = sp.Symbol("d", integer=True, positive=True)
k = sp.Symbol("k", integer=True)
mu1, mu2, v, x, y = sp.symbols("mu_1 mu_2 v x y", real=True)
std1, std2, w = sp.symbols("s_1 s_2 w", positive=True)

half = sp.Rational(1, 2)
SOLVED = {m: m_solved, n: n_solved}
AT_DDPM = {sigma: sqrt(beta_tilde)}
old_noise = sqrt(1 - a_s - sigma**2)
noise_in_xt = xt - sqrt(a_t) * x0
spread_t = sqrt(1 - a_t)
gain_t = sqrt(1 - beta_t)


def clean(of_noise=1 - a_t, signal=a_t, sign=1):
    """x_0 as x_t and eps tell it."""
    return (xt - sign * sqrt(of_noise) * eps) / sqrt(signal)


def square(numerator, variance):
    return numerator**2 / variance


def posterior_quadratic(back=beta_t, forward=1 - a_s, gain=1 - beta_t, signal=a_s):
    """-2 log q(x_s | x_t, x_0) by Bayes' rule, up to a constant."""
    likelihood = square(xt - sqrt(gain) * xs, back) + square(xs - sqrt(signal) * x0, forward)
    return likelihood - square(xt - sqrt(a_t) * x0, 1 - a_t)


CURVATURE = sp.diff(posterior_quadratic(), xs, 2) / 2
POSTERIOR_MEAN = -sp.diff(posterior_quadratic(), xs).subs(xs, 0) / 2 / CURVATURE
POSTERIOR = {m: sp.diff(POSTERIOR_MEAN, x0), n: sp.diff(POSTERIOR_MEAN, xt)}


def log_density(deviation, variance):
    return -square(deviation, variance) / 2 - log(2 * sp.pi * variance) / 2


A = sp.Symbol("A", positive=True)
B, C = sp.symbols("B C", real=True)
BELL = log(sqrt(sp.pi) * exp(B**2 / (4 * A) + C) / sqrt(A))  # of the integral of exp(-A x_t^2 + B x_t + C)
JOINT = log_density(xs - m * x0 - n * xt, sigma**2) + log_density(noise_in_xt, 1 - a_t)
POWERS = dict(zip((A, B, C), sp.Poly(sp.expand(JOINT), xt).all_coeffs(), strict=True))


def kl_by_moments(dimension=1):
    """E[log N(mu_1, s_1^2) - log N(mu_2, s_2^2)] under the first, with E[(x - mu_2)^2] written out."""
    second_moment = std1**2 + mu1**2 - 2 * mu1 * mu2 + mu2**2
    logs = log(2 * sp.pi * std2**2) / 2 - log(2 * sp.pi * std1**2) / 2
    return dimension * (logs - half + second_moment / std2**2 / 2)


def kl(ratio=std2 / std1, spread=std1**2, distance=(mu1 - mu2) ** 2, scale=2 * std2**2, offset=half):
    return log(ratio) + (spread + distance) / scale - offset


def weight(mean_x0=m, variance=2 * sigma**2, signal=a_t):
    """Of the squared error of eps in the loss, from the coefficient of x_0 in the mean."""
    return mean_x0**2 * (1 - a_t) / (variance * signal)


def hos_weight(variance=2 * sigma**2, gain=1 - beta_t, noise=1 - a_t):
    return beta_t**2 / (variance * gain * noise)


def eps_form(share=beta_t / spread_t, gain=gain_t, sign=-1):
    return (xt + sign * share * eps) / gain


def paper_mean(noise=noise_in_xt, spread=spread_t, kept=old_noise):
    return sqrt(a_s) * x0 + kept * noise / spread


def update(ratio=a_s / a_t, spread=1 - a_t, kept=old_noise):
    return sqrt(ratio) * xt + (kept - sqrt(ratio) * sqrt(spread)) * eps


MEAN = m * x0 + n * xt
IMPLIED = {x0: clean()}
IMPLIED_AND_SOLVED = SOLVED | IMPLIED
DDPM_IMPLIED = {m: m_ddpm, n: n_ddpm} | IMPLIED
HO = {m: m_solved} | AT_DDPM
STANDARD = sqrt(1 - a_t) / sqrt(1 - a_s)  # turns the coefficient n into a correlation
ETA_SIGMA = {sigma: eta * sqrt((1 - a_s) / (1 - a_t)) * sqrt(1 - a_t / a_s)}

RIGHT = {  # name: claim, and what names in it stand for
    "signal of a step": (Eq(sqrt(1 - beta_t) * sqrt(a_s), sqrt(a_t)), {}),
    "variance of a step": (Eq((1 - beta_t) * (1 - a_s) + beta_t, 1 - a_t), {}),
    "variance of two steps": (Eq(a_t / a_r * (1 - a_r / a_s) + 1 - a_t / a_r, beta_t), {}),
    "beta_tilde": (Eq(v, beta_tilde), {v: 1 / CURVATURE}),
    "m of DDPM": (Eq(m, m_ddpm), {m: POSTERIOR[m]}),
    "n of DDPM": (Eq(n, n_ddpm), {n: POSTERIOR[n]}),
    "completed square": (Eq(posterior_quadratic(), square(xs - m_ddpm * x0 - n_ddpm * xt, beta_tilde)), {}),
    "mean condition": (Eq(m + n * sqrt(a_t), sqrt(a_s)), SOLVED),
    "marginal by integration": (
        Eq(BELL, log_density(xs - sqrt(a_s) * x0, 1 - a_s)),
        POWERS | {A: -POWERS[A]} | SOLVED,
    ),
    "variance condition": (Eq(n**2 * (1 - a_t) + sigma**2, 1 - a_s), {n: n_solved}),
    "variance condition of DDPM": (Eq(n_ddpm**2 * (1 - a_t) + beta_tilde, 1 - a_s), {}),
    "n at beta_tilde": (Eq(n, n_ddpm), {n: n_solved} | AT_DDPM),
    "m at beta_tilde": (Eq(m, m_ddpm), HO),
    "paper's mean": (Eq(MEAN, paper_mean()), SOLVED),
    "correlation": (Eq(n * STANDARD, sqrt(1 - sigma**2 / (1 - a_s))), {n: n_solved}),
    "variance of eta": (Eq(sigma**2, eta**2 * beta_tilde), ETA_SIGMA),
    "largest eta": (Eq(eta**2 * beta_tilde, 1 - a_s), {eta: sqrt((1 - a_t) / beta_t)}),
    "Ho's weight": (Eq(weight(), hos_weight()), HO),
    "KL": (Eq(kl_by_moments(), kl()), {}),
    "KL of d components": (Eq(kl_by_moments(d), d * kl()), {}),
    "eps form": (Eq(MEAN, eps_form()), DDPM_IMPLIED),
    "score": (Eq(-(xt - sqrt(a_t) * x0) / (1 - a_t), -eps / sqrt(1 - a_t)), IMPLIED),
    "Tweedie": (Eq((xt + (1 - a_t) * v) / sqrt(a_t), x0), {v: -eps / sqrt(1 - a_t)} | IMPLIED),
    "update": (Eq(MEAN, sqrt(a_s) * x0 + old_noise * eps), IMPLIED_AND_SOLVED),
    "update in x_t and eps": (Eq(MEAN, update()), IMPLIED_AND_SOLVED),
    "variance of the step forwards": (
        Eq(1 / (n**2 / sigma**2 + 1 / (1 - a_t)), (1 - a_t) / (1 - a_s) * sigma**2),
        {n: n_solved},
    ),
    "order of the times": (Gt(a_s, a_t), {}),
    "the time between": (Lt(a_t, a_r), {}),
    "the time between, from above": (Ge(a_s, a_r), {}),
    "beta_tilde leaves room": (Lt(beta_tilde, 1 - a_s), {}),
    "beta_tilde below beta": (Lt(beta_tilde, beta_t), {}),
    "range of sigma": (Le(sigma**2, 1 - a_s), {}),
    "m of DDPM is positive": (Gt(m * (1 - a_t), 0), {m: m_ddpm}),
    "m is at most the signal": (Le(m, sqrt(a_s)), {m: m_solved}),
    "root of a square": (
        Eq(sqrt((1 - a_s) ** 2 - 2 * (1 - a_s) * sigma**2 + sigma**4), 1 - a_s - sigma**2),
        {},
    ),
    "logarithm of beta_tilde": (Eq(log(v), log(1 - a_s) + log(beta_t) - log(1 - a_t)), {v: beta_tilde}),
    "points of a circle": (Eq(v, 1), {v: sp.sin(x0) ** 2 + sp.cos(x0) ** 2}),
    "a positive integer is at most its square": (Ge(d**2, d), {}),
}

NUMERIC = {  # SymPy does not decide these
    "m is positive": (Gt(m, 0), {m: m_solved}),
    "n falls with sigma": (Le(n, sqrt(1 - a_s) / sqrt(1 - a_t)), {n: n_solved}),
    "KL is not negative": (Ge(kl(), 0), {}),
    "an integer's square": (Ge(k**2, k), {}),
    "pieces": (Eq(sp.Piecewise((x0, x0 > 0), (-x0, True)), sp.Abs(x0)), {}),
    "a square without a root": (Gt((x0**2 + x0 + 1) ** 2, 0), {}),
    "signal to noise": (Gt(log(a_s / (1 - a_s)), log(a_t / (1 - a_t))), {}),
    "complex in between": (
        Eq(v, cbrt((x0**2 + 1) ** 2 + 1)),
        {v: cbrt(x0**2 + 1 + sp.I) * cbrt(x0**2 + 1 - sp.I)},
    ),
}

WRONG = {  # each by a slip or two from one of the right ones
    "signal: no root": (Eq((1 - beta_t) * sqrt(a_s), sqrt(a_t)), {}),
    "signal: root of beta": (Eq(sqrt(beta_t) * sqrt(a_s), sqrt(a_t)), {}),
    "signal: s and t swapped": (Eq(sqrt(1 - beta_t) * sqrt(a_t), sqrt(a_s)), {}),
    "step variance: gain missing": (Eq((1 - a_s) + beta_t, 1 - a_t), {}),
    "step variance: gain under the root": (Eq(sqrt(1 - beta_t) * (1 - a_s) + beta_t, 1 - a_t), {}),
    "step variance: abar for 1 - abar": (Eq((1 - beta_t) * a_s + beta_t, 1 - a_t), {}),
    "step variance: beta squared": (Eq((1 - beta_t) * (1 - a_s) + beta_t**2, 1 - a_t), {}),
    "step variance: minus": (Eq((1 - beta_t) * (1 - a_s) - beta_t, 1 - a_t), {}),
    "two steps: gain missing": (Eq(1 - a_r / a_s + 1 - a_t / a_r, beta_t), {}),
    "two steps: r for s": (Eq(a_t / a_r * (1 - a_r / a_s) + 1 - a_t / a_s, beta_t), {}),
    "beta: s and t swapped": (Eq(beta_t, 1 - a_s / a_t), {}),
    "beta: index off by one": (Eq(beta_t, 1 - a_t / a_r), {}),
    "beta for beta_tilde": (Eq(v, beta_t), {v: 1 / CURVATURE}),
    "beta_tilde: s and t swapped": (Eq(v, (1 - a_t) / (1 - a_s) * beta_t), {v: 1 / CURVATURE}),
    "beta_tilde: abar for 1 - abar": (Eq(v, a_s / a_t * beta_t), {v: 1 / CURVATURE}),
    "beta_tilde: index off by one": (Eq(v, (1 - a_r) / (1 - a_t) * beta_t), {v: 1 / CURVATURE}),
    "beta_tilde: factor 2": (Eq(v, beta_tilde), {v: 2 / CURVATURE}),
    "n and m of DDPM swapped": (Eq(m, n_ddpm), {m: POSTERIOR[m]}),
    "m of DDPM: root missing": (Eq(m, a_s * beta_t / (1 - a_t)), {m: POSTERIOR[m]}),
    "m of DDPM: t for s": (Eq(m, sqrt(a_t) * beta_t / (1 - a_t)), {m: POSTERIOR[m]}),
    "m of DDPM: r for s": (Eq(m, sqrt(a_r) * beta_t / (1 - a_t)), {m: POSTERIOR[m]}),
    "m of DDPM: beta_tilde for beta": (Eq(m, sqrt(a_s) * beta_tilde / (1 - a_t)), {m: POSTERIOR[m]}),
    "n of DDPM: root of beta": (Eq(n, sqrt(beta_t) * (1 - a_s) / (1 - a_t)), {n: POSTERIOR[n]}),
    "n of DDPM: no root": (Eq(n, (1 - beta_t) * (1 - a_s) / (1 - a_t)), {n: POSTERIOR[n]}),
    "n of DDPM: sign": (Eq(n, -n_ddpm), {n: POSTERIOR[n]}),
    "completed square: variance beta": (
        Eq(posterior_quadratic(), square(xs - m_ddpm * x0 - n_ddpm * xt, beta_t)),
        {},
    ),
    "completed square: signs": (Eq(posterior_quadratic(), square(xs + m_ddpm * x0 + n_ddpm * xt, beta_tilde)), {}),
    "completed square: signal without root": (
        Eq(posterior_quadratic(signal=a_s**2), square(xs - m_ddpm * x0 - n_ddpm * xt, beta_tilde)),
        {},
    ),
    "mean condition: root missing": (Eq(m + n * a_t, sqrt(a_s)), SOLVED),
    "mean condition: factor missing": (Eq(m + n, sqrt(a_s)), SOLVED),
    "mean condition: n and m swapped": (Eq(n + m * sqrt(a_t), sqrt(a_s)), SOLVED),
    "mean condition: minus": (Eq(m - n * sqrt(a_t), sqrt(a_s)), SOLVED),
    "marginal by integration: t for s": (
        Eq(BELL, log_density(xs - sqrt(a_s) * x0, 1 - a_t)),
        POWERS | {A: -POWERS[A]} | SOLVED,
    ),
    "marginal by integration: wrong root": (
        Eq(BELL, log_density(xs - sqrt(a_s) * x0, 1 - a_s)),
        POWERS | {A: -POWERS[A], m: m_solved, n: -n_solved},
    ),
    "variance condition: n not squared": (Eq(n * (1 - a_t) + sigma**2, 1 - a_s), {n: n_solved}),
    "variance condition: sigma not squared": (Eq(n**2 * (1 - a_t) + sigma, 1 - a_s), {n: n_solved}),
    "variance condition: t for s": (Eq(n**2 * (1 - a_t) + sigma**2, 1 - a_t), {n: n_solved}),
    "variance condition: abar for 1 - abar": (Eq(n**2 * a_t + sigma**2, 1 - a_s), {n: n_solved}),
    "variance condition of DDPM: beta": (Eq(n_ddpm**2 * (1 - a_t) + beta_t, 1 - a_s), {}),
    "n at beta": (Eq(n, n_ddpm), {n: n_solved, sigma: sqrt(beta_tilde / 2)}),
    "n at sigma, not sigma^2, beta_tilde": (Eq(n, n_ddpm), {n: n_solved, sigma: beta_tilde}),
    "n at beta_tilde: other root": (Eq(n, n_ddpm), {n: -n_solved} | AT_DDPM),
    "m with the other root": (Eq(m, m_ddpm), {m: sqrt(a_s) + sqrt(a_t) * n_solved} | AT_DDPM),
    "m and n swapped at beta_tilde": (Eq(n, m_ddpm), {n: n_solved} | AT_DDPM),
    "paper's mean: root of abar missing": (Eq(MEAN, paper_mean(noise=xt - a_t * x0)), SOLVED),
    "paper's mean: sqrt(abar) missing": (Eq(MEAN, paper_mean(noise=xt - x0)), SOLVED),
    "paper's mean: spread without root": (Eq(MEAN, paper_mean(spread=1 - a_t)), SOLVED),
    "paper's mean: s for t": (Eq(MEAN, paper_mean(spread=sqrt(1 - a_s))), SOLVED),
    "paper's mean: sigma not taken off": (Eq(MEAN, paper_mean(kept=sqrt(1 - a_s))), SOLVED),
    "paper's mean: difference of roots": (Eq(MEAN, paper_mean(kept=sqrt(1 - a_s) - sigma)), SOLVED),
    "correlation: no root": (Eq(n * STANDARD, 1 - sigma**2 / (1 - a_s)), {n: n_solved}),
    "correlation: sigma not squared": (Eq(n * STANDARD, sqrt(1 - sigma / sqrt(1 - a_s))), {n: n_solved}),
    "correlation: t for s": (Eq(n * STANDARD, sqrt(1 - sigma**2 / (1 - a_t))), {n: n_solved}),
    "correlation: spreads swapped": (Eq(n / STANDARD, sqrt(1 - sigma**2 / (1 - a_s))), {n: n_solved}),
    "eta for eta^2": (Eq(sigma**2, eta * beta_tilde), ETA_SIGMA),
    "eta times beta": (Eq(sigma**2, eta**2 * beta_t), ETA_SIGMA),
    "sigma for sigma^2": (Eq(sigma, eta**2 * beta_tilde), ETA_SIGMA),
    "largest eta: no root": (Eq(eta**2 * beta_tilde, 1 - a_s), {eta: (1 - a_t) / beta_t}),
    "largest eta: s for t": (Eq(eta**2 * beta_tilde, 1 - a_s), {eta: sqrt((1 - a_s) / beta_t)}),
    "Ho's weight: m not squared": (Eq(weight(mean_x0=sqrt(m)), hos_weight()), HO),
    "Ho's weight: 2 missing": (Eq(weight(variance=sigma**2), hos_weight()), HO),
    "Ho's weight: s for t": (Eq(weight(signal=a_s), hos_weight()), HO),
    "Ho's weight: abar missing": (Eq(weight(signal=1), hos_weight()), HO),
    "Ho's weight: factor d": (Eq(weight(variance=2 * d * sigma**2), hos_weight()), HO),
    "Ho's weight: beta for 1 - beta": (Eq(weight(), hos_weight(gain=beta_t)), HO),
    "Ho's weight: for all sigma": (Eq(weight(), hos_weight()), {m: m_solved}),
    "Ho's weight: sigma for sigma^2": (Eq(weight(), hos_weight(variance=2 * sigma)), HO),
    "KL: ratio upside down": (Eq(kl_by_moments(), kl(ratio=std1 / std2)), {}),
    "KL: ratio of variances": (Eq(kl_by_moments(), kl(ratio=std2**2 / std1**2)), {}),
    "KL: 2 missing": (Eq(kl_by_moments(), kl(scale=std2**2)), {}),
    "KL: offset missing": (Eq(kl_by_moments(), kl(offset=0)), {}),
    "KL: standard deviation for variance": (Eq(kl_by_moments(), kl(spread=std1)), {}),
    "KL: distance not squared": (Eq(kl_by_moments(), kl(distance=mu1 - mu2)), {}),
    "KL: the other variance": (Eq(kl_by_moments(), kl(scale=2 * std1**2)), {}),
    "KL: d missing": (Eq(kl_by_moments(d), kl()), {}),
    "eps form: sign": (Eq(MEAN, eps_form(sign=1)), DDPM_IMPLIED),
    "eps form: no root below": (Eq(MEAN, eps_form(share=beta_t / (1 - a_t))), DDPM_IMPLIED),
    "eps form: gain without root": (Eq(MEAN, eps_form(gain=1 - beta_t)), DDPM_IMPLIED),
    "eps form: sqrt(beta)": (Eq(MEAN, eps_form(share=sqrt(beta_t) / sqrt(1 - a_t))), DDPM_IMPLIED),
    "eps form: gain of abar": (Eq(MEAN, eps_form(gain=sqrt(a_t))), DDPM_IMPLIED),
    "eps form: x_0 with the wrong sign": (Eq(MEAN, eps_form()), DDPM_IMPLIED | {x0: clean(sign=-1)}),
    "eps form: x_0 not scaled": (Eq(MEAN, eps_form()), DDPM_IMPLIED | {x0: clean(signal=1)}),
    "score: sign": (Eq(-(xt - sqrt(a_t) * x0) / (1 - a_t), eps / sqrt(1 - a_t)), IMPLIED),
    "score: no root": (Eq(-(xt - sqrt(a_t) * x0) / (1 - a_t), -eps / (1 - a_t)), IMPLIED),
    "score: not divided": (Eq(-(xt - sqrt(a_t) * x0) / (1 - a_t), -eps), IMPLIED),
    "score: sqrt(abar) missing": (Eq(-(xt - x0) / (1 - a_t), -eps / sqrt(1 - a_t)), IMPLIED),
    "Tweedie: minus": (Eq((xt - (1 - a_t) * v) / sqrt(a_t), x0), {v: -eps / sqrt(1 - a_t)} | IMPLIED),
    "Tweedie: root": (Eq((xt + sqrt(1 - a_t) * v) / sqrt(a_t), x0), {v: -eps / sqrt(1 - a_t)} | IMPLIED),
    "update: sigma not taken off": (Eq(MEAN, sqrt(a_s) * x0 + sqrt(1 - a_s) * eps), IMPLIED_AND_SOLVED),
    "update: signal of t": (Eq(MEAN, sqrt(a_t) * x0 + old_noise * eps), IMPLIED_AND_SOLVED),
    "update: fresh noise for old": (Eq(MEAN, sqrt(a_s) * x0 + old_noise * z), IMPLIED_AND_SOLVED),
    "update: 1 - abar for its root": (Eq(MEAN, sqrt(a_s) * x0 + old_noise**2 * eps), IMPLIED_AND_SOLVED),
    "update in x_t: ratio upside down": (Eq(MEAN, update(ratio=a_t / a_s)), IMPLIED_AND_SOLVED),
    "update in x_t: s for t": (Eq(MEAN, update(spread=1 - a_s)), IMPLIED_AND_SOLVED),
    "update in x_t: r for s": (Eq(MEAN, update(ratio=a_r / a_t)), IMPLIED_AND_SOLVED),
    "forwards: ratio upside down": (
        Eq(1 / (n**2 / sigma**2 + 1 / (1 - a_t)), (1 - a_s) / (1 - a_t) * sigma**2),
        {n: n_solved},
    ),
    "forwards: sigma not squared": (
        Eq(1 / (n**2 / sigma**2 + 1 / (1 - a_t)), (1 - a_t) / (1 - a_s) * sigma),
        {n: n_solved},
    ),
    "order of the times, reversed": (Lt(a_s, a_t), {}),
    "order of the times, reversed, not strict": (Le(a_s, a_t), {}),
    "the time between is below": (Lt(a_r, a_t), {}),
    "the time between is above": (Ge(a_r, a_s), {}),
    "beta_tilde leaves no room": (Gt(beta_tilde, 1 - a_s), {}),
    "beta leaves room": (Lt(beta_t, 1 - a_s), {}),
    "beta_tilde above beta": (Ge(beta_tilde, beta_t), {}),
    "strict where both sides are equal": (Lt(n**2 * (1 - a_t) + sigma**2, 1 - a_s), {n: n_solved}),
    "strict where both sides are equal, above": (Gt(n**2 * (1 - a_t) + sigma**2, 1 - a_s), {n: n_solved}),
    "strict at the end of the range": (Lt(n, sqrt(1 - a_s) / sqrt(1 - a_t)), {n: n_solved}),
    "sigma is positive": (Gt(sigma, 0), {}),
    "m is above the signal": (Ge(m, sqrt(a_s)), {m: m_solved}),
    "sigma, not its square, in the range": (Le(sigma, 1 - a_s), {}),
    "1 - abar_t bounds the signal": (Lt(1 - a_t, a_s), {}),
    "m is at most n": (Le(m, n), SOLVED),
    "KL is positive": (Gt(kl(), 0), {}),
    "KL is at most the distance": (Le(kl(), (mu1 - mu2) ** 2), {}),
}

BOUNDED = {  # wrong, but only far out
    "abar_t below 0.9": (Lt(a_t, sp.Rational(9, 10)), {}),
    "abar_s below 0.999": (Lt(a_s, sp.Rational(999, 1000)), {}),
    "abar_t above a thousandth": (Gt(a_t, sp.Rational(1, 1000)), {}),
    "beta_t below 0.99": (Lt(beta_t, sp.Rational(99, 100)), {}),
    "beta_t above 0.001": (Gt(beta_t, sp.Rational(1, 1000)), {}),
    "sigma^2 at most 0.99 of the room": (Le(sigma**2, sp.Rational(99, 100) * (1 - a_s)), {}),
    "sigma^2 is none or more than 0.001 of the room": (Ge(sigma * (sigma**2 * 1000 - 1 + a_s), 0), {}),
    "x_0 below 100": (Lt(x0, 100), {}),
    "x_0 above -100": (Gt(x0, -100), {}),
    "d at most 100": (Le(d, 100), {}),
    "x_0 and x_t differ in sign or not by much": (Lt(x0 * xt, 10_000), {}),
    "cut off at 1000": (Eq(sp.Piecewise((x0, x0 < 1000), (1000, True)), x0), {}),
    "pieces that meet at 0 only": (Eq(sp.Piecewise((x0, x0 >= 0), (2 * x0, True)), x0), {}),
    "Abs without a sign": (Eq(sp.Abs(x0 - xt), x0 - xt), {}),
    "square of a real number": (Gt(x0**2, 0), {}),
    "fails at 0 of one symbol alone": (Eq(sp.sign(x0) ** 2 * xt, xt), {}),
    "sum of squares": (Gt(x0**2 + xt**2 + eps**2, 0), {}),
    "a square bounds the number": (Ge(x**2, x), {}),
}

TINY = {  # wrong by less than 50 digits show
    "10^-45 is 0": (Eq(x0 / 10**45, 0), {}),
    "10^-80 is 0": (Eq(x0 / 10**80, 0), {}),
    "1 + 10^-60": (Eq(x, exp(x0)), {x: exp(x0) * (1 + sp.Rational(1, 10**60))}),
    "10^-45, cancelled": (Eq((10**12 + x0) ** 2 - 10**24 - 2 * 10**12 * x0, x0**2 + sp.Rational(1, 10**45)), {}),
    "1 beside 10^45": (Eq(x, x0**2 * 10**45), {x: x0**2 * 10**45 + exp(x0)}),
    "below by 10^-60": (Lt(x, exp(x0)), {x: exp(x0) * (1 + sp.Rational(1, 10**60))}),
    "a density that vanishes": (Eq(x, exp(-(x0**2))), {x: exp(-(x0**2)) * 2}),
}
REFUTABLE = WRONG | BOUNDED | TINY
