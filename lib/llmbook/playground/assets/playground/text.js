/* Text to tokens and back, as lib/llmbook/text/tokenizers does it, from their own to_dict(). What takes long is a
   generator that pauses now and then: `finish` runs one to its end, `inSlices` lets the page breathe in between. */
const llmText = (() => {
  "use strict";
  const VISIBLE = { " ": "␣", "\n": "↵", "\t": "⇥", "\r": "␍" };
  const encoder = new TextEncoder(), strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }), lenient = new TextDecoder("utf-8", { ignoreBOM: true });
  const hex = (n, width) => n.toString(16).toUpperCase().padStart(width, "0");
  const visible = (c) => VISIBLE[c] ?? (/[\p{C}\p{Z}]/u.test(c) ? `⟨U+${hex(c.codePointAt(0), 4)}⟩` : c);
  const OFTEN = 4096; // steps between two pauses: well below a millisecond
  const SLICE = 12; // ms of work before the page breathes

  function finish(steps) {
    for (;;) {
      const { done, value } = steps.next();
      if (done) return value;
    }
  }
  /* The result of `steps`, or null where `stopped()` came to be true on the way. */
  async function inSlices(steps, stopped = () => false) {
    for (let start = performance.now(); ;) {
      const { done, value } = steps.next();
      if (done) return value;
      if (performance.now() - start < SLICE) continue;
      await new Promise((resolve) => { setTimeout(resolve, 0); });
      if (stopped()) return null;
      start = performance.now();
    }
  }

  function printable(bytes) { // what cannot be seen gets a mark; a byte that is no whole character its number
    let shown = "";
    for (let i = 0; i < bytes.length;) {
      const b = bytes[i], n = b < 0x80 ? 1 : b < 0xe0 ? 2 : b < 0xf0 ? 3 : 4;
      try {
        shown += visible(strict.decode(bytes.subarray(i, i + n)));
        i += n;
      } catch {
        shown += `⟨${hex(b, 2)}⟩`;
        i++;
      }
    }
    return shown;
  }

  // ---- byte-pair encoding ----------------------------------------------------------------------
  const SPACE = "\\t-\\r \\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000"; // White_Space; \s differs
  const WORD = new RegExp(`'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^${SPACE}\\p{L}\\p{N}]+|[${SPACE}]+(?![^${SPACE}])|[${SPACE}]+`, "gu");
  // GPT-2's order of the bytes: those that Latin-1 prints come first.
  const prints = (b) => (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
  const ALL = Array.from({ length: 256 }, (_, b) => b), BYTES = [...ALL.filter(prints), ...ALL.filter((b) => !prints(b))];

  class Heap { // of numbers, the smallest first
    constructor() { this.all = []; }
    get size() { return this.all.length; }
    push(value) {
      const { all } = this;
      let at = all.push(value) - 1;
      for (let up; at && all[up = (at - 1) >> 1] > value; at = up) all[at] = all[up];
      all[at] = value;
    }
    pop() {
      const { all } = this, least = all[0], value = all.pop(), n = all.length;
      if (!n) return least;
      let at = 0;
      for (let down; (down = 2 * at + 1) < n; at = down) {
        if (down + 1 < n && all[down + 1] < all[down]) down++;
        if (all[down] >= value) break;
        all[at] = all[down];
      }
      all[at] = value;
      return least;
    }
  }

  const IDS = 2 ** 20, PLACES = 2 ** 32; // both products stay below 2^53
  /* The merges of a vocabulary, by id. A word of n bytes takes time n log n: its pairs wait in a heap, and its tokens
     are a linked list, from which a merge takes one out. */
  class Merges {
    constructor() { this.ranks = new Map(); this.results = []; }
    add(left, right, both) { this.ranks.set(left * IDS + right, this.results.push(both) - 1); }
    /* `ids` after the merges of a rank below `limit`: the lowest rank first, the leftmost of equals. */
    *join(ids, limit = Infinity) {
      const n = ids.length, next = ids.map((_, i) => i + 1), before = ids.map((_, i) => i - 1), waiting = new Heap();
      const rank = (i) => (next[i] < n ? this.ranks.get(ids[i] * IDS + ids[next[i]]) : undefined) ?? Infinity;
      const offer = (i) => { const r = rank(i); if (r < limit) waiting.push(r * PLACES + i); };
      for (let i = 0; i < n; i++) {
        offer(i);
        if (i % OFTEN === OFTEN - 1) yield;
      }
      for (let steps = 1; waiting.size; steps++) {
        if (steps % OFTEN === 0) yield;
        const key = waiting.pop(), i = key % PLACES;
        if (ids[i] < 0 || rank(i) !== Math.floor(key / PLACES)) continue; // one of the two was merged with another
        const gone = next[i];
        ids[i] = this.results[rank(i)];
        ids[gone] = -1;
        next[i] = next[gone];
        if (next[i] < n) before[next[i]] = i;
        offer(i);
        if (before[i] >= 0) offer(before[i]);
      }
      return ids.filter((id) => id >= 0);
    }
    /* Those of a text, cut into words first; `byteIds[b]` is the id of byte b. */
    *encoding(text, byteIds, limit) {
      const out = [];
      let words = 0;
      for (const [word] of text.matchAll(WORD)) {
        for (const id of yield* this.join(Array.from(encoder.encode(word), (b) => byteIds[b]), limit)) out.push(id);
        if (++words % 256 === 0) yield;
      }
      return out;
    }
  }

  // ---- the tokenizers ----------------------------------------------------------------------------
  class Tokenizer {
    encode(text) { return finish(this.encoding(text)); }
    isSpecial() { return false; }
  }

  class CharTokenizer extends Tokenizer {
    constructor({ characters }) {
      super();
      this.characters = Array.from(characters);
      this.ids = new Map(this.characters.map((c, i) => [c, i]));
    }
    *encoding(text) {
      const out = [];
      for (const c of text) {
        if (!this.ids.has(c)) throw new Error(`“${c}” (U+${hex(c.codePointAt(0), 4)}), character ${out.length + 1} of the prompt, is not among the ${this.characters.length} characters this model knows.`);
        if (out.push(this.ids.get(c)) % OFTEN === 0) yield;
      }
      return out;
    }
    decode(ids) { return Array.from(ids, (i) => this.characters[i]).join(""); }
    token(id) { return visible(this.characters[id]); }
  }

  class ByteTokenizer extends Tokenizer {
    *encoding(text) { return Array.from(encoder.encode(text)); }
    decode(ids) { return lenient.decode(Uint8Array.from(ids)); }
    token(id) { return printable(Uint8Array.of(id)); }
  }

  // GPT-2 writes each byte as a character: the printable ones of Latin-1 as themselves, the others from U+0100 on.
  const CHARACTER_OF = [];
  for (let b = 0, others = 0; b < 256; b++) CHARACTER_OF[b] = String.fromCharCode(prints(b) ? b : 256 + others++);
  const BYTE_OF = new Map(CHARACTER_OF.map((c, b) => [c, b]));

  class BPETokenizer extends Tokenizer {
    constructor({ vocab, merges, special_tokens: special }) {
      super();
      const names = new Map(Object.entries(special).map(([text, id]) => [id, text]));
      this.special = new Map(Object.entries(special));
      this.pieces = vocab.map((piece, id) => piece === null ? encoder.encode(names.get(id)) : Uint8Array.from(piece, (c) => BYTE_OF.get(c)));
      const ids = new Map();
      vocab.forEach((piece, id) => { if (piece !== null) ids.set(piece, id); });
      this.byteIds = CHARACTER_OF.map((c) => ids.get(c));
      this.merges = new Merges();
      for (const merge of merges) {
        const [left, right] = merge.split(" ");
        this.merges.add(ids.get(left), ids.get(right), ids.get(left + right));
      }
      const longest = [...this.special.keys()].sort((a, b) => b.length - a.length).map((s) => s.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&"));
      this.cut = longest.length ? new RegExp(`(${longest.join("|")})`) : null;
    }
    *encoding(text) {
      const out = [];
      for (const [i, piece] of (this.cut ? text.split(this.cut) : [text]).entries()) { // split keeps the separators, at odd places
        if (i % 2) out.push(this.special.get(piece));
        else for (const id of yield* this.merges.encoding(piece, this.byteIds)) out.push(id);
      }
      return out;
    }
    decode(ids) {
      const bytes = [];
      for (const id of ids) for (const b of this.pieces[id]) bytes.push(b);
      return lenient.decode(Uint8Array.from(bytes));
    }
    token(id) { return printable(this.pieces[id]); }
    isSpecial(id) { return [...this.special.values()].includes(id); }
  }

  const KINDS = { char: CharTokenizer, byte: ByteTokenizer, bpe: BPETokenizer };
  function tokenizer(state) {
    if (!KINDS[state.kind]) throw new Error(`The model's tokenizer is of a kind this page does not know: “${state.kind}”.`);
    return new KINDS[state.kind](state);
  }

  return { tokenizer, Merges, BYTES, encoder, printable, finish, inSlices };
})();
if (typeof module !== "undefined") module.exports = llmText;
