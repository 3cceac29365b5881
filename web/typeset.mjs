// Typeset formulas with MathJax, so that the pages need no script to show them.
//
// Input, JSON on stdin: {"macros": {...}, "formulas": [["inline" | "display", "TeX"], ...]}.
// Output, JSON on stdout: {"html": ["<mjx-container ...", ...], "css": "..."}. A formula that MathJax
// cannot read ends the program with status 1 and a line that quotes it.

import { readFileSync, writeSync } from "node:fs";
import mathjax from "mathjax";

const { macros, formulas } = JSON.parse(readFileSync(0, "utf8"));

const MathJax = await mathjax.init({
  loader: { load: ["input/tex", "output/chtml", "a11y/assistive-mml"] },
  tex: {
    macros,
    packages: { "[-]": ["noerrors", "noundefined"] },
    formatError: (_, error) => {
      throw error;
    },
  },
  chtml: { fontURL: "fonts" }, // beside the style sheet
});

const adaptor = MathJax.startup.adaptor;
const html = [];
for (const [kind, tex] of formulas) {
  try {
    html.push(adaptor.outerHTML(await MathJax.tex2chtmlPromise(tex, { display: kind === "display" })));
  } catch (error) {
    console.error(`MathJax cannot typeset ${tex}\n${error.message}`);
    process.exit(1);
  }
}
const output = JSON.stringify({ html, css: adaptor.textContent(MathJax.chtmlStylesheet()) });
for (let rest = Buffer.from(output); rest.length > 0; ) rest = rest.subarray(writeSync(1, rest));
