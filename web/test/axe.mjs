// axe-core in an open page.

import { readFileSync } from "node:fs";
import { join } from "node:path";

const AXE = readFileSync(join(import.meta.dirname, "../node_modules/axe-core/axe.min.js"), "utf8");
// All its rules but those of the highest level (WCAG AAA), which ask for contrasts of 7 to 1.
const TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice", "experimental"];

/** The violations on the page as lines of text: rule, element, why. */
export async function violations(page) {
  if (!(await page.evaluate(() => "axe" in window))) await page.evaluate(AXE);
  return page.evaluate(async (values) => {
    const found = await axe.run(document, { resultTypes: ["violations"], runOnly: { type: "tag", values } });
    const line = (rule, node) => `${rule}: ${node.target.join(" ")}: ${node.failureSummary.split("\n").at(-1).trim()}`;
    // axe reads no MathML: to it a header cell that holds a formula alone is empty.
    const formula = (node) => document.querySelector(node.target[0]).querySelector("math");
    const wrong = (id, node) => id === "empty-table-header" && formula(node);
    return found.violations.flatMap(({ id, nodes }) =>
      nodes.filter((node) => !wrong(id, node)).map((node) => line(id, node)),
    );
  }, TAGS);
}
