/* What the panels of the playground are made of, and how numbers are told. */
const llmParts = (() => {
  "use strict";
  const el = (tag, attributes = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else if (value === true) node.setAttribute(name, "");
      else if (value !== false && value != null) node.setAttribute(name, value);
    }
    node.append(...children);
    return node;
  };
  const percent = (p) => p >= 0.0995 ? `${Math.round(100 * p)} %` : p >= 0.0005 ? `${(100 * p).toFixed(1)} %` : p > 0 ? "< 0.1 %" : "0 %";
  const plural = (n, what) => `${n.toLocaleString("en")} ${what}${n === 1 ? "" : "s"}`;
  const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });
  /* Set what is not so already: what stays as it is costs nothing. */
  const put = (node, text) => { if (node.textContent !== text) node.textContent = text; };
  /* A label, its Chinese words marked as Chinese for who listens. */
  const worded = (text) => text.split(/(\p{Script=Han}+)/u).filter(Boolean).map((part) => /\p{Script=Han}/u.test(part) ? el("span", { lang: "zh" }, part) : part);
  /* aria-disabled, not disabled: a control that has the focus keeps it. */
  const allowed = (control) => control.getAttribute("aria-disabled") !== "true";
  const button = (label, press, extra = {}) =>
    el("button", { type: "button", onclick: (event) => { if (allowed(event.currentTarget)) press(); }, ...extra }, ...worded(label));
  const labelled = (text, control) => el("label", { for: control.id }, el("span", {}, text), control);

  /* A slider that says its value in words. */
  function slider(label, attributes, shown, heard) {
    const input = el("input", { type: "range", autocomplete: "off", ...attributes }), output = el("output", {});
    const say = () => { output.textContent = shown(+input.value); input.setAttribute("aria-valuetext", output.textContent); };
    input.addEventListener("input", () => { say(); heard(); });
    return { input, say, name: label, label: el("label", {}, el("span", {}, label), input, output) };
  }

  /* One stop of the Tab key for a group; arrows move inside it (by `columns` up and down), Home and End to its ends. */
  function rove(group, items, columns, move) {
    group.addEventListener("keydown", (event) => {
      const all = items(), at = all.indexOf(event.target.closest("[data-rove]"));
      const to = { ArrowLeft: at - 1, ArrowRight: at + 1, ArrowUp: at - columns(), ArrowDown: at + columns(),
                   Home: 0, End: all.length - 1 }[event.key];
      if (at < 0 || to === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      const next = all[Math.max(0, Math.min(all.length - 1, to))];
      move(next);
      next.focus();
    });
  }

  /* Where reading begins in a text of `total` tokens, for a model that reads `most`: at the first token while there is
     room, then half a context further on, again and again. It depends on the length alone, so a text that is taken
     back, replayed or opened from a link is read the same. */
  function windowStart(total, most) {
    const half = Math.max(1, Math.floor(most / 2));
    return total <= most ? 0 : Math.ceil((total - most) / half) * half;
  }

  /* Once a frame at most: what is asked for again before the next one costs nothing. */
  function onFrames(paint) {
    let asked = 0;
    return () => { asked ||= requestAnimationFrame(() => { asked = 0; paint(); }); };
  }

  return { el, percent, plural, pause, put, worded, allowed, button, labelled, slider, rove, windowStart, onFrames };
})();
if (typeof module !== "undefined") module.exports = llmParts;
