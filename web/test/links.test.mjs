// Every link, picture, script, style sheet and font that a page asks for is in the book, every anchor on its page.

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { after, before, describe, it } from "node:test";
import { closeBrowser, expectNone, open, pages, PREFIX, ROOT } from "./book.mjs";

const found = new Map(); // page -> { ids, links }
const sheets = new Set(); // style sheets that pages ask for

/** The anchors of a page and what it refers to: runs in the browser, on the text of a page. */
function read(html) {
  const page = new DOMParser().parseFromString(html, "text/html");
  const values = (selector, name) => [...page.querySelectorAll(selector)].map((e) => e.getAttribute(name));
  const sources = values("[srcset]", "srcset").flatMap((set) => set.split(",").map((one) => one.trim().split(" ")[0]));
  const links = [...values("a[href], link[href]", "href"), ...values("[src]", "src"), ...sources];
  return { ids: [...values("[id]", "id"), ...values("a[name]", "name")], links: [...new Set(links)] };
}

/** The file of the book that a path on its host stands for. */
function targetOf(pathname) {
  const place = pathname.startsWith(PREFIX) ? pathname.slice(PREFIX.length) : pathname.slice(1);
  return decodeURIComponent(place) || "index.html";
}

/** What is wrong with a link of a page, or undefined. */
function fault(path, link) {
  if (/^(https?:|mailto:|data:)/.test(link)) return undefined;
  const url = new URL(link, `http://book/${path}`);
  const target = targetOf(url.pathname);
  const anchor = decodeURIComponent(url.hash.slice(1));
  if (!existsSync(join(ROOT, target))) return `${link}: there is no ${target}`;
  if (anchor && !found.get(target)?.ids.has(anchor)) return `${link}: no element of ${target} has the id ${anchor}`;
  return undefined;
}

describe("links", () => {
  before(async () => {
    await using visit = await open("index.html");
    for (const path of pages()) {
      const { ids, links } = await visit.page.evaluate(read, readFileSync(join(ROOT, path), "utf8"));
      found.set(path, { ids: new Set(ids), links });
      const targets = links.map((link) => targetOf(new URL(link, `http://book/${path}`).pathname));
      for (const target of targets.filter((name) => name.endsWith(".css"))) sheets.add(target);
    }
    await closeBrowser();
  });

  for (const path of pages()) {
    it(path, () => {
      const faults = found.get(path).links.map((link) => fault(path, link)).filter(Boolean);
      expectNone(faults, `${path}: links that lead nowhere`);
    });
  }

  it("style sheets", () => {
    assert.ok(sheets.size > 5, "the pages ask for hardly any style sheets");
    for (const sheet of sheets) {
      const text = readFileSync(join(ROOT, sheet), "utf8");
      const files = [...text.matchAll(/url\(["']?(?!data:|#)([^"')?#]+)/g)].map(([, file]) => file);
      const lost = files.filter((file) => !existsSync(join(ROOT, dirname(sheet), file)));
      expectNone(lost, `${sheet}: asks for files that are not there`);
    }
  });
});

after(closeBrowser);
