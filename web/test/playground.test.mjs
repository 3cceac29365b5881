// The playground: what it says before the click, its samples beside ddim_lib's, its controls by keyboard, and what it
// says where it cannot run.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import { closeBrowser, expectNone, open, ROOT } from "./book.mjs";

const PYTHON = process.env.PYTHON ?? "python3";
const FOLDER = join(ROOT, "_static/playground");
const info = JSON.parse(readFileSync(join(FOLDER, "mnist.json"), "utf8"));

after(closeBrowser);

const status = (page) => page.locator(".playground-status");
const saysDone = (page, text) => status(page).filter({ hasText: text }).waitFor({ timeout: 60_000 });

/** Open the page and load the network by the keyboard alone. */
async function loaded(options) {
  const visit = await open("playground.html", options);
  await visit.page.locator(".playground-load").focus();
  await visit.page.keyboard.press("Enter");
  await saysDone(visit.page, "The network is loaded");
  return visit;
}

test("says how much it downloads, and downloads nothing before the click", async () => {
  const fetched = [];
  const prepare = (page) => page.on("request", (request) => fetched.push(request.url()));
  await using visit = await open("playground.html", { prepare });
  const { page, problems } = visit;
  const bytes = JSON.parse(await page.locator(".playground").getAttribute("data-bytes"));
  assert.ok(bytes.wasm < 8e6, `${bytes.wasm} bytes are more than 8 MB`);
  const said = `${(bytes.wasm / 1e6).toFixed(1)} MB`;
  assert.match(await page.locator(".playground-message").textContent(), new RegExp(`It downloads ${said}`));
  assert.equal(await page.locator(".playground-load").textContent(), `Load the network (${said})`);
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

test("samples digits, by keyboard alone and without network once it is loaded", { timeout: 300_000 }, async () => {
  await using visit = await loaded({ width: 390 });
  const { page, problems } = visit;
  await page.context().setOffline(true);
  await page.keyboard.press("Enter"); // the focus is on Start
  await saysDone(page, "Done: 4 images, S = 20, η = 0, seed 1.");
  assert.match(
    await page.locator(".playground-numbers").textContent(),
    /^t = 0; 20 of 20 network evaluations, [\d.]+ ms a step; 1,000 steps would take [\d.]+ (s|min)$/,
  );
  const ink = await page.evaluate(() => {
    const canvas = document.querySelector("[data-shows=x0Pred]");
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    const greys = data.filter((_, k) => k % 4 === 0);
    const share = (test) => greys.filter(test).length / greys.length;
    return { black: share((grey) => grey < 16), white: share((grey) => grey > 239) };
  });
  assert.ok(ink.black > 0.6 && ink.white > 0.03 && ink.white < 0.25, `not like digits: ${JSON.stringify(ink)}`);

  await page.locator("[name=S]").focus();
  await page.keyboard.press("Home");
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("ArrowRight");
  assert.equal(await page.locator("label:has([name=S]) output").textContent(), "3");
  for (const [t, evaluations] of [[1000, 1], [666, 2], [333, 3], [0, 3]]) {
    await page.locator("[name=step]").press("Enter");
    await page.locator(".playground-numbers").filter({ hasText: `t = ${t}; ${evaluations} of 3` }).waitFor();
  }
  await page.locator("[name=keep]").press("Enter");
  assert.match(await page.locator(".playground-kept li").first().textContent(), /^4 images, S = 3, η = 0, seed 1$/);
  await page.locator("[name=solver]").selectOption("exponential");
  assert.ok(await page.locator("[name=eta]").isDisabled());
  expectNone(problems, "errors and requests");
});

test("pauses and goes on; the weight mixes two seeds", { timeout: 300_000 }, async () => {
  await using visit = await loaded();
  const { page, problems } = visit;
  const picture = () => page.locator("[data-shows=x0Pred]").evaluate((canvas) => canvas.toDataURL());
  await page.locator("[name=S]").fill("60");
  await page.locator("[name=images]").fill("1");
  await page.locator("[name=start]").click();
  await page.locator(".playground-numbers").filter({ hasText: "evaluations" }).waitFor();
  await page.locator("[name=pause]").click();
  assert.equal(await page.locator("[name=pause]").textContent(), "Go on");
  await page.waitForTimeout(300); // an evaluation may have been under way
  const before = await picture();
  await page.waitForTimeout(500);
  assert.equal(await picture(), before);
  await page.locator("[name=pause]").click();
  await saysDone(page, "Done: 1 image, S = 60");
  const one = await picture();
  assert.notEqual(one, before);
  await page.locator("[name=S]").fill("5");
  await page.locator("[name=weight]").fill("1");
  await saysDone(page, "Done: 1 image, S = 5, η = 0, seeds 1 and 2 at 1.");
  const mixed = await picture();
  await page.locator("[name=weight]").fill("0");
  await page.locator("[name=seed]").fill("2");
  await page.locator("[name=start]").click();
  await saysDone(page, "Done: 1 image, S = 5, η = 0, seed 2.");
  assert.equal(await picture(), mixed);
  expectNone(problems, "errors and requests");
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
