/* The book's DecoderLM in plain JavaScript: one token in, the logits of the next and every head's attention out.
   It reads the file that lib/llmbook/playground/writing.py writes (weights in half precision behind a JSON header), and
   the names are those of lib/llmbook/model. No dependency, no WebAssembly; the same file serves a page, a worker of
   that page (reader.js starts it from the text of this very function) and node. */
const llmGPT = (function gpt() {
  "use strict";
  const MAGIC = "LLMBOOK1", PREFIX = 12; // 8 letters, then the length of the header as a 32-bit number
  const GATED = ["swiglu", "geglu", "geglu_tanh"];

  // ---- the file ------------------------------------------------------------------------------
  function read(buffer) {
    const bytes = new Uint8Array(buffer);
    if (new TextDecoder().decode(bytes.subarray(0, 8)) !== MAGIC) throw new Error(bytes.length < 8
      ? `The model is missing: its file has ${bytes.length} bytes. Export it again.`
      : "This is not a model exported by llmbook, or one of another version. Export it again.");
    const size = bytes.length < PREFIX ? Infinity : new DataView(buffer).getUint32(8, true), start = PREFIX + size;
    const short = (whole) => new Error(`The model's file is cut short: ${bytes.length} bytes of ${whole}. Export or load it again.`);
    if (bytes.length < start) throw short(Number.isFinite(start) ? `at least ${start}` : `more than ${PREFIX}`);
    const header = JSON.parse(new TextDecoder().decode(bytes.subarray(PREFIX, start)));
    if (bytes.length !== start + header.bytes) {
      if (bytes.length < start + header.bytes) throw short(start + header.bytes);
      throw new Error(`The model's file has ${bytes.length - start - header.bytes} bytes too many. Export it again.`);
    }
    const weights = {};
    for (const [name, { shape, offset, dtype }] of Object.entries(header.tensors)) {
      const n = shape.reduce((a, b) => a * b, 1);
      weights[name] = dtype === "f4" ? new Float32Array(buffer, start + offset, n) : widen(new Uint16Array(buffer, start + offset, n));
    }
    return { header, weights };
  }

  function widen(halves) { // IEEE half -> single: 1 sign, 5 exponent (bias 15) and 10 fraction bits
    const out = new Float32Array(halves.length), bits = new Uint32Array(out.buffer);
    for (let i = 0; i < halves.length; i++) {
      const h = halves[i], sign = (h & 0x8000) << 16, exponent = (h >> 10) & 31, fraction = h & 1023;
      if (exponent) bits[i] = sign | ((exponent + 112) << 23) | (fraction << 13);
      else out[i] = (sign ? -1 : 1) * fraction * 2 ** -24;
    }
    return out;
  }

  // ---- the parts of a block ------------------------------------------------------------------
  const erf = (x) => { // to 1.5e-7: Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26
    const t = 1 / (1 + 0.3275911 * Math.abs(x));
    const tail = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
    return Math.sign(x) * (1 - tail * Math.exp(-x * x));
  };
  const gelu = (x) => 0.5 * x * (1 + erf(x * Math.SQRT1_2));
  const geluTanh = (x) => 0.5 * x * (1 + Math.tanh(0.7978845608028654 * (x + 0.044715 * x ** 3)));
  const ACTIVATIONS = {
    relu: (x) => Math.max(x, 0), relu2: (x) => Math.max(x, 0) ** 2, gelu, gelu_tanh: geluTanh,
    swiglu: (x) => x / (1 + Math.exp(-x)), geglu: gelu, geglu_tanh: geluTanh,
  };

  function product(W, b, x, rows) { // y = W x + b, W [rows, x.length] row by row; four rows at a time share each x
    const y = new Float32Array(rows), n = x.length;
    let o = 0, r = 0;
    for (; o + 4 <= rows; o += 4, r += 4 * n) {
      let s0 = 0, s1 = 0, s2 = 0, s3 = 0;
      for (let i = 0, r1 = r + n, r2 = r1 + n, r3 = r2 + n; i < n; i++) {
        const v = x[i];
        s0 += W[r + i] * v; s1 += W[r1 + i] * v; s2 += W[r2 + i] * v; s3 += W[r3 + i] * v;
      }
      y[o] = s0; y[o + 1] = s1; y[o + 2] = s2; y[o + 3] = s3;
    }
    for (; o < rows; o++, r += n) {
      let s = 0;
      for (let i = 0; i < n; i++) s += W[r + i] * x[i];
      y[o] = s;
    }
    if (b) for (o = 0; o < rows; o++) y[o] += b[o];
    return y;
  }

  // Both go four rows of keys or values at a time: a processor does the four side by side.
  function dots(q, o, D, K, kv, width, from, to, a) { // a[j] = q · k_j, for D numbers of q from o and of row j of K from kv
    let j = from;
    for (; j + 4 <= to; j += 4) {
      let s0 = 0, s1 = 0, s2 = 0, s3 = 0;
      for (let i = 0, k0 = j * width + kv, k1 = k0 + width, k2 = k1 + width, k3 = k2 + width; i < D; i++) {
        const v = q[o + i];
        s0 += v * K[k0 + i]; s1 += v * K[k1 + i]; s2 += v * K[k2 + i]; s3 += v * K[k3 + i];
      }
      a[j] = s0; a[j + 1] = s1; a[j + 2] = s2; a[j + 3] = s3;
    }
    for (; j < to; j++) {
      let s = 0;
      for (let i = 0; i < D; i++) s += q[o + i] * K[j * width + kv + i];
      a[j] = s;
    }
  }
  function mix(y, o, D, V, kv, width, from, to, a) { // y += Σ a[j] v_j, at the same places
    let j = from;
    for (; j + 4 <= to; j += 4) {
      const a0 = a[j], a1 = a[j + 1], a2 = a[j + 2], a3 = a[j + 3];
      for (let i = 0, k0 = j * width + kv, k1 = k0 + width, k2 = k1 + width, k3 = k2 + width; i < D; i++) {
        y[o + i] += a0 * V[k0 + i] + a1 * V[k1 + i] + a2 * V[k2 + i] + a3 * V[k3 + i];
      }
    }
    for (; j < to; j++) for (let i = 0; i < D; i++) y[o + i] += a[j] * V[j * width + kv + i];
  }

  function rms(x, gain, eps) { // x / sqrt(mean(x²) + ε) · gain
    let sum = 0;
    for (let i = 0; i < x.length; i++) sum += x[i] * x[i];
    const r = 1 / Math.sqrt(sum / x.length + eps);
    return x.map((v, i) => v * r * gain[i]);
  }
  function layerNorm(x, gain, bias, eps) {
    let mean = 0, variance = 0;
    for (let i = 0; i < x.length; i++) mean += x[i];
    mean /= x.length;
    for (let i = 0; i < x.length; i++) variance += (x[i] - mean) ** 2;
    const r = 1 / Math.sqrt(variance / x.length + eps);
    return x.map((v, i) => (v - mean) * r * gain[i] + (bias ? bias[i] : 0));
  }

  class Model {
    /* buffer: an ArrayBuffer with the whole file. Throws an Error whose message can be shown to a reader. */
    constructor(buffer) {
      const { header, weights } = read(buffer);
      Object.assign(this, { header, weights, config: header.config });
      this.capacity = 0;
      this.crop(0);
    }
    get length() { return this.ids.length; }
    get maxLength() { return this.config.max_seq_len; }

    /* Forget all but the first n tokens. */
    crop(n) {
      this.ids = (this.ids ?? []).slice(0, n);
      // attention[layer][position]: the weights of all heads over positions 0 … position, head after head
      this.attention = Array.from({ length: this.config.n_layers }, (_, l) => (this.attention?.[l] ?? []).slice(0, n));
      this.logits = null; // those of the last token fed with `last`
    }

    /* The weights of one head at one position: what the token there read of each token up to itself. */
    row(layer, head, position) {
      return this.attention[layer][position].subarray(head * (position + 1), (head + 1) * (position + 1));
    }

    /* Read one more token. Returns the logits [V] of the next, or null where `last` says nobody will look. */
    step(id, last = true) {
      const c = this.config, w = this.weights, t = this.length;
      if (t >= this.maxLength) throw new Error(`The context is full: this model reads at most ${this.maxLength} tokens.`);
      if (!(id >= 0 && id < c.vocab_size)) throw new Error(`Token ${id} is not among the ${c.vocab_size} of the model.`);
      this.reserve(t + 1);
      let x = this.embed(id, t);
      const angles = w.frequencies && this.angles(t);
      for (let l = 0; l < c.n_layers; l++) {
        const block = `backbone.blocks.${l}.`, pre = c.norm_position === "pre";
        const add = (norm, part) => { // x + part(norm(x)), or norm(x + part(x)) where the norm comes after
          const y = part(pre ? this.norm(norm, x) : x);
          for (let i = 0; i < y.length; i++) y[i] += x[i];
          x = pre ? y : this.norm(norm, y);
        };
        add(block + "attention_norm", (y) => this.attend(l, block + "attention.", y, angles));
        add(block + "feed_forward_norm", (y) => this.feedForward(block + "feed_forward.", y));
      }
      this.ids.push(id);
      if (!last) return this.logits = null;
      if (c.norm_position === "pre") x = this.norm("backbone.final_norm", x);
      if (c.logit_scale !== 1) x = x.map((v) => v * c.logit_scale);
      return this.logits = product(w[c.tie_embeddings ? "backbone.embeddings.tokens.weight" : "lm_head.weight"], null, x, c.vocab_size);
    }

    embed(id, t) {
      const { config: c, weights: w } = this, C = c.d_model, scale = c.scale_embeddings ? Math.sqrt(C) : 1;
      const positions = w.positions ?? w["backbone.embeddings.positions.table.weight"];
      const x = w["backbone.embeddings.tokens.weight"].slice(id * C, (id + 1) * C);
      for (let i = 0; i < C; i++) {
        x[i] *= scale;
        if (positions) x[i] += positions[t * C + i];
        if (c.n_segments) x[i] += w["backbone.embeddings.segments.weight"][i];
      }
      return c.embedding_norm ? this.norm("backbone.embeddings.norm", x) : x;
    }

    norm(name, x) {
      const gain = this.weights[name + ".weight"], bias = this.weights[name + ".bias"], eps = this.config.norm_eps;
      return this.config.norm === "rmsnorm" ? rms(x, gain, eps) : layerNorm(x, gain, bias, eps);
    }

    linear(name, x, rows) { return product(this.weights[name + ".weight"], this.weights[name + ".bias"], x, rows); }

    angles(t) { // cosines and sines of position t
      const { weights: { frequencies }, header: { rope_amplitude: a } } = this;
      return { cos: frequencies.map((f) => Math.cos(Math.fround(t * f)) * a), sin: frequencies.map((f) => Math.sin(Math.fround(t * f)) * a) };
    }

    heads(name, norm, x, n, angles) { // project into n heads, then what is done to queries and keys alone
      const D = this.config.d_head, y = this.linear(name, x, n * D), gain = this.weights[norm + ".weight"];
      for (let h = 0; h < n; h++) {
        const part = y.subarray(h * D, (h + 1) * D);
        if (gain) part.set(rms(part, gain, this.config.norm_eps));
        if (angles) for (let i = 0, half = D / 2; i < half; i++) { // pairs (i, i + D/2), as in rotary.py
          const a = part[i], b = part[i + half];
          part[i] = a * angles.cos[i] - b * angles.sin[i];
          part[i + half] = b * angles.cos[i] + a * angles.sin[i];
        }
      }
      return y;
    }

    attend(l, name, x, angles) {
      const { n_heads: H, n_kv_heads: Hk, d_head: D, sliding_window, attention_scale } = this.config, t = this.length;
      const K = this.keys[l], V = this.values[l], width = Hk * D, scale = attention_scale ?? 1 / Math.sqrt(D);
      const q = this.heads(name + "q_proj", name + "q_norm", x, H, angles);
      K.set(this.heads(name + "k_proj", name + "k_norm", x, Hk, angles), t * width);
      V.set(this.linear(name + "v_proj", x, width), t * width);
      const all = new Float32Array(H * (t + 1)), mixed = new Float32Array(H * D);
      const first = sliding_window ? Math.max(0, t - sliding_window + 1) : 0;
      const bias = this.weights.distance_bias; // [H, S]: added to a score, by how far back the key lies
      for (let h = 0; h < H; h++) {
        const a = all.subarray(h * (t + 1), (h + 1) * (t + 1)), kv = Math.floor(h * Hk / H) * D, o = h * D;
        dots(q, o, D, K, kv, width, first, t + 1, a);
        let top = -Infinity, sum = 0;
        for (let j = first; j <= t; j++) {
          a[j] = a[j] * scale + (bias ? bias[h * this.maxLength + t - j] : 0);
          if (a[j] > top) top = a[j];
        }
        for (let j = first; j <= t; j++) sum += a[j] = Math.exp(a[j] - top);
        for (let j = first; j <= t; j++) a[j] /= sum;
        mix(mixed, o, D, V, kv, width, first, t + 1, a);
      }
      this.attention[l].push(all);
      return this.linear(name + "o_proj", mixed, this.config.d_model);
    }

    feedForward(name, x) {
      const { d_ff: F, d_model: C, feed_forward: kind } = this.config, bend = ACTIVATIONS[kind];
      const up = this.linear(name + "up_proj", x, F);
      if (!GATED.includes(kind)) return this.linear(name + "down_proj", up.map(bend), C);
      const gate = this.linear(name + "gate_proj", x, F);
      return this.linear(name + "down_proj", up.map((v, i) => bend(gate[i]) * v), C);
    }

    reserve(n) { // room for the keys and values of n positions; doubled when it runs out
      if (n <= this.capacity) return;
      this.capacity = Math.min(this.maxLength, Math.max(n, 2 * this.capacity, 64));
      const grown = (old) => Array.from({ length: this.config.n_layers }, (_, l) => {
        const room = new Float32Array(this.capacity * this.config.n_kv_heads * this.config.d_head);
        if (old) room.set(old[l]);
        return room;
      });
      this.keys = grown(this.keys);
      this.values = grown(this.values);
    }
  }

  // ---- behind a page: in it, or in a worker ---------------------------------------------------
  /* Forget all but `keep` tokens and read `ids`, for at most `patience` ms and at least one of them. Returns how many it
     read, each one's attention (a list of layers), the logits of the last of `ids` once that is read and asked for, and
     the ms that the last token took. */
  function advance(model, { keep, ids, last, patience }) {
    model.crop(keep);
    const rows = [], start = performance.now();
    let before = start, now = start;
    for (const [i, id] of ids.entries()) {
      before = now;
      model.step(id, last && i === ids.length - 1);
      rows.push(model.attention.map((layer) => layer.at(-1)));
      now = performance.now();
      if (now - start >= patience) break;
    }
    return { rows, logits: rows.length === ids.length ? model.logits : null, spent: now - before };
  }

  /* Answer the messages of reader.js, in their order: first the file of a model, then what to read. */
  function serve(port) {
    let model;
    port.onmessage = ({ data }) => {
      try {
        if (data.buffer) {
          model = new Model(data.buffer);
          port.postMessage({ header: model.header });
        } else {
          const done = advance(model, data), whole = done.rows.flat().map((row) => row.buffer);
          port.postMessage(done, done.logits ? [...whole, done.logits.buffer] : whole);
        }
      } catch (error) { port.postMessage({ error: error.message }); }
    };
    port.postMessage({ ready: true });
  }

  return { Model, advance, serve, source: gpt };
})();
if (typeof module !== "undefined") module.exports = llmGPT;
