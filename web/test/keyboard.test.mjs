// The book without a mouse.

import assert from "node:assert/strict";
import { after, describe, it } from "node:test";
import { violations } from "./axe.mjs";
import { closeBrowser, expectNone, focusIs, open, tabTo } from "./book.mjs";

const CHAPTER = "chapters/04_undetermined_coefficients.html";

after(closeBrowser);

describe("keyboard", () => {
  it("the first Tab offers to skip to the text", async () => {
    await using visit = await open(CHAPTER);
    const { page, problems } = visit;
    await page.keyboard.press("Tab");
    assert.ok(await focusIs(page, ".skip-link a"), "the first Tab does not reach the skip link");
    assert.ok(await page.locator(".skip-link a").isVisible(), "the skip link cannot be seen");
    await page.keyboard.press("Enter");
    await page.keyboard.press("Tab");
    assert.ok(await focusIs(page, "main *"), "after the skip link Tab does not go on in the text");
    expectNone(problems, "errors");
  });

  it("Tab reaches every part of a page", async () => {
    await using visit = await open(CHAPTER);
    const parts = [
      ".bd-sidebar-primary .logo",
      ".search-button-field",
      ".bd-docs-nav a",
      ".primary-toggle",
      ".theme-switch-button",
      "article a",
      "article button.copybtn",
      "article summary",
      "article .toggle-button",
      ".prev-next-area .left-prev",
      ".prev-next-area .right-next",
      ".bd-sidebar-secondary a",
    ];
    for (const part of parts) await tabTo(visit.page, part);
  });

  for (const side of ["primary", "secondary"]) {
    it(`on a phone the ${side} drawer opens with Enter and closes with Escape`, async () => {
      await using visit = await open(CHAPTER, { width: 390 });
      const { page, problems } = visit;
      const drawer = page.locator(`#pst-${side}-sidebar-modal`);
      await tabTo(page, `.${side}-toggle`, { most: 20 });
      await page.keyboard.press("Enter");
      await drawer.waitFor({ state: "visible" });
      expectNone(await violations(page), `accessibility with the ${side} drawer open`);
      await page.keyboard.press("Tab");
      assert.ok(await focusIs(page, "dialog a, dialog button"), "Tab does not go into the drawer");
      await page.keyboard.press("Escape");
      await drawer.waitFor({ state: "hidden" });
      assert.ok(await focusIs(page, `.${side}-toggle`), "the focus does not return to the button");
      expectNone(problems, "errors");
    });
  }

  it("a solution opens and closes with Enter", async () => {
    await using visit = await open(CHAPTER);
    const { page } = visit;
    const solution = page.locator(".solution.dropdown").first();
    const text = solution.locator(".solution-content, .toggle-content, section").first();
    assert.equal(await text.isVisible(), false, "the solution shows before it is asked for");
    await tabTo(page, ".solution .toggle-button");
    await page.keyboard.press("Enter");
    await text.waitFor({ state: "visible" });
    await page.keyboard.press("Enter");
    await text.waitFor({ state: "hidden" });
  });

  it("a hidden cell opens with Enter", async () => {
    await using visit = await open(CHAPTER);
    const { page } = visit;
    const cell = page.locator("article details").first();
    assert.equal(await cell.locator("pre").first().isVisible(), false, "the cell shows before it is asked for");
    await tabTo(page, "article summary");
    await page.keyboard.press("Enter");
    await cell.locator("pre").first().waitFor({ state: "visible" });
  });

  it("Ctrl+K opens the search, Enter looks for the term", async () => {
    await using visit = await open(CHAPTER);
    const { page } = visit;
    await page.keyboard.press("Control+k");
    await page.locator("#pst-search-dialog").waitFor({ state: "visible" });
    expectNone(await violations(page), "accessibility with the search open");
    await page.keyboard.type("slerp");
    await page.keyboard.press("Enter");
    await page.waitForURL(/search\.html\?q=slerp/);
  });
});
