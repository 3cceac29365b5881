// A step of the playground beside the same network in ONNX Runtime's Python package, on this machine, in one run:
//   make book && PYTHON=.venv/bin/python .venv/bin/node benchmarks/playground.mjs
// Runs are interleaved; results/playground.json gets medians, quartiles and ratios. A matrix product in both says how
// much of the difference is that of the processor's instructions which each may use.

import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { closeBrowser, open } from "../web/test/book.mjs";

const ROUNDS = 40;
const HERE = import.meta.dirname;
const PYTHON = process.env.PYTHON ?? "python3";
const NATIVE = join(HERE, "playground_native.py");
const FLOP_OF_PRODUCT = 2 * 512 ** 3;

/** A function that asks the Python process for one run and gives its milliseconds. */
function native(model) {
  const child = spawn(PYTHON, [NATIVE, model], { stdio: ["pipe", "pipe", "inherit"] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const ask = async (what) => {
    child.stdin.write(`${what}\n`);
    return Number((await lines.next()).value);
  };
  return { ask, end: () => child.stdin.end() };
}

/** Load the playground's network and a matrix product into the page, and leave functions that time one run of each. */
async function prepare(page, product) {
  await page.evaluate(async (bytes) => {
    const here = new URL("./_static/playground/", location.href).href;
    const { loadNetwork } = await import(`${here}network.js`);
    const network = await loadNetwork("wasm");
    const xt = Float32Array.from({ length: 784 }, (_, k) => Math.sin(k));
    window.timeNetwork = async () => {
      await network.model(xt, 500);
      return network.times.pop();
    };
    const ort = await import(`${here}ort.wasm.bundle.min.mjs`);
    ort.env.wasm.numThreads = 1;
    const packed = await fetch(`${here}ort-wasm-simd-threaded.wasm.gz`);
    ort.env.wasm.wasmBinary = await new Response(packed.body.pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
    const session = await ort.InferenceSession.create(Uint8Array.from(bytes));
    const square = () => new ort.Tensor("float32", new Float32Array(512 * 512).fill(1), [512, 512]);
    const feeds = { A: square(), B: square() };
    window.timeProduct = async () => {
      const began = performance.now();
      await session.run(feeds);
      return performance.now() - began;
    };
  }, [...product]);
}

function summary(values) {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (share) => Number(sorted[Math.floor(share * (sorted.length - 1))].toFixed(3));
  return { median: at(0.5), quartiles: [at(0.25), at(0.75)] };
}

const folder = mkdtempSync(join(tmpdir(), "playground-"));
const [network, product] = [join(folder, "network.onnx"), join(folder, "product.onnx")];
execFileSync(PYTHON, ["-m", "ddim_lib", "export-onnx", "mnist", "--out", network], { stdio: "inherit" });
execFileSync(PYTHON, [NATIVE, "--write-product", product]);

const python = native(network);
const { page } = await open("playground.html");
await prepare(page, readFileSync(product));
const runs = {
  browser: () => page.evaluate(() => window.timeNetwork()),
  native_one_thread: () => python.ask("network 1"),
  native_default_threads: () => python.ask("network 0"),
  browser_product: () => page.evaluate(() => window.timeProduct()),
  native_product: () => python.ask("product"),
};
const times = Object.fromEntries(Object.keys(runs).map((name) => [name, []]));
for (let round = -3; round < ROUNDS; round++) {
  for (const [name, run] of Object.entries(runs)) {
    const ms = await run();
    if (round >= 0) times[name].push(ms); // the first rounds warm up
  }
}
const version = await page.evaluate(() => navigator.userAgent.match(/Chrome\/[\d.]+/)[0]);
python.end();
await closeBrowser();

const ms = Object.fromEntries(Object.entries(times).map(([name, values]) => [name, summary(values)]));
const ratio = (a, b) => Number((ms[a].median / ms[b].median).toFixed(2));
const gflops = (name) => Number((FLOP_OF_PRODUCT / ms[name].median / 1e6).toFixed(1));
const result = {
  what: "milliseconds of one evaluation of the MNIST network for one image, and of a 512 x 512 matrix product",
  command: "PYTHON=.venv/bin/python .venv/bin/node benchmarks/playground.mjs",
  rounds: ROUNDS,
  hardware: `${cpus()[0].model}, ${cpus().length} cores`,
  browser: version,
  ms,
  ratios: {
    browser_to_native_one_thread: ratio("browser", "native_one_thread"),
    browser_to_native_default_threads: ratio("browser", "native_default_threads"),
    product_browser_to_native: ratio("browser_product", "native_product"),
  },
  product_gflops: { browser: gflops("browser_product"), native: gflops("native_product") },
};
writeFileSync(join(HERE, "../results/playground.json"), `${JSON.stringify(result, null, 1)}\n`);
console.log(JSON.stringify(result.ratios), JSON.stringify(result.product_gflops));
