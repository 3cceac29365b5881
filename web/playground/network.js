// The trained network as the sampler's `model(xt, t)`: a worker evaluates it with ONNX Runtime.

const here = (name) => new URL(name, import.meta.url).href;
const RUNTIMES = {
  wasm: { runtime: "ort.wasm.bundle.min.mjs", wasm: "ort-wasm-simd-threaded.wasm.gz" },
  webgpu: { runtime: "ort.webgpu.bundle.min.mjs", wasm: "ort-wasm-simd-threaded.asyncify.wasm.gz" },
};
const TOLERANCE = 1e-3; // of a noise estimate, about 1 in size; graphics processors round more than PyTorch on a CPU

/** Whether the browser offers a graphics processor to pages; software that pretends to be one does not count. */
export async function hasWebGPU() {
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  return Boolean(adapter) && !(adapter.info?.isFallbackAdapter ?? adapter.isFallbackAdapter);
}

/**
 * Load the network for a provider, "wasm" or "webgpu", and compare one evaluation with PyTorch's, which its JSON file holds.
 *
 * `onProgress(bytes)` is called as bytes come in. Returns { model, info, error, times }: `model(xt, t)`, one call at a
 * time; the JSON file; the largest difference from PyTorch; and the milliseconds of each evaluation so far.
 */
export async function loadNetwork(provider, onProgress = () => {}) {
  const info = await (await fetch(here("mnist.json"))).json();
  const worker = new Worker(here("worker.js"), { type: "module" });
  const times = [];
  const ask = (message) =>
    new Promise((resolve, reject) => {
      worker.onmessage = ({ data }) => {
        if (data.loaded) onProgress(data.loaded);
        else if (data.error) reject(new Error(data.error));
        else resolve(data);
      };
      worker.onerror = (event) => reject(new Error(event.message || "the worker cannot start"));
      worker.postMessage(message);
    });
  const model = async (xt, t) => {
    const { eps, ms } = await ask({ xt, t, shape: info.shape });
    times.push(ms);
    return eps;
  };
  try {
    const files = RUNTIMES[provider];
    await ask({ load: { runtime: here(files.runtime), wasm: here(files.wasm), model: here("mnist.onnx.gz"), provider } });
    const found = await model(Float32Array.from(info.eps, (_, k) => Math.sin(k)), info.T / 2);
    const error = found.reduce((largest, eps, k) => Math.max(largest, Math.abs(eps - info.eps[k])), 0);
    if (!(error < TOLERANCE)) throw new Error(`its result differs from PyTorch's by ${error}, more than ${TOLERANCE}`);
    times.length = 0;
    return { model, info, error, times };
  } catch (error) {
    worker.terminate();
    throw error;
  }
}
