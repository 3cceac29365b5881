// Print a page as PDF: node pdf.mjs PAGE.html OUT.pdf
//
// What is too wide for the paper is made smaller; the contents get the numbers of their pages, which are known when the
// book was printed once. Exit status 1: something still sticks out of the page. 2: Chromium is missing.

import { writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";
import { CHROMIUM, HOW_TO_INSTALL } from "./test/chromium.mjs";

const WIDTH = 643; // px of the text: A4 less the margins in print.css, 170 mm
// Chromium writes the outline of tagged files only.
const PAPER = { preferCSSPageSize: true, printBackground: true, outline: true, tagged: true };

/** In the browser: make wide formulas and tables as small as they must be, and list what is too wide all the same. */
function fit(width) {
  const shrink = (element, available, needed) => {
    const size = parseFloat(getComputedStyle(element).fontSize);
    if (needed > available) element.style.fontSize = `${(0.99 * size * available) / needed}px`;
  };
  for (const block of document.querySelectorAll("div.math")) {
    const number = block.querySelector(".eqno")?.getBoundingClientRect().width ?? 0;
    const formula = block.querySelector("mjx-container");
    shrink(formula, block.clientWidth - number - 8, formula.querySelector("mjx-math").getBoundingClientRect().width);
  }
  for (const table of document.querySelectorAll("table")) {
    shrink(table, table.parentElement.clientWidth, table.getBoundingClientRect().width);
  }
  const shown = [...document.body.querySelectorAll("*")].filter((e) => !e.closest("mjx-assistive-mml, svg"));
  const wide = shown.filter((e) => e.getBoundingClientRect().right > width + 1);
  return wide.map((e) => `${e.localName}.${e.className}: ${e.textContent.trim().slice(0, 60)}`);
}

/** Name of each destination in a PDF that Chromium wrote -> the number of its page. */
function pageNumbers(pdf) {
  const text = pdf.toString("latin1");
  const written = text.matchAll(/^(\d+) 0 obj\n(<<[^]*?)\nendobj$/gm);
  const objects = new Map([...written].map(([, id, object]) => [id, object]));
  const leaves = (id) => {
    const kids = objects.get(id).match(/\/Kids \[([^\]]*)\]/);
    return kids ? [...kids[1].matchAll(/(\d+) 0 R/g)].flatMap((kid) => leaves(kid[1])) : [id];
  };
  const catalog = text.match(/\/Type \/Catalog[^]*?\nendobj/)[0];
  const pages = leaves(catalog.match(/\/Pages (\d+) 0 R/)[1]);
  const places = objects.get(catalog.match(/\/Dests (\d+) 0 R/)[1]);
  const names = [...places.matchAll(/\/(\S+) \[(\d+) 0 R/g)].map(([, name, page]) => [name, pages.indexOf(page) + 1]);
  return { count: pages.length, numbers: Object.fromEntries(names) };
}

/** In the browser: write the numbers into the contents, and list the lines that have none. */
function number(numbers) {
  const links = [...document.querySelectorAll(".book-contents > a")];
  for (const link of links) link.querySelector(".number").textContent = numbers[link.hash.slice(1)] ?? "";
  return links.filter((link) => !link.querySelector(".number").textContent).map((link) => link.hash);
}

function stopIf(faults, what) {
  if (faults.length > 0) throw new Error([`${what}:`, ...faults.slice(0, 20)].join("\n  "));
}

async function print(browser, source, out) {
  const page = await browser.newPage({ viewport: { width: WIDTH, height: 900 }, colorScheme: "light" });
  await page.emulateMedia({ media: "print" });
  await page.goto(pathToFileURL(resolve(source)).href, { waitUntil: "load" });
  await page.evaluate(() => document.fonts.ready.then(() => undefined));
  stopIf(await page.evaluate(fit, WIDTH), "too wide for the paper");
  const first = pageNumbers(await page.pdf({ ...PAPER, outline: false, tagged: false }));
  stopIf(await page.evaluate(number, first.numbers), "lines of the contents whose page is not known");
  const pdf = await page.pdf(PAPER);
  writeFileSync(out, pdf);
  return `${out}: ${first.count} pages, ${(pdf.length / 1e6).toFixed(1)} MB`;
}

if (!CHROMIUM) {
  console.error(HOW_TO_INSTALL);
  process.exit(2);
}
const [source, out] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox", "--disable-gpu"] });
try {
  console.log(await print(browser, source, out));
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
} finally {
  await browser.close();
}
