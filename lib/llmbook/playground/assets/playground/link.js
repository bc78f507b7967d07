/* What a reader does with the playground, as a fragment of its address: #model=…&prompt=…&seed=…&n=…, and back.
   A text that was drawn with one set of options and one seed is told by its length, n; any other by its tokens, w.
   The same fragment is what a tab remembers while it is open, so that a reload loses nothing. */
const llmLink = (() => {
  "use strict";
  const WHOLE = { seed: [0, 4294967295], n: [0, 100000], k: [1, 1e9], layer: [0, 1e4], head: [0, 1e4] };
  const NUMBERS = { t: [0, 2], p: [0.05, 1], m: [0, 0.5] };

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

  /* The state of a fragment, with or without #. What is no number, no whole number where one is needed, or out of
     range is not guessed at: its name is put into `refused`, which is there only where something was. */
  function unpack(fragment) {
    const state = {}, refused = [], fields = new URLSearchParams(fragment.replace(/^#/, ""));
    for (const name of ["model", "prompt"]) if (fields.has(name)) state[name] = fields.get(name);
    for (const [name, [least, most]] of Object.entries({ ...WHOLE, ...NUMBERS })) {
      if (!fields.has(name)) continue;
      const text = fields.get(name), value = Number(text);
      const spelt = name in WHOLE ? /^\d+$/.test(text) : /^(\d+\.?\d*|\.\d+)$/.test(text);
      if (spelt && value >= least && value <= most) state[name] = value;
      else refused.push(`${name}=${text.slice(0, 20)}`);
    }
    if (fields.has("w")) {
      if (/^[0-9a-z]+(\.[0-9a-z]+)*$/.test(fields.get("w"))) state.w = fields.get("w").split(".").map((id) => parseInt(id, 36));
      else refused.push("w");
    }
    return refused.length ? { ...state, refused } : state;
  }

  /* What the tab remembers under `name` of a page that was opened at `from`, a fragment; null where it is nothing. */
  function recall(name, from) {
    try {
      const kept = JSON.parse(sessionStorage.getItem(name));
      return kept?.from === from ? unpack(kept.state) : null; // a link that is opened anew goes before
    } catch { return null; }
  }
  /* Remember a state; false where the browser refuses, or has no room. */
  function remember(name, from, state) {
    try {
      sessionStorage.setItem(name, JSON.stringify({ from, state: pack(state) }));
      return true;
    } catch { return false; }
  }

  return { pack, unpack, recall, remember };
})();
if (typeof module !== "undefined") module.exports = llmLink;
