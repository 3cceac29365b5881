// Formulas that are wider than the window scroll; with the keyboard alone they must be reached for that.
// (The theme does the same for code and tables.)

function makeReachable() {
  for (const formula of document.querySelectorAll('mjx-container[display="true"]')) {
    if (formula.scrollWidth > formula.clientWidth) formula.tabIndex = 0;
    else formula.removeAttribute("tabindex");
  }
}

document.addEventListener("DOMContentLoaded", () => {
  new ResizeObserver(makeReachable).observe(document.body);
  document.fonts.ready.then(makeReachable);
});
