/* From logits to a token, by the rules of lib/llmbook/inference/sampling.py and in its order. It rounds to single
   precision where PyTorch does: where tokens are equally likely, or a border falls between two, both cut the same. */
const llmChance = (() => {
  "use strict";
  const IDS = 2 ** 20; // more than any vocabulary has
  const round = Math.fround, single = new Float32Array(1), bits = new Uint32Array(single.buffer);

  /* A whole number that grows with the single-precision value of v. */
  function rank(v) {
    single[0] = v + 0; // −0 becomes 0: the two are equal
    return bits[0] & 0x80000000 ? ~bits[0] >>> 0 : (bits[0] | 0x80000000) >>> 0;
  }
  /* The ids by ascending value; of equals the lower id first. One sort of plain numbers: a function that compares
     would take longer than the model does. */
  const ascending = (values) => Uint32Array.from(Float64Array.from(values, (v, i) => rank(v) * IDS + i).sort(), (key) => key % IDS);

  function softmax(logits) {
    let top = -Infinity, sum = 0;
    for (const v of logits) if (v > top) top = v;
    const p = Float64Array.from(logits, (v) => Math.exp(v - top));
    for (const v of p) sum += v;
    return p.map((v) => v / sum);
  }

  /* options: temperature (0: always the likeliest), topK (null: no limit), topP (1: no limit), minP (0: no limit).
     Returns own (the model's probabilities), warm (after the temperature), chance (after the cuts), cutBy (0 kept, 1 by
     top-k, 2 by top-p, 3 by min-p), order (the ids, the likeliest first, of equals the lower), and how many are left
     after each cut: keptByK, keptByP and kept. */
  function distribution(logits, { temperature = 1, topK = null, topP = 1, minP = 0 } = {}) {
    const V = logits.length, own = softmax(logits), cutBy = new Uint8Array(V);
    const order = ascending(Float32Array.from(logits).reverse()).reverse().map((i) => V - 1 - i);
    const level = temperature > 0 ? Float32Array.from(logits, (v) => v / temperature) : new Float32Array(V).fill(-Infinity);
    if (!(temperature > 0)) level[order[0]] = 0;
    const warm = softmax(level), chance = warm.slice();
    const cut = (i, by) => { cutBy[i] = by; chance[i] = 0; };
    const limit = topK == null ? -Infinity : logits[order[Math.min(topK, V) - 1]]; // equals of the k-th stay
    let kept = V;
    for (let i = 0; i < V; i++) if (logits[i] < limit) { cut(i, 1); kept--; }
    const keptByK = kept;
    if (topP < 1) { // the least likely go, as long as they have no more than 1 − p together
      let mass = 0, tail = 0;
      for (const p of chance) mass += p;
      for (const i of ascending(level)) {
        if (cutBy[i]) continue;
        tail += round(warm[i] / mass);
        if (kept === 1 || round(tail) > round(1 - topP)) break;
        cut(i, 2);
        kept--;
      }
    }
    const keptByP = kept;
    if (minP > 0) { // a share of the likeliest, which no cut takes
      let mass = 0;
      for (const p of chance) mass += p;
      const share = (i) => round(chance[i] / mass), bar = round(round(minP) * share(order.find((i) => !cutBy[i])));
      for (let i = 0; i < V; i++) if (!cutBy[i] && share(i) < bar) { cut(i, 3); kept--; }
    }
    let total = 0;
    for (const p of chance) total += p;
    for (let i = 0; i < V; i++) chance[i] /= total;
    return { own, warm, chance, cutBy, order, keptByK, keptByP, kept };
  }

  /* The n-th number in [0, 1) of a seed. A function of both, with no state, so that a text can be taken back or replayed:
     seed and n are spread by the golden ratio, then stirred by the finaliser of MurmurHash3
     (https://github.com/aappleby/smhasher), in which every bit of the input moves every bit of the output. */
  function uniform(seed, n) {
    const stir = (h) => {
      h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
      h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
      return (h ^ (h >>> 16)) >>> 0;
    };
    return stir(stir(seed >>> 0) + Math.imul(n + 1, 0x9e3779b9)) / 2 ** 32;
  }

  /* The token whose share of [0, 1) holds u, the shares laid out in the order of the ids. */
  function draw(chance, u) {
    let sum = 0, last = 0;
    for (let i = 0; i < chance.length; i++) if (chance[i] > 0) {
      sum += chance[last = i];
      if (u < sum) return i;
    }
    return last; // rounding left the sum below u
  }

  return { distribution, uniform, draw };
})();
if (typeof module !== "undefined") module.exports = llmChance;
