// The explorer: two sliders choose a row of the sheet of samples, and its digits are drawn one by one.
//
// The markup is that of _ext/explorer.py. A classic script that fetches nothing but the picture, so that it runs from
// a disk, too.

"use strict";

{
  /** Put sliders and digits in the place of an explorer's static picture. */
  function start(explorer) {
    const { S, eta, cell } = JSON.parse(explorer.dataset.grid);
    const [height, width] = cell;
    const [sliderS, sliderEta] = explorer.querySelectorAll("input");
    const row = explorer.querySelector(".explorer-digits");
    const output = explorer.querySelector("output");
    const sheet = new Image();

    function show() {
      const steps = S[sliderS.value];
      const where = `S = ${steps}, η = ${eta[sliderEta.value]}`;
      sliderS.setAttribute("aria-valuetext", steps);
      sliderEta.setAttribute("aria-valuetext", eta[sliderEta.value]);
      row.setAttribute("aria-label", `Digits sampled with ${where}`);
      output.textContent = `${where}: ${steps} network evaluation${steps === 1 ? "" : "s"}`;
      const top = height * (sliderEta.valueAsNumber * S.length + sliderS.valueAsNumber);
      [...row.children].forEach((canvas, seed) => {
        canvas.getContext("2d").drawImage(sheet, width * seed, top, width, height, 0, 0, width, height);
      });
    }

    sheet.addEventListener("load", () => {
      explorer.addEventListener("input", show);
      show();
    });
    sheet.addEventListener("error", () => {
      output.textContent = `The sheet of samples is missing: ${sheet.src}`;
    });
    whenNear(explorer, () => (sheet.src = explorer.dataset.sheet));
    explorer.querySelector(".explorer-static").hidden = true;
    explorer.querySelector(".explorer-live").hidden = false;
  }

  /** Call once, when the element is less than a screen away: a reader who stays above loads no picture. */
  function whenNear(element, call) {
    const watch = new IntersectionObserver(
      ([{ isIntersecting }]) => {
        if (!isIntersecting) return;
        watch.disconnect();
        call();
      },
      { rootMargin: "100%" },
    );
    watch.observe(element);
  }

  document.querySelectorAll(".explorer").forEach(start);
}
