// Text cut into tokens while one types: byte-level BPE at any size of its vocabulary, from one list of merges.
// cutting.py writes the figure this script brings to life; its first state is in the page already.
const llmCut = (() => {
  const encoder = new TextEncoder(), strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  // Ids 0 to 255 are the bytes in GPT-2's order: those that Latin-1 prints first.
  const prints = (b) => (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
  const all = Array.from({ length: 256 }, (_, b) => b);
  const ORDER = [...all.filter(prints), ...all.filter((b) => !prints(b))], ID = [];
  ORDER.forEach((b, id) => { ID[b] = id; });
  const SPACE = "\\t-\\r \\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000"; // White_Space; \s differs
  const WORD = new RegExp(`'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^${SPACE}\\p{L}\\p{N}]+|[${SPACE}]+(?![^${SPACE}])|[${SPACE}]+`, "gu");
  const VISIBLE = { " ": "␣", "\n": "↵", "\t": "⇥", "\r": "␍" };
  const hex = (n, width) => n.toString(16).toUpperCase().padStart(width, "0");
  const visible = (c) => VISIBLE[c] ?? (/[\p{C}\p{Z}]/u.test(c) ? `⟨U+${hex(c.codePointAt(0), 4)}⟩` : c);

  class Cutter {
    constructor(base64) { // the two ids of every merge, 16 bits each, in the order in which they were learned
      const raw = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0)), pairs = new DataView(raw.buffer);
      this.pieces = ORDER.map((b) => String.fromCharCode(b)); // a character a byte
      this.merges = new Map(); // left · 65536 + right → [rank, id of the two together]
      this.sizes = []; // of the vocabulary, after each merge
      const ids = new Map(this.pieces.map((piece, id) => [piece, id]));
      for (let at = 0; at < raw.length; at += 4) {
        const left = pairs.getUint16(at, true), right = pairs.getUint16(at + 2, true), both = this.pieces[left] + this.pieces[right];
        if (!ids.has(both)) ids.set(both, this.pieces.push(both) - 1);
        this.merges.set(left * 65536 + right, [this.sizes.length, ids.get(both)]);
        this.sizes.push(this.pieces.length);
      }
    }
    encode(text, size = Infinity) { // with the merges that a vocabulary of `size` tokens has
      const found = this.sizes.findIndex((n) => n > size), limit = found < 0 ? Infinity : found, out = [];
      for (const [word] of text.matchAll(WORD)) {
        const ids = Array.from(encoder.encode(word), (b) => ID[b]);
        for (;;) { // the pair of lowest rank first, the leftmost of equals
          let best = [limit], at = -1;
          for (let i = 0; i + 1 < ids.length; i++) {
            const merge = this.merges.get(ids[i] * 65536 + ids[i + 1]);
            if (merge && merge[0] < best[0]) { best = merge; at = i; }
          }
          if (at < 0) break;
          ids.splice(at, 2, best[1]);
        }
        for (const id of ids) out.push(id); // a word may be as long as the text: no spread
      }
      return out;
    }
    token(id) { // what cannot be seen gets a mark; a byte that is no whole character its number
      const bytes = Uint8Array.from(this.pieces[id], (c) => c.charCodeAt(0));
      let shown = "";
      for (let i = 0; i < bytes.length;) {
        const b = bytes[i], n = b < 0x80 ? 1 : b < 0xe0 ? 2 : b < 0xf0 ? 3 : 4;
        try { shown += visible(strict.decode(bytes.subarray(i, i + n))); i += n; } catch { shown += `⟨${hex(b, 2)}⟩`; i++; }
      }
      return shown;
    }
  }

  function start(figure) {
    figure.dataset.live = "yes";
    const data = JSON.parse(figure.querySelector("script[type='application/json']").textContent);
    const part = (name) => figure.querySelector(`[data-part="${name}"]`);
    const cutters = data.tokenizers.map(({ merges }) => new Cutter(merges));
    const [text, example, learned, size] = ["text", "example", "learned", "size"].map(part);
    function draw() {
      const value = text.value.normalize("NFC"), V = data.sizes[size.value], chosen = cutters[learned.value];
      const n_bytes = encoder.encode(value).length, ids = chosen.encode(value, V), strip = part("tokens");
      strip.replaceChildren(...ids.flatMap((id, i) => {
        const token = document.createElement("span");
        token.className = i % 2 ? "odd" : "even";
        token.textContent = chosen.token(id);
        token.title = `number ${id}, ${chosen.pieces[id].length} bytes`;
        return chosen.pieces[id].endsWith("\n") ? [token, document.createElement("br")] : [token];
      }));
      part("size-value").textContent = size.ariaValueText = V.toLocaleString("en");
      const says = (n) => `${n.toLocaleString("en")} tokens${n ? `, ${(n_bytes / n).toFixed(2)} bytes a token` : ""}`;
      part("count").textContent = `${n_bytes.toLocaleString("en")} bytes → ${says(ids.length)}`;
      part("others").textContent = cutters.map((cutter, i) => `${data.tokenizers[i].name} ${cutter.encode(value, V).length.toLocaleString("en")}`).join(" · ");
    }
    example.addEventListener("change", () => { text.value = data.texts[example.value]; draw(); });
    for (const control of [text, learned, size]) control.addEventListener("input", draw);
    for (const control of [text, example, learned, size]) control.disabled = false;
    draw();
  }

  return { Cutter, start };
})();
if (typeof module !== "undefined") module.exports = llmCut;
else document.querySelectorAll("figure.llm-cut:not([data-live])").forEach(llmCut.start);
