// The playground's controls: they start a walk of the sampler, and show each of its states.

import { drawBatch as drawNoise, gaussians } from "./noise.js";
import { loadNetwork } from "./network.js";
import { drawBatch, keepRow } from "./pictures.js";
import { ddimSample, exponentialSample, linearAlphaBar, makeTau, slerp } from "./sampler.js";

const COMPARED = [5, 10, 20, 50, 100]; // numbers of steps

/** Load the network and bring the controls in `root` to life. */
export async function start(root, provider, onProgress) {
  const network = await loadNetwork(provider, onProgress);
  for (const part of ["controls", "pictures", "numbers"]) root.querySelector(`.playground-${part}`).hidden = false;
  new Playground(root, network);
  say(root, `The network is loaded; its result differs from PyTorch’s by at most ${network.error.toExponential(0)}.`);
  root.querySelector("[name=start]").focus();
}

const say = (root, text) => (root.querySelector(".playground-status").textContent = text);

class Playground {
  constructor(root, network) {
    this.root = root;
    this.network = network;
    this.alphaBar = linearAlphaBar(network.info.T);
    this.form = root.querySelector("form");
    this.walk = null; // the walk under way, an async generator
    this.busy = Promise.resolve(); // settles when no evaluation is under way
    this.paused = false;
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.restart();
    });
    this.form.addEventListener("input", (event) => this.changed(event.target));
    for (const name of ["pause", "step", "keep", "compare"]) {
      this.form.elements[name].addEventListener("click", () => this[name]());
    }
    this.showValues();
  }

  /** What the controls say. */
  settings() {
    const value = (name) => Number(this.form.elements[name].value);
    const solver = this.form.elements.solver.value;
    const eta = solver === "ddim" ? value("eta") : 0;
    const [S, images, seed, seed2, weight] = ["S", "images", "seed", "seed2", "weight"].map(value);
    return { S, eta, images, seed, seed2, weight, solver };
  }

  /** The walk that the settings describe. Each image has its streams, so that it does not depend on the others. */
  begin({ S, eta, images, seed, seed2, weight, solver }) {
    const [rows, columns] = this.network.info.shape.slice(1);
    const streams = Array.from({ length: images }, (_, i) => gaussians(seed, i));
    const others = Array.from({ length: images }, (_, i) => gaussians(seed2, i));
    const size = rows * columns;
    const xT = new Float32Array(images * size);
    streams.forEach((draw, i) => xT.set(slerp(draw(size), others[i](size), weight), i * size));
    const tau = makeTau(this.network.info.T, S);
    this.network.times.length = 0;
    if (solver === "exponential") return exponentialSample(this.network.model, this.alphaBar, xT, tau);
    return ddimSample(this.network.model, this.alphaBar, xT, tau, eta, () => drawNoise(streams, size));
  }

  /** End the walk under way, if any, and start another from x_T. */
  async restart({ paused = false } = {}) {
    this.walk = null;
    await this.busy;
    this.described = this.settings();
    const walk = (this.walk = this.begin(this.described));
    this.setPaused(paused);
    say(this.root, `Sampling: ${describe(this.described)}.`);
    if (!paused) await this.go(walk);
  }

  /** Show states until the walk ends, is paused, or gives way to another. */
  async go(walk) {
    while (this.walk === walk && !this.paused && (await this.advance(walk)));
  }

  /** Show the next state; false at the end. One evaluation at a time, whoever asks. */
  advance(walk) {
    const next = this.busy.then(async () => {
      if (this.walk !== walk) return false;
      const { value } = await walk.next();
      if (this.walk !== walk) return false;
      this.show(value);
      await new Promise(requestAnimationFrame);
      return value.t > 0;
    });
    this.busy = next.catch((error) => say(this.root, `Sampling stopped: ${error.message}.`));
    return next;
  }

  show(state) {
    this.state = state;
    const side = this.network.info.shape[1];
    for (const canvas of this.root.querySelectorAll("[data-shows]")) {
      drawBatch(canvas, state[canvas.dataset.shows], side);
      canvas.setAttribute("aria-label", `${canvas.dataset.shows === "xt" ? "x_t" : "predicted x_0"} at t = ${state.t}`);
    }
    const ms = median(this.network.times);
    this.root.querySelector(".playground-numbers").textContent =
      `t = ${state.t}; ${state.evaluations} of ${this.described.S} network evaluations, ${ms.toFixed(ms < 10 ? 1 : 0)} ms a `
      + `step; 1,000 steps would take ${seconds(1000 * ms)}`;
    this.form.elements.keep.disabled = false;
    if (state.t > 0) return;
    this.walk = null;
    this.setPaused(false);
    say(this.root, `Done: ${describe(this.described)}.`);
  }

  setPaused(paused) {
    this.paused = paused;
    this.form.elements.pause.disabled = !this.walk;
    this.form.elements.pause.textContent = paused ? "Go on" : "Pause";
  }

  pause() {
    this.setPaused(!this.paused);
    if (!this.paused) this.go(this.walk);
  }

  /** One more evaluation, from x_T if no walk is under way. */
  async step() {
    if (!this.walk) await this.restart({ paused: true });
    this.setPaused(true);
    await this.advance(this.walk);
  }

  keep() {
    const when = this.state.t > 0 ? `, predicted at t = ${this.state.t}` : "";
    const list = this.root.querySelector(".playground-kept");
    keepRow(list, this.state.x0Pred, this.network.info.shape[1], describe(this.described) + when);
  }

  /** The same noise with several numbers of steps: with eta = 0 the images stay the same. */
  async compare() {
    for (const S of COMPARED) {
      this.form.elements.S.value = S;
      this.showValues();
      await this.restart();
      if (this.state?.t !== 0 || this.described.S !== S) return; // the reader did something else
      this.keep();
    }
  }

  changed(control) {
    this.showValues();
    if (this.form.checkValidity() && (this.walk || control.name === "weight")) this.restart();
  }

  showValues() {
    for (const input of this.form.querySelectorAll("[type=range]")) {
      input.parentElement.querySelector("output").textContent = input.value;
    }
    this.form.elements.eta.disabled = this.form.elements.solver.value !== "ddim";
  }
}

function describe({ S, eta, images, seed, seed2, weight, solver }) {
  const noise = weight > 0 ? `seeds ${seed} and ${seed2} at ${weight}` : `seed ${seed}`;
  const method = solver === "ddim" ? `η = ${eta}` : "second order";
  return `${images} ${images === 1 ? "image" : "images"}, S = ${S}, ${method}, ${noise}`;
}

const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0;

const seconds = (ms) => (ms < 60_000 ? `${(ms / 1000).toFixed(0)} s` : `${(ms / 60_000).toFixed(1)} min`);
