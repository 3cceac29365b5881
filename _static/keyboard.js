// What the theme forgets for readers without a mouse.

// Formulas that are wider than the window scroll: they must be reached for that, as code and tables are.
function makeReachable() {
  for (const formula of document.querySelectorAll('mjx-container[display="true"]')) {
    if (formula.scrollWidth > formula.clientWidth) formula.tabIndex = 0;
    else formula.removeAttribute("tabindex");
  }
}

document.addEventListener("DOMContentLoaded", () => {
  new ResizeObserver(makeReachable).observe(document.body);
  document.fonts.ready.then(makeReachable);
  // After a drawer is closed the focus returns to the button that opened it; the theme loses it.
  for (const side of ["primary", "secondary"]) {
    const drawer = document.getElementById(`pst-${side}-sidebar-modal`);
    drawer?.addEventListener("close", () => document.querySelector(`.${side}-toggle`)?.focus());
  }
});
