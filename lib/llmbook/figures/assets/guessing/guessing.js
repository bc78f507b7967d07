/* Shannon's guessing game (https://doi.org/10.1002/j.1538-7305.1951.tb01366.x): a reader guesses a text letter by
   letter until right, and the numbers of guesses bound the entropy of the text. Beside the reader play models, whose
   ranks were computed before. llmGuessing.mount(figure) fills a figure that holds its settings as JSON:
     {"alphabet": text, "passages": [text], "shown": letters given, "rivals": {name: [[rank]]}}   rank 1 = right at once */
(() => {
  "use strict";
  if (globalThis.llmGuessing) return;

  /* Shannon's bounds in bits a letter: q[i] is the share of letters that took i + 1 guesses. */
  function bounds(ranks, size) {
    const q = new Array(size + 1).fill(0);
    for (const rank of ranks) q[rank - 1] += 1 / ranks.length;
    let lower = 0, upper = 0;
    for (let i = 0; i < size; i++) {
      if (q[i] > 0) upper -= q[i] * Math.log2(q[i]);
      lower += (i + 1) * (q[i] - q[i + 1]) * Math.log2(i + 1);
    }
    return { lower: Math.max(lower, 0), upper };
  }

  /* The bounds in words; from few letters the lower may lie above the upper, so they are not shown. */
  const ENOUGH = 30;
  function toldBounds(ranks, size) {
    if (ranks.length < ENOUGH) return `after ${ENOUGH} letters`;
    const { lower, upper } = bounds(ranks, size);
    return `${lower.toFixed(2)} to ${upper.toFixed(2)}`;
  }

  /* One passage being played: what was guessed of the present letter, and how many guesses each letter took. */
  class Game {
    constructor(text, alphabet, shown) { Object.assign(this, { text, alphabet, shown, at: shown, tried: [], ranks: [] }); }
    get over() { return this.at >= this.text.length; }
    guess(letter) { // true: right; false: wrong; null: not a guess
      if (this.over || this.tried.includes(letter) || !this.alphabet.includes(letter)) return null;
      this.tried.push(letter);
      if (letter !== this.text[this.at]) return false;
      return this.next(this.tried.length);
    }
    tell() { return this.over ? null : this.next(this.alphabet.length); } // giving up counts as the last guess of all
    next(rank) { this.ranks.push(rank); this.at += 1; this.tried = []; return true; }
    rivalRanks(ranks) { return ranks.slice(this.shown, this.at); }
  }

  const name = (letter) => letter === " " ? "space" : letter;
  const el = (tag, text = "", attributes = {}) => {
    const node = document.createElement(tag);
    node.textContent = text;
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    return node;
  };

  function mount(figure) {
    const { alphabet, passages, shown, rivals } = JSON.parse(figure.querySelector('script[type="application/json"]').textContent);
    const box = figure.querySelector(".lg-game"), size = alphabet.length;
    const label = el("label", "Passage "), menu = label.appendChild(el("select"));
    passages.forEach((_, i) => menu.append(el("option", String(i + 1), { value: i })));
    const text = el("p", "", { class: "lg-text", tabindex: 0, role: "group", "aria-label": "The passage so far; type a letter to guess the next" });
    const said = el("p", "", { class: "lg-said", role: "status", "aria-live": "polite" });
    const keys = el("div", "", { class: "lg-keys", role: "group", "aria-label": "Guess the next letter" });
    const buttons = [...alphabet].map((letter) => {
      const key = keys.appendChild(el("button", letter === " " ? "␣" : letter, { type: "button", "aria-label": name(letter) }));
      key.addEventListener("click", () => guess(letter));
      return key;
    });
    const tell = el("button", `Tell me (counts as guess ${size})`, { type: "button" });
    const again = el("button", "Begin again", { type: "button" });
    const rows = el("tbody"), wide = el("div", "", { class: "lg-wide", tabindex: 0, role: "region", "aria-label": "Scores" });
    const table = wide.appendChild(el("table")), head = table.appendChild(el("thead")).appendChild(el("tr"));
    ["player", "right at once", "guesses a letter", "entropy, bits a letter"].forEach((h) => head.append(el("th", h, { scope: "col" })));
    table.append(rows);
    let game;

    function begin() { game = new Game(passages[menu.value], alphabet, shown); draw(`${shown} letters are given. What comes next?`); }
    function guess(letter) {
      const right = game.guess(letter);
      if (right === false) draw(`Not ${name(letter)}.`);
      else if (right) draw(`Yes, ${name(letter)}, at guess ${game.ranks.at(-1)}.`);
    }
    function draw(words) {
      text.replaceChildren(game.text.slice(0, game.at), game.over ? "" : el("span", "?", { class: "lg-next" }));
      said.textContent = game.over ? `${words} That was the passage.` : words;
      buttons.forEach((key, i) => key.setAttribute("aria-disabled", game.over || game.tried.includes(alphabet[i])));
      tell.setAttribute("aria-disabled", game.over);
      const players = Object.entries(rivals).map(([who, ranks]) => [who, game.rivalRanks(ranks[menu.value])]);
      rows.replaceChildren(...[["you", game.ranks], ...players].map(([who, ranks]) => {
        const row = el("tr"), n = ranks.length;
        const first = n ? `${Math.round(100 * ranks.filter((r) => r === 1).length / n)} %` : "–";
        const mean = n ? (ranks.reduce((a, b) => a + b, 0) / n).toFixed(2) : "–";
        row.append(el("th", who, { scope: "row" }), el("td", first), el("td", mean), el("td", toldBounds(ranks, size)));
        return row;
      }));
    }
    menu.addEventListener("change", begin);
    again.addEventListener("click", begin);
    tell.addEventListener("click", () => { const letter = game.text[game.at]; if (game.tell()) draw(`It was ${name(letter)}.`); });
    for (const place of [text, keys]) place.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || (event.key === " " && place === keys)) return; // space presses a button
      const letter = event.key.toLowerCase();
      if (!alphabet.includes(letter) || letter.length !== 1) return;
      event.preventDefault();
      guess(letter);
    });
    const actions = el("p", "", { class: "lg-actions" });
    actions.append(label, tell, again);
    box.replaceChildren(text, said, keys, actions, wide);
    begin();
  }

  globalThis.llmGuessing = { bounds, toldBounds, Game, mount };
  if (typeof module === "object" && module.exports) module.exports = globalThis.llmGuessing;
  if (typeof document === "undefined") return;
  const all = () => document.querySelectorAll("figure.llm-guessing").forEach(mount);
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", all); else all();
})();
