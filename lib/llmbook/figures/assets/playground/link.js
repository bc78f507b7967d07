/* What a reader does with the playground, as a fragment of its address: #model=…&prompt=…&seed=…&n=…, and back.
   A text that was drawn with one set of dials and one seed is told by its length, n; any other by its tokens, w. */
const llmLink = (() => {
  "use strict";
  const NUMBERS = { seed: [0, 4294967295], n: [0, 100000], t: [0, 2], k: [1, 1e9], p: [0.05, 1], m: [0, 0.5], layer: [0, 1e4], head: [0, 1e4] };

  /* state: model (its id), prompt, seed, t, k (null: all), p, m, layer, head, and n or w (a list of ids). */
  function pack(state) {
    const fields = new URLSearchParams();
    for (const [name, value] of Object.entries(state)) {
      if (value == null || value === "") continue;
      fields.set(name, name === "w" ? value.map((id) => id.toString(36)).join(".") : value);
    }
    if (state.prompt === "") fields.set("prompt", ""); // an empty prompt is one, too
    return fields.toString();
  }

  /* The state of a fragment, with or without #; what is no number or out of range is left out. */
  function unpack(fragment) {
    const state = {}, fields = new URLSearchParams(fragment.replace(/^#/, ""));
    for (const name of ["model", "prompt"]) if (fields.has(name)) state[name] = fields.get(name);
    for (const [name, [least, most]] of Object.entries(NUMBERS)) {
      const value = Number(fields.get(name) || NaN);
      if (value >= least && value <= most) state[name] = value;
    }
    if (/^[0-9a-z]+(\.[0-9a-z]+)*$/.test(fields.get("w") ?? "")) state.w = fields.get("w").split(".").map((id) => parseInt(id, 36));
    return state;
  }

  return { pack, unpack };
})();
if (typeof module !== "undefined") module.exports = llmLink;
