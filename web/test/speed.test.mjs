// How fast pages are and how much they transfer before the reader clicks anything: the best of three visits.

import assert from "node:assert/strict";
import { after, describe, it } from "node:test";
import { closeBrowser, open } from "./book.mjs";

const PAGES = [
  "index.html",
  "chapters/04_undetermined_coefficients.html",
  "chapters/10_steps_and_quality.html",
];
const LARGEST_PAINT = 1500; // ms
const TRANSFER = 1_500_000; // bytes

after(closeBrowser);

/** Remember the time of the largest contentful paint: runs in the browser before the page does. */
function observe() {
  window.largestPaint = NaN;
  const note = (list) => (window.largestPaint = list.getEntries().at(-1).startTime);
  new PerformanceObserver(note).observe({ type: "largest-contentful-paint", buffered: true });
}

/** Open a page with an empty cache: { paint, in ms; bytes, with headers, as they went over the wire }. */
async function visit(path, compress) {
  let bytes = 0;
  const prepare = async (page) => {
    const session = await page.context().newCDPSession(page);
    await session.send("Network.enable");
    session.on("Network.loadingFinished", (event) => (bytes += event.encodedDataLength));
    await page.addInitScript(observe);
  };
  await using opened = await open(path, { compress, prepare });
  await opened.page.waitForLoadState("networkidle");
  return { paint: await opened.page.evaluate(() => window.largestPaint), bytes };
}

// Most hosts compress; `python -m http.server` does not.
for (const compress of [true, false]) {
  describe(`speed, ${compress ? "compressed" : "not compressed"}`, () => {
    for (const path of PAGES) {
      it(path, async (test) => {
        const visits = [];
        for (let i = 0; i < 3; i++) visits.push(await visit(path, compress));
        const paint = Math.min(...visits.map((one) => one.paint));
        const bytes = Math.min(...visits.map((one) => one.bytes));
        test.diagnostic(`${path}: largest contentful paint ${paint.toFixed(0)} ms, ${(bytes / 1e6).toFixed(2)} MB`);
        assert.ok(paint < LARGEST_PAINT, `${path}: largest contentful paint after ${paint} ms, over ${LARGEST_PAINT}`);
        assert.ok(bytes < TRANSFER, `${path}: transfers ${bytes} bytes before any click, over ${TRANSFER}`);
      });
    }
  });
}
