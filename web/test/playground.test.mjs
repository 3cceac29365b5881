// The playground: what it says before the click, its samples beside ddim_lib's, its controls by keyboard, and what it
// says where it cannot run.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import { closeBrowser, expectNone, open, ROOT } from "./book.mjs";
import { saysDone } from "./playground.mjs";

const PYTHON = process.env.PYTHON ?? "python3";
const FOLDER = join(ROOT, "_static/playground");
const info = JSON.parse(readFileSync(join(FOLDER, "mnist.json"), "utf8"));

after(closeBrowser);

test("says how much it downloads, and downloads nothing before the click", async () => {
  const fetched = [];
  const prepare = (page) => page.on("request", (request) => fetched.push(request.url()));
  await using visit = await open("playground.html", { prepare });
  const { page, problems } = visit;
  const bytes = JSON.parse(await page.locator(".playground").getAttribute("data-bytes"));
  assert.ok(bytes.wasm < 8e6, `${bytes.wasm} bytes are more than 8 MB`);
  const said = `${(bytes.wasm / 1e6).toFixed(1)} MB`;
  await page.getByRole("button", { name: `Load the network (${said})` }).waitFor();
  assert.match(await page.locator(".playground-message").textContent(), new RegExp(`It downloads ${said}`));
  assert.deepEqual(fetched.filter((url) => /onnx|wasm|mnist\./.test(url)), []);
  expectNone(problems, "errors and requests");
});

test("the same noise gives the samples of ddim_lib", { timeout: 300_000 }, async () => {
  const reference = execFileSync(PYTHON, [join(import.meta.dirname, "reference.py"), String(info.bits)], { maxBuffer: 1e9 });
  await using visit = await open("playground.html");
  for (const { S, eta, solver, xT, noise, x0 } of JSON.parse(reference)) {
    const found = await visit.page.evaluate(
      async ({ S, eta, solver, xT, noise }) => {
        const here = "./_static/playground/";
        const { ddimSample, exponentialSample, linearAlphaBar, makeTau } = await import(`${here}sampler.js`);
        const { loadNetwork } = await import(`${here}network.js`);
        const { model, info } = (window.network ??= await loadNetwork("wasm"));
        const [alphaBar, tau, start] = [linearAlphaBar(info.T), makeTau(info.T, S), Float32Array.from(xT)];
        const walk =
          solver === "exponential"
            ? exponentialSample(model, alphaBar, start, tau)
            : ddimSample(model, alphaBar, start, tau, eta, () => Float32Array.from(noise.shift()));
        let last;
        for await (last of walk);
        return [...last.xt];
      },
      { S, eta, solver, xT, noise },
    );
    const differences = found.map((value, k) => Math.abs(value - x0[k]));
    const largest = differences.reduce((a, b) => Math.max(a, b));
    assert.equal(found.length, x0.length);
    assert.ok(largest < 1e-3, `${solver}, S = ${S}, eta = ${eta}: x_0 differs by ${largest}`);
  }
});

for (const [what, options, said] of [
  ["from the disk", { file: true }, /opened from disk/],
  ["without WebAssembly", { prepare: (page) => page.addInitScript(() => delete globalThis.WebAssembly) }, /WebAssembly switched off/],
  ["without JavaScript", { context: { javaScriptEnabled: false } }, /needs JavaScript/],
]) {
  test(`${what} it says what is missing, and shows precomputed pictures`, async () => {
    await using visit = await open("playground.html", options);
    const { page, problems } = visit;
    assert.match(await page.locator(".playground-message").textContent(), said);
    assert.equal(await page.locator(".playground-load").isVisible(), false);
    assert.ok(await page.locator(".explorer, .explorer-static").filter({ visible: true }).count(), "no pictures");
    const faults = problems.filter((problem) => !problem.endsWith("(csp)")); // scripts that are switched off
    expectNone(faults, "errors and requests");
  });
}

test("a network that cannot be fetched is told, and can be tried again", async () => {
  const prepare = (page) => page.route("**/mnist.onnx.gz", (route) => route.fulfill({ status: 404, body: "" }));
  await using visit = await open("playground.html", { prepare });
  const { page } = visit;
  await page.locator(".playground-load").click();
  await page.locator(".playground-message").filter({ hasText: "could not be loaded" }).waitFor();
  assert.match(await page.locator(".playground-message").textContent(), /mnist\.onnx\.gz.*404/);
  await page.unroute("**/mnist.onnx.gz");
  await page.locator(".playground-load").click();
  await saysDone(page, "The network is loaded");
});

test("a failure of the network is told, and ends the walk", async () => {
  const breaks = `let calls = 0;
    onmessage = async ({ data }) => {
      if (data.load) return postMessage({ ready: true });
      if (calls++ > 0) return postMessage({ error: "out of memory" });
      const { eps } = await (await fetch("mnist.json")).json();
      postMessage({ eps: Float32Array.from(eps), ms: 1 });
    };`;
  const prepare = (page) =>
    page.route("**/worker.js", (route) => route.fulfill({ contentType: "text/javascript", body: breaks }));
  await using visit = await open("playground.html", { prepare });
  const { page, problems } = visit;
  await page.locator(".playground-load").click();
  await saysDone(page, "Sampling stopped: out of memory.");
  assert.ok(await page.locator("[name=pause]").isDisabled());
  await page.locator("[name=start]").click();
  await saysDone(page, "Sampling stopped: out of memory.");
  expectNone(problems, "errors");
});

test("the sampler's comments have the book's equation numbers", () => {
  const ledger = readFileSync(join(ROOT, "ledger.html"), "utf8");
  const script = readFileSync(join(FOLDER, "sampler.js"), "utf8");
  const named = [...script.matchAll(/\b((?:eq|def)-[a-z0-9-]+) \(([\d.]+)\)/g)];
  assert.ok(named.length >= 8);
  for (const [, label, number] of named) {
    const link = new RegExp(`href="[^"]*#equation-${label}"[^>]*>\\(${number.replace(".", "\\.")}\\)<`);
    assert.match(ledger, link, `${label} is not equation (${number})`);
  }
});
