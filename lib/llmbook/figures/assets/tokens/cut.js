// Text cut into tokens while one types: byte-level BPE at any size of its vocabulary, from one list of merges.
// cutting.py writes the figure this script brings to life; its first state is in the page already.
const llmCut = (() => {
  const { Merges, BYTES, encoder, printable, finish, inSlices } = typeof module !== "undefined" ? require("../../../playground/assets/playground/text.js") : llmText;
  const SHOWN = 1500; // tokens; a page of more is not read, and takes long to lay out
  const IDS = 60; // shown; cutting.py shows as many
  const BYTE_IDS = [];
  BYTES.forEach((b, id) => { BYTE_IDS[b] = id; });

  class Cutter {
    constructor(base64) { // the two ids of every merge, 16 bits each, in the order in which they were learned
      const raw = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0)), pairs = new DataView(raw.buffer);
      this.pieces = BYTES.map((b) => String.fromCharCode(b)); // a character a byte
      this.merges = new Merges();
      this.sizes = []; // of the vocabulary, after each merge
      const ids = new Map(this.pieces.map((piece, id) => [piece, id]));
      for (let at = 0; at < raw.length; at += 4) {
        const left = pairs.getUint16(at, true), right = pairs.getUint16(at + 2, true), both = this.pieces[left] + this.pieces[right];
        if (!ids.has(both)) ids.set(both, this.pieces.push(both) - 1);
        this.merges.add(left, right, ids.get(both));
        this.sizes.push(this.pieces.length);
      }
    }
    encoding(text, size = Infinity) { // with the merges that a vocabulary of `size` tokens has
      const found = this.sizes.findIndex((n) => n > size);
      return this.merges.encoding(text, BYTE_IDS, found < 0 ? Infinity : found);
    }
    encode(text, size) { return finish(this.encoding(text, size)); }
    token(id) { return printable(Uint8Array.from(this.pieces[id], (c) => c.charCodeAt(0))); }
  }

  function start(figure) {
    figure.dataset.live = "yes";
    const data = JSON.parse(figure.querySelector("script[type='application/json']").textContent);
    const part = (name) => figure.querySelector(`[data-part="${name}"]`);
    const cutters = data.tokenizers.map(({ merges }) => new Cutter(merges));
    const [text, example, learned, size] = ["text", "example", "learned", "size"].map(part);
    const number = (n) => n.toLocaleString("en");
    let job = 0;
    async function draw() {
      const mine = ++job, { value } = text, V = data.sizes[size.value], chosen = cutters[learned.value];
      part("size-value").textContent = size.ariaValueText = number(V);
      const cut = (cutter) => inSlices(cutter.encoding(value, V), () => mine !== job);
      const ids = await cut(chosen);
      if (mine !== job) return; // the text has changed meanwhile
      const n_bytes = encoder.encode(value).length, strip = part("tokens");
      strip.replaceChildren(...ids.slice(0, SHOWN).flatMap((id, i) => {
        const token = document.createElement("span");
        token.className = i % 2 ? "odd" : "even";
        token.textContent = chosen.token(id);
        token.title = `id ${id}, ${chosen.pieces[id].length} bytes`;
        return chosen.pieces[id].endsWith("\n") ? [token, document.createElement("br")] : [token];
      }), ids.length > SHOWN ? ` … and ${number(ids.length - SHOWN)} more, which are counted and not shown.` : "");
      part("ids").textContent = `ids: ${ids.slice(0, IDS).join(" ")}${ids.length > IDS ? " …" : ""}`;
      const says = (n) => `${number(n)} tokens${n ? `, ${(n_bytes / n).toFixed(2)} bytes a token` : ""}`;
      part("count").textContent = `${number(n_bytes)} bytes → ${says(ids.length)}`;
      const counts = [];
      for (const [i, cutter] of cutters.entries()) {
        const found = cutter === chosen ? ids : await cut(cutter);
        if (mine !== job) return;
        counts.push(`${data.tokenizers[i].name} ${number(found.length)}`);
      }
      part("others").textContent = counts.join(" · ");
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
