// Every page, over http and from the disk: formulas, errors, other hosts, sideways scrolling, accessibility.

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { violations } from "./axe.mjs";
import { closeBrowser, expectNone, open, pages, ROOT } from "./book.mjs";

after(closeBrowser);

/** Whether a page's source, as Sphinx keeps it, has formulas. */
function sourceHasFormulas(path) {
  const source = ["md", "ipynb"].map((kind) => join(ROOT, "_sources", path.replace(/html$/, kind))).find(existsSync);
  if (!source) return false;
  const text = readFileSync(source, "utf8");
  const cells = source.endsWith("md") ? [text] : JSON.parse(text).cells.filter((cell) => cell.cell_type === "markdown");
  const prose = cells.map((cell) => [cell.source ?? cell].flat().join("")).join("\n");
  return /\$[^$\s][^$]*\$/.test(prose.replace(/```[^{][^]*?```|`[^`]*`/g, ""));
}

/** What is wrong with the formulas of the page that is open: runs in the browser. */
function formulaFaults() {
  const faults = [];
  for (const math of document.querySelectorAll(".math")) {
    const what = math.textContent.trim().slice(0, 80);
    if (!math.querySelector("mjx-container")) faults.push(`not typeset: ${what}`);
    else if (!math.querySelector("mjx-assistive-mml math > *")) faults.push(`no MathML: ${what}`);
  }
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const { data, parentElement } = texts.currentNode;
    if (parentElement.closest("pre, code, script, style, mjx-container")) continue;
    if (/\\\(|\\\[|\$\$/.test(data)) faults.push(`raw TeX: ${data.trim().slice(0, 80)}`);
  }
  const fonts = [...document.fonts];
  for (const font of fonts.filter((font) => font.status === "error")) faults.push(`font not loaded: ${font.family}`);
  const drawn = fonts.some((font) => font.family.includes("MJX") && font.status === "loaded");
  const formulas = document.querySelectorAll("mjx-container").length;
  if (formulas > 0 && !drawn) faults.push("none of MathJax's fonts is loaded");
  return { formulas, faults };
}

/** Change the window, and wait for the theme: it makes what scrolls now reachable, a third of a second later. */
async function resize(page, width) {
  await page.setViewportSize({ width, height: 900 });
  const reachable = () =>
    [...document.querySelectorAll("pre")].every((code) => code.scrollWidth <= code.clientWidth || code.tabIndex === 0);
  await page.waitForFunction(reachable, null, { timeout: 5000 }).catch(() => {}); // axe will say which is not
}

/** What sticks out of the window; empty where nothing scrolls sideways. */
function tooWide(page) {
  return page.evaluate(() => {
    const { scrollWidth, clientWidth } = document.documentElement;
    if (scrollWidth <= clientWidth) return [];
    const scrolls = "pre, mjx-container, .pst-scrollable-table-container"; // by themselves
    const wide = [...document.querySelectorAll("main *")].filter(
      (e) => e.getBoundingClientRect().right > clientWidth && !e.closest(scrolls),
    );
    const names = wide.slice(0, 5).map((e) => `${e.localName}.${e.className}: ${e.textContent.trim().slice(0, 40)}`);
    return [`${scrollWidth} px wide in ${clientWidth} px`, ...names];
  });
}

async function check(path, file) {
  await using visit = await open(path, { file });
  const { page, problems } = visit;
  const { formulas, faults } = await page.evaluate(formulaFaults);
  expectNone(faults, `${path}: formulas`);
  assert.ok(formulas > 0 || !sourceHasFormulas(path), `${path}: its source has formulas, the page has none`);
  for (const [width, scheme] of [[1280, "light"], [390, "dark"]]) {
    await resize(page, width);
    expectNone(await tooWide(page), `${path}: scrolls sideways at ${width} px`);
    if (file) continue;
    await page.emulateMedia({ colorScheme: scheme });
    await page.waitForFunction((name) => document.documentElement.dataset.theme === name, scheme);
    expectNone(await violations(page), `${path}: accessibility, ${scheme}, ${width} px`);
  }
  expectNone(problems, `${path}: errors and requests`);
}

for (const file of [false, true]) {
  describe(file ? "from the disk" : "over http", { concurrency: 2 }, () => {
    // The 404 page is for hosts: see PREFIX.
    for (const path of pages()) if (!file || path !== "404.html") it(path, () => check(path, file));
  });
}
