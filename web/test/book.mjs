// The built book in a browser, for the tests.
//
//   import { after, test } from "node:test";
//   import { closeBrowser, expectNone, open } from "./book.mjs";
//
//   after(closeBrowser);
//   test("the slider works", async () => {
//     await using visit = await open("chapters/10_steps_and_quality.html", { width: 390 });
//     const { page, problems } = visit;    // page: Playwright's Page, the document and its fonts loaded
//     ...
//     expectNone(problems, "errors");      // problems: what went wrong so far, lines of text
//   });
//
// open(path, options): `path` is relative to the built book and may have a query and an anchor. Options:
//   width, height   of the window in px (1280 x 900)
//   scheme          "light" or "dark": what the reader's system asks for
//   file            true: open it from the disk (file://), as from a USB stick
//   compress        false: a server that does not gzip
//   context         more options of Playwright's browser.newContext(), like { javaScriptEnabled: false }
//   prepare         async (page) => ..., called before the page is loaded
//
// `problems` grows while the page is open: errors on the console, exceptions, requests that failed, and requests to
// any other host. The browser cannot reach one: it resolves no name but 127.0.0.1.

import { readdirSync, readFileSync } from "node:fs";
import { join, relative, resolve, sep } from "node:path";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";
import { CHROMIUM, HOW_TO_INSTALL } from "./chromium.mjs";
import { serve } from "./server.mjs";

/** The folder of the built book. */
export const ROOT = resolve(process.env.BOOK ?? join(import.meta.dirname, "../../_build/html"));

const ARGS = [
  "--no-sandbox", // it needs rights that a container lacks, and the pages are our own
  "--disable-gpu",
  "--no-proxy-server",
  "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
];
const servers = new Map();
let browser;

/** All pages of the book, as paths relative to it. */
export function pages() {
  const files = readdirSync(ROOT, { recursive: true }).map((name) => name.split(sep).join("/"));
  const found = files.filter((name) => name.endsWith(".html") && !name.startsWith("_static/")).sort();
  if (found.length === 0) throw new Error(`no pages in ${ROOT}: run \`make book\``);
  return found;
}

/**
 * Where the book will lie on its host, like "/ddim/". Only the 404 page asks for its files there: it is shown at
 * addresses of any depth. The servers here have the book at this path and at "/"; a disk does not.
 */
export const PREFIX = /href="(\/[^"]*?)_static\//.exec(readFileSync(join(ROOT, "404.html"), "utf8"))[1];

/** The address of a page: of the built file, or on a server that this starts. */
export async function address(path, { file = false, compress = true } = {}) {
  if (file) return new URL(path, pathToFileURL(join(ROOT, "/"))).href;
  if (!servers.has(compress)) servers.set(compress, serve(ROOT, { compress, prefix: PREFIX }));
  return new URL(path, (await servers.get(compress)).url).href;
}

/** Collect in a list whatever goes wrong on a page. */
function watch(page, home) {
  const problems = [];
  const place = (url) => (url.startsWith(home) ? relative("/", new URL(url).pathname) : url);
  page.on("console", (message) => {
    if (message.type() === "error") problems.push(`console: ${message.text()} (${message.location().url})`);
  });
  page.on("pageerror", (error) => problems.push(`exception: ${error.stack}`));
  page.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(home) && !/^(data|blob):/.test(url)) problems.push(`request to elsewhere: ${url}`);
  });
  page.on("requestfailed", (request) => {
    problems.push(`request failed: ${place(request.url())} (${request.failure()?.errorText})`);
  });
  page.on("response", (response) => {
    if (response.status() >= 400) problems.push(`answer ${response.status()}: ${place(response.url())}`);
  });
  return problems;
}

/** Open a page in a fresh context (nothing stored, nothing cached); see the top of this file. */
export async function open(path, options = {}) {
  const { width = 1280, height = 900, scheme = "light", context = {}, prepare = async () => {} } = options;
  if (!CHROMIUM) throw new Error(HOW_TO_INSTALL);
  browser ??= chromium.launch({ executablePath: CHROMIUM, args: ARGS });
  const visit = await (await browser).newContext({ viewport: { width, height }, colorScheme: scheme, ...context });
  const page = await visit.newPage();
  const problems = watch(page, await address("", options));
  await prepare(page);
  await page.goto(await address(path, options), { waitUntil: "load" });
  await page.evaluate(() => document.fonts.ready.then(() => undefined));
  return { page, problems, [Symbol.asyncDispose]: () => visit.close() };
}

/** Fail with a list of what is wrong, unless it is empty. */
export function expectNone(faults, what) {
  if (faults.length > 0) throw new Error([`${what}:`, ...faults].join("\n  - "));
}

/** End the browser and the servers: call it in `after` of each test file. */
export async function closeBrowser() {
  await (await browser)?.close();
  for (const server of servers.values()) (await server).close();
}

/** Whether the focus is on what `selector` says. */
export const focusIs = (page, selector) => page.evaluate((s) => document.activeElement.matches(s), selector);

/** Press Tab, or another key, until the focus is on what `selector` says; fail after `most` times. */
export async function tabTo(page, selector, { key = "Tab", most = 200 } = {}) {
  for (let i = 0; i < most; i++) {
    await page.keyboard.press(key);
    if (await focusIs(page, selector)) return;
  }
  throw new Error(`${most} times ${key} do not reach ${selector}`);
}
