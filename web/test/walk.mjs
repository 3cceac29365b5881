// Walk with the playground's sampler and a model given by a formula; tests/test_playground.py compares with ddim_lib.
// JSON on stdin: { alphaBarOf: T } or { gaussians: [seed, image, size] } or { slerp: [x, y, weight] } or
// { T, S, eta, solver, xT, noise }. JSON on stdout: the array, or every state of the walk.

import { readFileSync } from "node:fs";
import { gaussians } from "../playground/noise.js";
import { ddimSample, exponentialSample, linearAlphaBar, makeTau, slerp } from "../playground/sampler.js";

/** A noise estimate that depends on the state and the time, and on nothing else. */
const model = async (xt, t) => xt.map((x) => Math.tanh(x) * Math.cos(t / 300));

async function walk({ T, S, eta, solver, xT, noise }) {
  const [alphaBar, tau, start] = [linearAlphaBar(T), makeTau(T, S), Float64Array.from(xT)];
  const steps =
    solver === "exponential"
      ? exponentialSample(model, alphaBar, start, tau)
      : ddimSample(model, alphaBar, start, tau, eta, () => noise.shift());
  const states = [];
  for await (const { t, xt, x0Pred, evaluations } of steps) {
    states.push({ t, xt: [...xt], x0Pred: [...x0Pred], evaluations });
  }
  return { states, unused: noise.length };
}

const order = JSON.parse(readFileSync(0, "utf8"));
let result;
if (order.alphaBarOf) result = [...linearAlphaBar(order.alphaBarOf)];
else if (order.gaussians) result = [...gaussians(...order.gaussians.slice(0, 2))(order.gaussians[2])];
else if (order.slerp) result = [...slerp(...order.slerp)];
else result = await walk(order);
console.log(JSON.stringify(result));
