// The network, in a thread of its own so that the page stays responsive. Messages in:
//   { load: { runtime, wasm, model, provider } }   addresses, and "wasm" or "webgpu"
//   { xt, t, shape }                               one evaluation of a batch at time t
// Messages out: { loaded: bytes }, { ready: true }, { eps, ms }, { error }.

let ort;
let session;

/** Fetch a file, unpack it if it is packed (the server may have done so), and report the bytes as they come. */
async function fetchFile(address) {
  const response = await fetch(address);
  if (!response.ok) throw new Error(`${address} cannot be fetched: ${response.status} ${response.statusText}`);
  const counter = new TransformStream({
    transform(chunk, controller) {
      postMessage({ loaded: chunk.byteLength });
      controller.enqueue(chunk);
    },
  });
  const data = await new Response(response.body.pipeThrough(counter)).arrayBuffer();
  const [first, second] = new Uint8Array(data);
  if (first !== 0x1f || second !== 0x8b) return data;
  return new Response(new Blob([data]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

async function load({ runtime, wasm, model, provider }) {
  ort = await import(runtime);
  ort.env.wasm.numThreads = 1; // more would need headers that a plain static host does not send
  ort.env.logLevel = "error";
  const [binary, bytes] = await Promise.all([fetchFile(wasm), fetchFile(model)]);
  ort.env.wasm.wasmBinary = binary;
  session = await ort.InferenceSession.create(new Uint8Array(bytes), { executionProviders: [provider] });
  postMessage({ ready: true });
}

async function evaluate({ xt, t, shape }) {
  const began = performance.now();
  const batch = xt.length / (shape[0] * shape[1] * shape[2]);
  const { eps } = await session.run({
    xt: new ort.Tensor("float32", xt, [batch, ...shape]),
    t: new ort.Tensor("int64", new BigInt64Array(batch).fill(BigInt(t)), [batch]),
  });
  const data = new Float32Array(await eps.getData());
  eps.dispose();
  postMessage({ eps: data, ms: performance.now() - began }, [data.buffer]);
}

onmessage = ({ data }) => {
  (data.load ? load(data.load) : evaluate(data)).catch((error) => postMessage({ error: error.message }));
};
