/* What the site adds to its pages. Everything is read without it; nothing leaves the page. */
"use strict";

const article = () => document.querySelector(".bd-article");

// What is wider than the text takes the free space beside it; what still scrolls shows it, and the keyboard reaches it.
{
  const boxes = ".katex-display, div.math, .highlight pre, .cell_output pre, .cell_output .text_html, "
    + ".pst-scrollable-table-container";
  const roomy = matchMedia("(min-width: 1200px)"); // where the contents stand beside the text, as in book.css
  const wide = (box) => box.scrollWidth > box.clientWidth + 1 && /auto|scroll/.test(getComputedStyle(box).overflowX);
  // What is folded away has no size, and to ask for it would lay it out: it is measured when it is unfolded.
  const folded = (box) => box.closest("details:not([open])");
  const measure = (parts) => {
    const all = parts.flatMap((part) => [...part.querySelectorAll(boxes)])
      .filter((box) => article()?.contains(box) && !folded(box));
    for (const box of all) box.style.removeProperty("width");
    if (roomy.matches) {
      const edge = document.documentElement.clientWidth - 24;
      const grown = all.filter((box) => wide(box) && !box.closest("li, table")).map((box) => {
        const beside = box.offsetWidth - box.clientWidth; // its borders
        return [box, Math.min(box.scrollWidth + beside, edge - box.getBoundingClientRect().left)];
      });
      for (const [box, width] of grown) {
        box.classList.add("book-wide");
        box.style.width = `${Math.ceil(width)}px`;
      }
    }
    const scrolling = all.map((box) => [box, wide(box)]);
    for (const [box, scrolls] of scrolling) {
      box.classList.toggle("book-scrolls", scrolls);
      if (scrolls) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    }
  };
  let due;
  const unfolded = new Set();
  addEventListener("load", () => {
    measure([document]);
    addEventListener("resize", () => { clearTimeout(due); due = setTimeout(() => measure([document]), 200); });
    document.addEventListener("toggle", ({ target }) => {
      if (!target.open) return;
      if (!unfolded.size) requestAnimationFrame(() => { measure([...unfolded]); unfolded.clear(); });
      unfolded.add(target);
    }, true); // it does not bubble
  });
}

// One button of all that copy code is a stop of the Tab key; the arrow keys lead from there to the others.
addEventListener("load", () => {
  const buttons = [...document.querySelectorAll("button.copybtn")];
  buttons.forEach((button, k) => {
    button.setAttribute("aria-label", `Copy code of cell ${k + 1}`);
    button.tabIndex = k ? -1 : 0;
    button.addEventListener("keydown", (event) => {
      const to = { ArrowDown: k + 1, ArrowRight: k + 1, ArrowUp: k - 1, ArrowLeft: k - 1, Home: 0, End: buttons.length - 1 };
      const shown = (one) => one?.checkVisibility();
      let next = to[event.key];
      if (next === undefined) return;
      const step = next < k ? -1 : 1;
      if (event.key === "Home" || event.key === "End") next = shown(buttons[next]) ? next : k;
      while (buttons[next] && !shown(buttons[next])) next += step; // folded away
      event.preventDefault();
      if (!buttons[next]) return;
      button.tabIndex = -1;
      buttons[next].tabIndex = 0;
      buttons[next].focus();
    });
  });
});

// On paper nothing can be unfolded: hints and solutions are opened for it, and closed again.
{
  const folded = "main details:not([open], .llm-values)", code = ".tag_hide-input, .tag_setup";
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll(folded)].filter((box) => !box.closest(code));
    for (const box of opened) box.open = true;
  });
  addEventListener("afterprint", () => { for (const box of opened) box.open = false; });
}
