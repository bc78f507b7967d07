/* Every head's attention: one large, with its tokens and a sentence, and all of them small, to choose from. */
const llmHeads = (() => {
  "use strict";
  const { el, percent, plural, put, rove } = llmParts, { Maps } = llmMaps;

  class Heads {
    /* id: a prefix of its own. changed(): another head was chosen. chosen(position): the reader looks at a row. */
    constructor(id, changed, chosen) {
      Object.assign(this, { changed, layer: 0, head: 0, maps: null, reader: null });
      this.layers = el("select", { id: id + "layer", autocomplete: "off", onchange: () => this.choose(+this.layers.value, this.head) });
      this.heads = el("select", { id: id + "head", autocomplete: "off", onchange: () => this.choose(this.layer, +this.heads.value) });
      this.large = el("canvas", { class: "pg-map", role: "img", onclick: (event) => { const at = this.maps?.rowAt(event.offsetY) ?? -1; if (at >= 0) chosen(at); } });
      this.readout = el("p", { class: "pg-readout", "aria-live": "polite" });
      this.small = el("div", { class: "pg-heads", role: "radiogroup", "aria-label": "All heads" });
      rove(this.small, () => [...this.small.children], () => this.reader.config.n_heads, (radio) => radio.click());
      this.seen = new Set(); // what of the two pictures is on the screen
      const watch = new IntersectionObserver((entries) => { for (const { target, isIntersecting } of entries) this.seen[isIntersecting ? "add" : "delete"](target); });
      for (const picture of [this.large, this.small]) watch.observe(picture);
    }

    /* The heads of another model, in the place of those before; null: of none yet. */
    fit(reader) {
      this.reader = reader;
      this.maps = reader && new Maps(reader);
      this.clear();
      if (!reader) return;
      const { n_layers: L, n_heads: H } = reader.config;
      const options = (n) => Array.from({ length: n }, (_, i) => el("option", { value: i }, String(i)));
      this.layers.replaceChildren(...options(L));
      this.heads.replaceChildren(...options(H));
      this.small.style.setProperty("--pg-columns", H);
      this.small.replaceChildren(...this.maps.canvases.map((canvas, k) => {
        const l = Math.floor(k / H), h = k % H, press = (event) => { if (event.key === " " || event.key === "Enter") { event.preventDefault(); this.choose(l, h); } };
        return el("div", { role: "radio", "data-rove": true, "aria-label": `Layer ${l}, head ${h}`, title: `Layer ${l}, head ${h}`, onclick: () => this.choose(l, h), onkeydown: press }, canvas);
      }));
      this.choose(this.layer, this.head);
    }
    choose(layer, head) {
      const { n_layers: L, n_heads: H } = this.reader.config;
      this.layer = this.layers.value = Math.min(layer, L - 1);
      this.head = this.heads.value = Math.min(head, H - 1);
      [this.layer, this.head] = [+this.layers.value, +this.heads.value];
      [...this.small.children].forEach((radio, k) => {
        const on = k === this.layer * H + this.head;
        radio.setAttribute("aria-checked", on);
        radio.tabIndex = on ? 0 : -1;
      });
      this.changed();
    }
    clear() {
      this.readout.textContent = "";
      for (const canvas of [this.large, ...this.maps?.canvases ?? []]) canvas.width = canvas.height = 1;
      this.large.setAttribute("aria-label", "Attention of one head: nothing has been read.");
    }

    /* What position `now` reads, in pictures and words. briefly: only what is on the screen. */
    draw(words, now, briefly) {
      const { reader, layer, head } = this, { ids } = reader, weights = reader.row(layer, head, now), named = (i) => `“${words.token(ids[i])}”`;
      const best = Array.from(weights, (w, i) => [w, i]).sort((a, b) => b[0] - a[0]).slice(0, 5).filter(([w]) => w >= 0.005);
      put(this.readout, `Layer ${layer}, head ${head}: ${named(now)} at position ${now} reads `
        + best.map(([w, i]) => `${named(i)}${i === now ? " (itself)" : ""} ${percent(w)}`).join(", ") + ".");
      if (!briefly || this.seen.has(this.large)) this.enlarge(words, now);
      if (!briefly || this.seen.has(this.small)) this.maps.draw(now);
    }
    enlarge(words, now) {
      if (!this.large.clientWidth) return;
      const look = getComputedStyle(this.large), label = (i) => { const t = words.token(this.reader.ids[i]); return t.length > 8 ? t.slice(0, 7) + "…" : t; };
      this.maps.enlarge(this.large, this.layer, this.head, now, label, { ink: look.getPropertyValue("--pg-ink"), font: look.fontFamily });
      const { from, to } = this.maps, part = to - from < this.reader.length ? ` (positions ${from} to ${to - 1})` : "";
      this.large.setAttribute("aria-label", `Attention of layer ${this.layer}, head ${this.head}: a triangle of ${plural(to - from, "row")}${part}, one for each token, over the tokens it may read. The sentence below names the largest weights of the chosen row.`);
    }
  }

  return { Heads };
})();
