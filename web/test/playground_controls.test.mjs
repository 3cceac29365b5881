// The playground's controls: by keyboard alone, in any order, and for screen readers.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { violations } from "./axe.mjs";
import { closeBrowser, expectNone, focusIs, tabTo } from "./book.mjs";
import { kept, loaded, picture, saysDone, saysNumbers } from "./playground.mjs";

const SLOW = { timeout: 300_000 };

after(closeBrowser);

/** The shares of black and of white pixels in the predicted images. */
function ink(page) {
  return page.locator("[data-shows=x0Pred]").evaluate((canvas) => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    const greys = data.filter((_, k) => k % 4 === 0);
    const share = (test) => greys.filter(test).length / greys.length;
    return { black: share((grey) => grey < 16), white: share((grey) => grey > 239) };
  });
}

test("samples digits, by keyboard alone and without network once it is loaded", SLOW, async () => {
  await using visit = await loaded({ width: 390 });
  const { page, problems } = visit;
  await page.context().setOffline(true);
  await page.keyboard.press("Enter"); // on Start
  await saysDone(page, "Done: 4 images, S = 20, η = 0, seed 1.");
  assert.match(
    await page.locator(".playground-numbers").textContent(),
    /^t = 0; 20 of 20 network evaluations, [\d.]+ ms a step for 4 images; 1,000 steps would take [\d.]+ (s|min)$/,
  );
  const { black, white } = await ink(page);
  assert.ok(black > 0.6 && white > 0.03 && white < 0.25, `not like digits: ${black} black, ${white} white`);
  await tabTo(page, "[name=solver]", { key: "Shift+Tab" });
  await page.keyboard.press("ArrowDown");
  await saysDone(page, "Done: 4 images, S = 20, second order, seed 1.");
  assert.ok(await page.locator("[name=eta]").isDisabled());
  expectNone(problems, "errors and requests");
});

test("steps, keeps and clears by keyboard alone", SLOW, async () => {
  await using visit = await loaded();
  const { page, problems } = visit;
  await saysNumbers(page, "t = 1000; 1 of 20"); // the first state is there before Start is pressed
  await tabTo(page, "[name=keep]");
  await page.keyboard.press("Enter");
  assert.deepEqual(await kept(page), ["4 images, S = 20, η = 0, seed 1, predicted at t = 1000"]);
  await tabTo(page, "[name=clear]");
  await page.keyboard.press("Enter");
  assert.deepEqual(await kept(page), []);
  assert.ok(await focusIs(page, "[name=start]"), "the focus is lost");
  await tabTo(page, "[name=S]", { key: "Shift+Tab" });
  for (const key of ["Home", "ArrowRight", "ArrowRight"]) await page.keyboard.press(key);
  assert.equal(await page.getByRole("slider", { name: /^Steps S/ }).inputValue(), "3");
  assert.equal(await page.locator("label:has([name=S]) .playground-value").textContent(), "3");
  await saysNumbers(page, "t = 1000; 1 of 3"); // it was paused, and stays so
  await tabTo(page, "[name=step]");
  for (const [t, evaluations] of [[666, 2], [333, 3], [0, 3]]) {
    await page.keyboard.press("Enter");
    await saysNumbers(page, `t = ${t}; ${evaluations} of 3`);
  }
  expectNone(problems, "errors and requests");
});

test("pauses and goes on; the weight mixes two seeds", SLOW, async () => {
  await using visit = await loaded();
  const { page, problems } = visit;
  const pause = page.locator("[name=pause]");
  await pause.click(); // it is paused at the first state
  await saysDone(page, "Done: 4 images");
  await page.locator("[name=images]").fill("1");
  await page.locator("[name=S]").fill("60");
  await pause.click(); // perhaps while an evaluation is under way
  assert.equal(await pause.textContent(), "Go on");
  await page.waitForTimeout(500); // that evaluation may still be shown
  const before = await picture(page);
  await page.waitForTimeout(500);
  assert.equal(await picture(page), before);
  await pause.click();
  await saysDone(page, "Done: 1 image, S = 60");
  assert.ok(await focusIs(page, "[name=start]"), "the focus is lost when the pause button is switched off");
  assert.notEqual(await picture(page), before);
  await page.locator("[name=S]").fill("5");
  await page.locator("[name=weight]").fill("1");
  await saysDone(page, "Done: 1 image, S = 5, η = 0, seeds 1 and 2 at 1.");
  const mixed = await picture(page);
  await page.locator("[name=weight]").fill("0");
  await page.locator("[name=seed]").fill("2");
  await saysDone(page, "Done: 1 image, S = 5, η = 0, seed 2.");
  assert.equal(await picture(page), mixed);
  expectNone(problems, "errors and requests");
});

test("compares numbers of steps, also when it is paused in between", SLOW, async () => {
  await using visit = await loaded();
  const { page, problems } = visit;
  const [pause, compare] = ["pause", "compare"].map((name) => page.locator(`[name=${name}]`));
  await page.locator("[name=images]").fill("1");
  await compare.click();
  await pause.click();
  await page.waitForTimeout(300);
  await pause.click();
  await page.locator(".playground-kept li").nth(4).waitFor({ timeout: 60_000 });
  assert.deepEqual(await kept(page), [100, 50, 20, 10, 5].map((S) => `1 image, S = ${S}, η = 0, seed 1`));
  assert.equal(await page.locator("[name=S]").inputValue(), "20");
  expectNone(problems, "errors and requests");
});

test("what is kept has the caption of what is shown", SLOW, async () => {
  await using visit = await loaded();
  const { page } = visit;
  await page.evaluate(() => {
    const { seed, start, keep } = document.querySelector(".playground form").elements;
    seed.value = 7;
    start.click();
    keep.click(); // before anything of seed 7 is shown
  });
  assert.deepEqual(await kept(page), ["4 images, S = 20, η = 0, seed 1, predicted at t = 1000"]);
});

test("a control that is not valid samples nothing", async () => {
  await using visit = await loaded();
  const { page } = visit;
  await page.locator("[name=seed]").fill("");
  const before = await page.locator(".playground-status").textContent();
  for (const name of ["start", "compare"]) await page.locator(`[name=${name}]`).click();
  await page.waitForTimeout(300);
  assert.equal(await page.locator(".playground-status").textContent(), before);
  assert.deepEqual(await kept(page), []);
});

for (const [width, scheme] of [[1280, "light"], [1280, "dark"], [390, "light"], [390, "dark"]]) {
  test(`axe finds nothing in the loaded playground, ${scheme}, ${width} px`, async () => {
    await using visit = await loaded({ width, scheme });
    const { page } = visit;
    await page.locator("[name=keep]").click();
    expectNone(await violations(page), "accessibility");
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= document.documentElement.clientWidth));
  });
}
