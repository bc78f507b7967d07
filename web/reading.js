/* Help in a long page: how far one is, about how many minutes are left, where one stopped last time, and a way to hide the
   code. Kept by this browser alone; where it keeps nothing, the rest works all the same. */
(() => {
  "use strict";
  const WORDS_A_MINUTE = 220, LONG = 3; // minutes; a shorter page needs no help
  const stored = (key, value) => {
    try {
      if (value === undefined) return JSON.parse(localStorage.getItem(key) ?? "null");
      localStorage.setItem(key, JSON.stringify(value));
    } catch { /* refused, or not ours: there is nothing to go by */ }
    return null;
  };
  const element = (name, properties, ...children) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  };

  addEventListener("load", () => {
    const article = document.querySelector(".bd-article"), contents = document.querySelector(".sidebar-secondary-items");
    if (!article || !contents || !article.querySelector(".cell_input")) return;
    const words = [...article.querySelectorAll("p, li")].reduce((sum, one) => sum + one.textContent.split(/\s+/).length, 0);
    const minutes = words / WORDS_A_MINUTE;
    if (minutes < LONG) return;

    // How far, and how long still
    const bar = element("div", { className: "book-progress" }), left = element("p", { className: "book-left" });
    bar.setAttribute("aria-hidden", "true"); // the line in the contents says it
    document.body.append(bar);
    const share = () => Math.min(1, scrollY / Math.max(1, document.documentElement.scrollHeight - innerHeight));
    const show = () => {
      const read = share(), rest = Math.ceil(minutes * (1 - read));
      bar.style.transform = `scaleX(${read})`;
      left.textContent = read > 0.99 ? "You have read this page." : `About ${rest} ${rest === 1 ? "minute" : "minutes"} of reading left.`;
    };
    let waiting = false;
    addEventListener("scroll", () => {
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => { waiting = false; show(); });
    }, { passive: true });

    // The code, all of it at once
    const hide = element("button", { type: "button", className: "book-code" });
    const fold = (hidden) => {
      document.documentElement.classList.toggle("book-no-code", hidden);
      hide.textContent = hidden ? "Show the code" : "Hide the code";
      hide.setAttribute("aria-pressed", String(hidden));
    };
    hide.addEventListener("click", () => {
      const hidden = hide.getAttribute("aria-pressed") !== "true";
      fold(hidden);
      stored("book-no-code", hidden);
    });
    fold(stored("book-no-code") === true);
    contents.append(element("div", { className: "sidebar-secondary-item book-reading" }, left, hide));
    show();

    // Where one stopped
    const key = `book-read:${location.pathname}`, last = stored(key);
    const headings = [...article.querySelectorAll("h2, h3")].filter((one) => one.parentElement.id);
    addEventListener("pagehide", () => {
      const here = headings.filter((one) => one.getBoundingClientRect().top < innerHeight / 3).at(-1);
      stored(key, here && share() < 0.97 ? here.parentElement.id : null);
    });
    const place = typeof last === "string" && headings.find((one) => one.parentElement.id === last);
    if (!place || location.hash) return;
    const title = place.cloneNode(true);
    for (const mark of title.querySelectorAll(".headerlink")) mark.remove();
    const offer = element("div", { className: "book-continue", role: "status" });
    const away = () => offer.remove();
    const go = element("a", { href: `#${last}`, textContent: `Continue at “${title.textContent.trim()}”` });
    const no = element("button", { type: "button", textContent: "×" });
    no.setAttribute("aria-label", "Do not continue there");
    go.addEventListener("click", away);
    no.addEventListener("click", away);
    offer.append(go, no);
    document.body.append(offer);
    addEventListener("keydown", (event) => { if (event.key === "Escape") away(); });
  });
})();
