// The playground's controls: they start a walk of the sampler, and show each of its states.

import { drawBatch as drawNoise, gaussians } from "./noise.js";
import { loadNetwork } from "./network.js";
import { drawBatch, keepImages } from "./pictures.js";
import { ddimSample, exponentialSample, linearAlphaBar, makeTau, slerp } from "./sampler.js";

const COMPARED = [5, 10, 20, 50, 100]; // numbers of steps

/** Load the network and bring the controls in `root` to life. */
export async function start(root, provider, onProgress) {
  const network = await loadNetwork(provider, onProgress);
  for (const part of ["controls", "pictures", "numbers"]) root.querySelector(`.playground-${part}`).hidden = false;
  const playground = new Playground(root, network);
  playground.say(`The network is loaded. Its result differs from PyTorch’s by less than ${roundedUp(network.error)}.`);
  await playground.step();
  root.querySelector("[name=start]").focus();
}

class Playground {
  constructor(root, network) {
    this.root = root;
    this.network = network;
    this.side = network.info.shape[1];
    this.alphaBar = linearAlphaBar(network.info.T);
    this.form = root.querySelector("form");
    this.kept = root.querySelector(".playground-kept");
    this.walk = null; // the walk under way, an async generator
    this.settle = null; // tells whoever waits for the walk whether it came to its end
    this.busy = Promise.resolve(); // settles when no evaluation is under way
    this.paused = false;
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.start();
    });
    this.form.addEventListener("input", () => this.changed());
    for (const name of ["pause", "step", "keep", "compare", "clear"]) {
      this.form.elements[name].addEventListener("click", () => this[name]());
    }
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
  walkOf({ S, eta, images, seed, seed2, weight, solver }) {
    const { network, alphaBar } = this;
    const size = this.side ** 2;
    const streams = Array.from({ length: images }, (_, i) => gaussians(seed, i));
    const others = Array.from({ length: images }, (_, i) => gaussians(seed2, i));
    const xT = new Float32Array(images * size);
    streams.forEach((draw, i) => xT.set(slerp(draw(size), others[i](size), weight), i * size));
    const tau = makeTau(network.info.T, S);
    if (solver === "exponential") return exponentialSample(network.model, alphaBar, xT, tau);
    return ddimSample(network.model, alphaBar, xT, tau, eta, () => drawNoise(streams, size));
  }

  /** End the walk under way, if any, and make another; null if a control is not valid. */
  prepare() {
    if (!this.form.reportValidity()) return null;
    this.leave(false);
    this.described = this.settings();
    this.walk = this.walkOf(this.described);
    return this.walk;
  }

  /** Sample from x_T on. The promise says whether the walk came to its end: false if another took its place. */
  start() {
    const walk = this.prepare();
    if (!walk) return Promise.resolve(false);
    this.setPaused(false);
    this.say(`Sampling: ${describe(this.described)}.`);
    return new Promise((settle) => {
      this.settle = settle;
      this.go(walk);
    });
  }

  /** Show states until the walk ends, is paused, or gives way to another. */
  async go(walk) {
    while (this.walk === walk && !this.paused) await this.advance(walk);
  }

  /** Show the next state; one evaluation at a time, whoever asks. */
  advance(walk) {
    this.busy = this.busy.then(async () => {
      if (this.walk !== walk) return;
      if (this.timed !== walk) this.network.times.length = 0;
      this.timed = walk;
      try {
        const { value } = await walk.next();
        if (this.walk === walk) this.show(value, this.described);
      } catch (error) {
        if (this.walk === walk) this.leave(false);
        this.say(`Sampling stopped: ${error.message}.`);
      }
      await new Promise(requestAnimationFrame);
    });
    return this.busy;
  }

  show(state, settings) {
    this.shown = { state, settings };
    for (const canvas of this.root.querySelectorAll("[data-shows]")) {
      drawBatch(canvas, state[canvas.dataset.shows], this.side);
      canvas.setAttribute("aria-label", `${canvas.dataset.shows === "xt" ? "x_t" : "predicted x_0"} at t = ${state.t}`);
    }
    const ms = median(this.network.times);
    this.root.querySelector(".playground-numbers").textContent =
      `t = ${state.t}; ${state.evaluations} of ${settings.S} network evaluations, ${ms.toFixed(ms < 10 ? 1 : 0)} ms a step `
      + `for ${count(settings.images)}; 1,000 steps would take ${duration(1000 * ms)}`;
    this.form.elements.keep.disabled = false;
    if (state.t > 0) return;
    this.leave(true);
    this.say(`Done: ${describe(settings)}.`);
  }

  /** There is no walk any more. */
  leave(reachedTheEnd) {
    this.walk = null;
    this.settle?.(reachedTheEnd);
    this.settle = null;
    this.setPaused(false);
  }

  setPaused(paused) {
    const { pause, start } = this.form.elements;
    this.paused = paused;
    if (!this.walk && document.activeElement === pause) start.focus(); // a disabled button would lose the focus
    pause.disabled = !this.walk;
    pause.textContent = paused ? "Go on" : "Pause";
  }

  pause() {
    this.setPaused(!this.paused);
    this.go(this.walk);
  }

  /** One more evaluation, from x_T if no walk is under way. */
  async step() {
    const walk = this.walk ?? this.prepare();
    if (!walk) return;
    this.setPaused(true);
    await this.advance(walk);
  }

  keep() {
    const { state, settings } = this.shown;
    const when = state.t > 0 ? `, predicted at t = ${state.t}` : "";
    keepImages(this.kept, state.x0Pred, this.side, describe(settings) + when);
    this.showKept();
  }

  clear() {
    this.kept.replaceChildren();
    this.showKept();
    this.form.elements.start.focus();
  }

  showKept() {
    this.kept.hidden = this.form.elements.clear.hidden = this.kept.children.length === 0;
  }

  /** Sample from the same noise with several numbers of steps, and keep the images of each. */
  async compare() {
    const set = (S) => {
      this.form.elements.S.value = S;
      this.showValues();
    };
    const before = this.form.elements.S.value;
    for (const S of COMPARED) {
      set(S);
      if (!(await this.start())) return; // the reader did something else
      this.keep();
    }
    set(before);
  }

  /** Sample anew with what the controls say; if paused, the first step of it. A slider that is dragged asks often. */
  async changed() {
    this.showValues();
    const turn = (this.turn = Symbol("turn"));
    await this.busy;
    if (this.turn !== turn || !this.form.checkValidity()) return;
    if (!this.paused) this.start();
    else if (this.prepare()) this.step();
  }

  showValues() {
    for (const input of this.form.querySelectorAll("[type=range]")) {
      input.parentElement.querySelector(".playground-value").textContent = input.value;
    }
    this.form.elements.eta.disabled = this.form.elements.solver.value !== "ddim";
  }

  say(text) {
    this.root.querySelector(".playground-status").textContent = text;
  }
}

const count = (images) => `${images} ${images === 1 ? "image" : "images"}`;

function describe({ S, eta, images, seed, seed2, weight, solver }) {
  const noise = weight > 0 ? `seeds ${seed} and ${seed2} at ${weight}` : `seed ${seed}`;
  const method = solver === "ddim" ? `η = ${eta}` : "second order";
  return `${count(images)}, S = ${S}, ${method}, ${noise}`;
}

const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1] ?? 0;

const duration = (ms) => (ms < 60_000 ? `${(ms / 1000).toFixed(0)} s` : `${(ms / 60_000).toFixed(1)} min`);

/** The next power of ten above a small number, written out. */
function roundedUp(value) {
  const digits = Math.max(0, -Math.ceil(Math.log10(Math.max(value, 1e-9))));
  return (10 ** -digits).toFixed(digits);
}
