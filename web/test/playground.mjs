// The playground's page, for its tests.

import { open, tabTo } from "./book.mjs";

/** Wait until the page says a text: in its status line, or of the numbers of a step. */
export const saysDone = (page, text) => waitFor(page, ".playground-status", text);
export const saysNumbers = (page, text) => waitFor(page, ".playground-numbers", text);
const waitFor = (page, selector, hasText) => page.locator(selector).filter({ hasText }).waitFor({ timeout: 60_000 });

/** What a canvas shows, "xt" or "x0Pred", as a text to compare. */
export const picture = (page, what = "x0Pred") =>
  page.locator(`[data-shows=${what}]`).evaluate((canvas) => canvas.toDataURL());

/** The captions of the kept images, newest first. */
export const kept = (page) => page.locator(".playground-kept li span").allTextContents();

/** Open the page and load the network by the keyboard alone; the focus is then on Start. */
export async function loaded(options) {
  const visit = await open("playground.html", options);
  await visit.page.locator(".playground-load").waitFor();
  await tabTo(visit.page, ".playground-load");
  await visit.page.keyboard.press("Enter");
  await saysDone(visit.page, "The network is loaded");
  await visit.page.locator("[name=start]:focus").waitFor();
  return visit;
}
