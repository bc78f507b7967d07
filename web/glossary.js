/* The entry of a word or symbol beside its link: on pointing at it, on reaching it by keyboard, on tapping it. A click
   and Enter follow the link as ever; a first tap shows the entry, a second one follows. */
(() => {
  let open = null, closing;
  const entry = (link) => document.getElementById(link.getAttribute("aria-describedby"));

  const show = (link) => {
    clearTimeout(closing);
    const box = entry(link);
    if (!box?.showPopover || open?.link === link) return;
    hide();
    box.showPopover();
    open = { link, box };
    const gap = 8, word = link.getClientRects()[0], { width, height } = box.getBoundingClientRect(), page = document.documentElement;
    const below = word.bottom + gap + height <= page.clientHeight || word.top - gap - height < 0;
    box.style.left = `${Math.max(gap, Math.min(word.left, page.clientWidth - width - gap))}px`;
    box.style.top = `${below ? word.bottom + gap : word.top - gap - height}px`;
  };
  const hide = () => {
    clearTimeout(closing);
    open?.box.hidePopover();
    open = null;
  };
  const leave = () => { clearTimeout(closing); closing = setTimeout(hide, 200); }; // time to reach the entry itself

  for (const link of document.querySelectorAll("a.entry-link")) {
    link.addEventListener("pointerenter", (event) => { if (event.pointerType !== "touch") show(link); });
    link.addEventListener("pointerleave", (event) => { if (event.pointerType !== "touch") leave(); });
    link.addEventListener("focus", () => { if (link.matches(":focus-visible")) show(link); });
    link.addEventListener("blur", leave);
    link.addEventListener("click", (event) => {
      if (event.pointerType !== "touch" || open?.link === link || !entry(link)?.showPopover) return;
      event.preventDefault();
      show(link);
    });
  }
  for (const box of document.querySelectorAll(".entry")) {
    box.addEventListener("pointerenter", () => clearTimeout(closing));
    box.addEventListener("pointerleave", leave);
  }
  addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
  addEventListener("pointerdown", (event) => { if (open && !event.target.closest?.(".entry, .entry-link")) hide(); });
  addEventListener("scroll", hide, { passive: true });
})();
