/* The likeliest next tokens as bars: hollow what the model says, full what is drawn from, hatched what was cut away. */
const llmCandidates = (() => {
  "use strict";
  const { el, percent, plural, put, rove, slider } = llmParts, { distribution } = llmChance;
  const ROWS = 30; // candidates that are listed
  const KS = [1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000];

  class Candidates {
    /* heard(): an option has changed. chosen(token): the reader wants this one next. */
    constructor(heard, chosen) {
      this.ks = KS;
      this.temperature = slider("Temperature", { min: 0, max: 2, step: 0.05, value: 0.8 }, (v) => v ? v.toFixed(2) : "0: likeliest", heard);
      this.topK = slider("Top-k", { min: 0, max: KS.length, step: 1, value: KS.length }, (v) => this.ks[v] == null ? "all" : String(this.ks[v]), heard);
      this.topP = slider("Top-p", { min: 0.05, max: 1, step: 0.05, value: 1 }, (v) => v < 1 ? v.toFixed(2) : "all", heard);
      this.minP = slider("Min-p", { min: 0, max: 0.5, step: 0.01, value: 0 }, (v) => v ? v.toFixed(2) : "all", heard);
      this.sliders = [this.temperature, this.topK, this.topP, this.minP];
      this.summary = el("p", { class: "pg-note pg-left" });
      this.found = null;
      this.rows = Array.from({ length: ROWS }, (_, i) => {
        const pick = el("button", { type: "button", "data-rove": true, tabindex: i ? -1 : 0, title: "Add this token", onclick: () => { if (this.found) chosen(this.found.order[i]); } });
        const own = el("i", { class: "pg-own" }), now = el("i", { class: "pg-now" }), given = el("td", {}), left = el("td", {});
        const track = el("td", { class: "pg-track" }, el("div", { "aria-hidden": "true" }, own, now));
        return { pick, own, now, given, left, row: el("tr", { hidden: true }, el("th", { scope: "row" }, pick), track, given, left) };
      });
      this.body = el("tbody", {}, ...this.rows.map((r) => r.row));
      this.table = el("table", {}, el("caption", { class: "pg-unseen" }, "The likeliest next tokens"),
        el("thead", {}, el("tr", {}, ...["Token", "Probability", "Model", "Now"].map((t) => el("th", { scope: "col" }, t)))), this.body);
      rove(this.body, () => this.rows.filter((r) => !r.row.hidden).map((r) => r.pick), () => 1,
        (pick) => this.rows.forEach((r) => { r.pick.tabIndex = r.pick === pick ? 0 : -1; }));
    }

    /* What top-k can be set to follows from the size of the vocabulary. */
    fit(V) {
      const { input } = this.topK, portion = input.value / input.max;
      this.ks = [...KS.filter((k) => k < V), null];
      input.max = this.ks.length - 1;
      input.value = Math.round(portion * (this.ks.length - 1));
      for (const one of this.sliders) one.say();
    }
    get options() {
      return { temperature: +this.temperature.input.value, topK: this.ks[this.topK.input.value] ?? null, topP: +this.topP.input.value, minP: +this.minP.input.value };
    }
    /* The same as it stands in a link. */
    get state() { const { temperature: t, topK: k, topP: p, minP: m } = this.options; return { t, k, p, m }; }
    /* Set them from a link; returns words on what the sliders have no step for. */
    set({ t, k, p = 1, m = 0 }) {
      const last = this.ks.length - 1, step = k == null ? last : this.ks.findIndex((other) => other == null || other >= k), told = [];
      for (const [one, value] of [[this.temperature, t], [this.topK, step], [this.topP, p], [this.minP, m]]) {
        if (value != null) one.input.value = value;
        one.say();
      }
      const now = this.state;
      for (const [name, asked, got] of [["Temperature", t, now.t], ["Top-k", k, now.k], ["Top-p", p, now.p], ["Min-p", m, now.m]]) {
        if (asked != null && asked !== got) told.push(`${name} ${asked} is set to ${got ?? "all"}, the nearest step.`);
      }
      return told;
    }
    /* Asked for twice a token, to draw bars and to draw a token: computed once. */
    distribution(logits) {
      const key = JSON.stringify(this.options);
      if (this.of?.logits !== logits || this.of.key !== key) this.of = { logits, key, found: distribution(logits, this.options) };
      return this.of.found;
    }

    clear() {
      this.found = null;
      for (const r of this.rows) r.row.hidden = true;
      this.summary.textContent = "";
    }
    draw(logits, words) {
      const d = this.found = this.distribution(logits), V = d.own.length, listed = Math.min(ROWS, V);
      let most = d.own[d.order[0]];
      for (let at = 0; at < listed; at++) most = Math.max(most, d.chance[d.order[at]], d.warm[d.order[at]]);
      for (let at = 0; at < ROWS; at++) {
        const r = this.rows[at];
        if (r.row.hidden !== at >= listed) r.row.hidden = at >= listed;
        if (at >= listed) continue;
        const i = d.order[at], cut = ["", "top-k", "top-p", "min-p"][d.cutBy[i]], look = cut ? "pg-cut" : "";
        put(r.pick, words.token(i));
        r.own.style.width = `${(100 * d.own[i] / most).toFixed(1)}%`;
        r.now.style.width = `${(100 * (cut ? d.warm[i] : d.chance[i]) / most).toFixed(1)}%`;
        if (r.row.className !== look) r.row.className = look;
        put(r.given, percent(d.own[i]));
        put(r.left, cut ? `cut: ${cut}` : percent(d.chance[i]));
      }
      const { topK: k, topP: p, minP: m, temperature: t } = this.options, said = [`${plural(V, "token")} to choose from`];
      if (!t) said.push("temperature 0 always takes the likeliest");
      else if (t !== 1) said.push(`temperature ${t.toFixed(2)} makes the likely ones ${t < 1 ? "likelier" : "less likely"}`);
      if (k != null) said.push(`top-k leaves ${d.keptByK}`);
      if (p < 1) said.push(`top-p leaves ${d.keptByP}`);
      if (m > 0) said.push(`min-p leaves ${d.kept}`);
      put(this.summary, said.join("; ") + ".");
    }
  }

  return { Candidates };
})();
