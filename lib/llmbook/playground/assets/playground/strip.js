/* The text twice: as it reads, and as the tokens that the model reads, coloured by what the chosen one attends to. */
const llmStrip = (() => {
  "use strict";
  const { el, percent, put, rove } = llmParts;

  class Strip {
    /* chosen(position): the reader looks at a token. weight(position): what the one looked at reads of it, or null. */
    constructor(chosen, weight) {
      this.gone = el("span", { class: "pg-gone" });
      this.before = el("span", {});
      this.after = el("span", { class: "pg-written" }, "");
      this.text = el("div", { class: "pg-text", tabindex: 0, role: "group", "aria-label": "The text" }, el("div", {}, this.gone, this.before, this.after));
      this.chips = el("div", { class: "pg-tokens", role: "listbox", "aria-label": "The text as tokens", "aria-orientation": "horizontal" });
      this.box = el("div", { class: "pg-chips" }, this.chips);
      this.known = []; // of each chip, what stands there: so that what stays as it is costs nothing
      const at = (chip) => [...this.chips.children].indexOf(chip);
      this.chips.addEventListener("click", ({ target }) => { if (target.parentNode === this.chips) chosen(at(target)); });
      this.chips.addEventListener("pointerover", ({ target }) => {
        if (target.parentNode !== this.chips) return;
        const i = at(target), share = weight(i);
        target.title = `position ${i}, token ${this.known[i].id}` + (share == null ? "" : `; read with weight ${percent(share)}`);
      });
      rove(this.chips, () => [...this.chips.children], () => 1, (chip) => chosen(at(chip)));
    }

    clear() {
      this.known = [];
      for (const node of [this.chips, this.gone, this.before, this.after]) node.replaceChildren();
    }

    /* n tokens are no longer read; `ids` are the last of them. */
    forget(n, ids, words) { put(this.gone, (n > ids.length ? "… " : "") + words.decode(ids)); }

    /* ids: what the model reads, the first `typed` of them not its own. now: the position looked at; weights: what it
       reads of each, or null where the colours may wait. */
    draw(ids, words, typed, now, weights) {
      const { chips, known } = this;
      for (; known.length > ids.length; known.pop()) chips.lastChild.remove();
      for (; known.length < ids.length; known.push({})) chips.append(el("span", { role: "option", "data-rove": true }));
      let chip = chips.firstChild;
      for (let i = 0; i < ids.length; i++, chip = chip.nextSibling) {
        const is = known[i], written = i >= typed, chosen = i === now;
        if (is.id !== ids[i]) {
          const shown = words.token(is.id = ids[i]);
          chip.textContent = shown;
          chip.classList.toggle("pg-break", shown.endsWith("↵"));
        }
        if (is.written !== written) chip.classList.toggle("pg-written", is.written = written);
        if (is.chosen !== chosen) {
          chip.setAttribute("aria-selected", is.chosen = chosen);
          chip.tabIndex = chosen ? 0 : -1;
        }
        if (!weights) continue;
        const shade = i <= now ? Math.round(16 * Math.sqrt(weights[i])) : 0; // sixteen can be told apart
        if ((is.shade ?? 0) !== shade) chip.style.backgroundColor = (is.shade = shade) ? `rgba(230, 159, 0, ${(0.42 * shade / 16).toFixed(2)})` : "";
      }
      const given = words.decode(ids.slice(0, typed)), added = words.decode(ids).slice(given.length), stood = this.after.textContent;
      put(this.before, given);
      if (stood && added.startsWith(stood)) this.after.firstChild.appendData(added.slice(stood.length));
      else put(this.after, added);
    }
  }

  return { Strip };
})();
