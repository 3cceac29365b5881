// The search page finds terms, over http and from the disk.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { closeBrowser, expectNone, open, ROOT } from "./book.mjs";

after(closeBrowser);

for (const file of [false, true]) {
  describe(`search ${file ? "from the disk" : "over http"}`, () => {
    it("finds the chapter on slerp, and its links lead to pages", async () => {
      await using visit = await open("search.html?q=slerp", { file });
      const { page, problems } = visit;
      await page.getByText("Search finished").waitFor();
      const results = page.locator("#search-results li a");
      await results.first().waitFor();
      const links = await results.evaluateAll((all) => all.map((a) => a.getAttribute("href")));
      const paths = links.map((link) => link.split(/[?#]/)[0]);
      assert.ok(paths.includes("chapters/11_consistency_and_inversion.html"), `found only ${paths}`);
      expectNone(paths.filter((path) => !existsSync(join(ROOT, path))), "results that lead nowhere");
      const first = page.locator("#search-results li").first();
      if (!file) await first.filter({ hasText: "slerp: Spherical linear interpolation" }).waitFor();
      expectNone(problems, "errors and requests");
    });

    it("says so where nothing is found", async () => {
      await using visit = await open("search.html?q=hippopotamus", { file });
      await visit.page.getByText("did not match any documents").waitFor();
      expectNone(visit.problems, "errors and requests");
    });
  });
}
