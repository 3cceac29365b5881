// The explorer: what it shows is the cell of the sheet that the sliders name, over http and from the disk.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { closeBrowser, expectNone, open, ROOT } from "./book.mjs";

const PAGE = "chapters/10_steps_and_quality.html";
const IMAGES = join(import.meta.dirname, "../../images");
const { S, eta, seeds, cell } = JSON.parse(readFileSync(join(IMAGES, "explorer.json"), "utf8"));
const [HEIGHT, WIDTH] = cell;
let sheet;

after(closeBrowser);
before(async () => {
  await using visit = await open(PAGE);
  sheet = await pixels(visit.page, readFileSync(join(IMAGES, "explorer.png")));
});

/** The grey levels of a PNG: read in the browser, since no page may read the pixels of a picture from the disk. */
async function pixels(page, png) {
  const { width, levels } = await page.evaluate(async (source) => {
    const image = new Image();
    image.src = source;
    await image.decode();
    const context = new OffscreenCanvas(image.width, image.height).getContext("2d");
    context.drawImage(image, 0, 0);
    const { data } = context.getImageData(0, 0, image.width, image.height);
    return { width: image.width, levels: Array.from(data.filter((_, i) => i % 4 === 0)) };
  }, `data:image/png;base64,${png.toString("base64")}`);
  return (x, y) => levels[Math.floor(y) * width + Math.floor(x)];
}

/** The levels of a digit, row by row. */
function digit(at) {
  return Array.from({ length: HEIGHT * WIDTH }, (_, i) => at(i % WIDTH, Math.floor(i / WIDTH)));
}

/** The digits of some seeds as the reader sees them, made 28 x 28 again: the middle of each of their enlarged pixels. */
async function seen(page, some) {
  const boxes = await Promise.all(some.map((seed) => page.locator(".explorer canvas").nth(seed).boundingBox()));
  const row = await page.locator(".explorer-digits").boundingBox();
  const [left, top] = [Math.floor(row.x), Math.floor(row.y)];
  const clip = { x: left, y: top, width: Math.ceil(row.width) + 1, height: Math.ceil(row.height) + 1 };
  const picture = await pixels(page, await page.screenshot({ clip }));
  const place = (from, size, i, count) => from + ((i + 0.5) * size) / count;
  return boxes.map(({ x: x0, y: y0, width, height }) =>
    digit((x, y) => picture(place(x0 - left, width, x, WIDTH), place(y0 - top, height, y, HEIGHT))),
  );
}

/** The cell of the sheet. */
function expected(steps, noise, seed) {
  const row = eta.indexOf(noise) * S.length + S.indexOf(steps);
  return digit((x, y) => sheet(WIDTH * seed + x, HEIGHT * row + y));
}

/** Open the chapter at its explorer, and wait until a row of the sheet is shown. */
async function openExplorer(options) {
  const visit = await open(PAGE, options);
  await visit.page.locator(".explorer").scrollIntoViewIfNeeded();
  await visit.page.locator(".explorer output", { hasText: "evaluation" }).waitFor();
  return visit;
}

async function check(page, steps, noise) {
  const told = await page.locator(".explorer output").textContent();
  assert.equal(told, `S = ${steps}, η = ${noise}: ${steps} network evaluation${steps === 1 ? "" : "s"}`);
  (await seen(page, seeds)).forEach((levels, seed) => {
    const wrong = expected(steps, noise, seed).filter((level, i) => level !== levels[i]).length;
    assert.equal(wrong, 0, `S = ${steps}, eta = ${noise}, seed ${seed}: ${wrong} pixels differ from the sheet's`);
  });
}

for (const file of [false, true]) {
  describe(file ? "from the disk" : "over http", () => {
    it("the arrow keys lead through the sheet", async () => {
      await using visit = await openExplorer({ file });
      const { page, problems } = visit;
      const [sliderS, sliderEta] = await page.locator(".explorer input").all();
      await check(page, 20, 0);
      await sliderEta.focus();
      await page.keyboard.press("ArrowRight");
      await page.keyboard.press("ArrowRight");
      await check(page, 20, 0.4);
      await page.keyboard.press("Shift+Tab");
      assert.ok(await sliderS.evaluate((slider) => slider === document.activeElement), "Shift+Tab leads to S");
      await page.keyboard.press("ArrowRight");
      await check(page, 50, 0.4);
      await page.keyboard.press("Home");
      await check(page, 1, 0.4);
      assert.equal(await sliderS.getAttribute("aria-valuetext"), "1");
      await page.keyboard.press("End");
      await check(page, 1000, 0.4);
      expectNone(problems, "errors");
    });

    it("without scripts, parts of the sheet", async () => {
      await using visit = await open(PAGE, { file, context: { javaScriptEnabled: false } });
      const { page } = visit;
      assert.equal(await page.locator(".explorer-live").isVisible(), false);
      const first = page.locator(".explorer-static img").first();
      await first.scrollIntoViewIfNeeded();
      assert.equal(await first.isVisible(), true);
      assert.match(await page.locator(".explorer-static figcaption").textContent(), /S = 1, 2, .*, 1000; left η = 0/);
    });
  });
}

it("the sheet is not loaded by a reader who stays at the top", async () => {
  const asked = [];
  const prepare = async (page) => page.on("request", (request) => asked.push(request.url()));
  await using visit = await open(PAGE, { prepare });
  const sheets = () => asked.filter((url) => url.endsWith("explorer.png")).length;
  assert.equal(sheets(), 0);
  await visit.page.locator(".explorer").scrollIntoViewIfNeeded();
  await visit.page.locator(".explorer output", { hasText: "evaluation" }).waitFor();
  assert.equal(sheets(), 1);
});

it("a sheet that is missing is said to be", async () => {
  const prepare = (page) => page.route("**/explorer.png", (route) => route.abort());
  await using visit = await open(PAGE, { prepare });
  await visit.page.locator(".explorer").scrollIntoViewIfNeeded();
  await visit.page.locator(".explorer output", { hasText: "The sheet of samples is missing" }).waitFor();
});

it("two rows of five on a phone, one row of ten on a desk", async () => {
  for (const [width, columns] of [[390, 5], [1280, 10]]) {
    await using visit = await openExplorer({ width });
    const tops = await visit.page.locator(".explorer canvas").evaluateAll((all) => all.map((one) => one.offsetTop));
    assert.equal(tops.filter((top) => top === tops[0]).length, columns);
  }
});
