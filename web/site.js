/* What scrolls sideways can be reached by the keyboard: formulas and tables that are wider than the page. */
(() => {
  const wide = ".bd-article .katex-display, .bd-article div.cell_output .text_html";
  const mark = () => {
    for (const box of document.querySelectorAll(wide)) {
      if (box.scrollWidth > box.clientWidth + 1) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    }
  };
  addEventListener("load", () => {
    mark();
    let due;
    addEventListener("resize", () => { clearTimeout(due); due = setTimeout(mark, 200); });
  });
})();
// On paper nothing can be unfolded: hints and solutions are opened for it, and closed again.
(() => {
  const folded = "main details:not([open], .llm-values)", code = ".tag_hide-input, .tag_setup";
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll(folded)].filter((box) => !box.closest(code));
    for (const box of opened) box.open = true;
  });
  addEventListener("afterprint", () => { for (const box of opened) box.open = false; });
})();
