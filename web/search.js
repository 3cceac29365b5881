// What a result of the search shows of its page: its prose, without the headings for print, marks and links.
// Runs after Sphinx's searchtools.js, on the search page only.

const ignored = "#jb-print-docs-body, .headerlink, .verdict, .prev-next-footer, summary, .playground, .explorer";

// A page that was opened from a disk may not read other pages: its results are titles alone.
if (location.protocol === "file:") {
  DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
}

const textOf = Search.htmlToText;
Search.htmlToText = (html, anchor) => {
  const page = new DOMParser().parseFromString(html, "text/html");
  page.querySelectorAll(ignored).forEach((element) => element.remove());
  page.querySelectorAll("dt").forEach((term) => term.append(": ")); // else it runs into its definition
  const term = anchor && page.querySelector(`dt${anchor}`);
  if (term) return term.textContent + term.nextElementSibling.textContent;
  page.body.querySelector("[role=main]")?.append(...page.querySelectorAll("[role=main] .highlight")); // code last
  return textOf(page.documentElement.outerHTML, anchor);
};
