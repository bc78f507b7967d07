/* The playground: a reader types, a model of the book (gpt.js) reads, and everything it does on the way is shown.
   llmPlayground.mount(element) builds it inside an element that holds its settings as JSON:
     {"models": [{"name": …, "about": …, "prompt": …, "data": id of a <script> with base64, or "url": …,
                  "id": its name in links, "lang": of its text, "bytes": of its file, "card": [[term, text], …]}],
      "tries": [{"label": …, and a state as in link.js}], "links": whether the address may carry the reader's text}
   Nothing moves until the reader asks for it, and nothing leaves the page. */
(() => {
  "use strict";
  if (globalThis.llmPlayground) return;
  const { distribution, uniform, draw } = llmGPT, { Reader } = llmReader, { Maps } = llmMaps, { pack, unpack } = llmLink;
  const ROWS = 30; // candidates that are listed
  const PACE = 33; // ms between two tokens while writing
  const GLANCE = 250; // ms between two drawings of all heads while writing
  const WAITING = 3; // presses that are kept while the model reads
  const REPLAYED = 40; // tokens, where none has been written yet
  const KS = [1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000];
  const BY_HAND = "by hand";

  const el = (tag, attributes = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else if (value === true) node.setAttribute(name, "");
      else if (value !== false && value != null) node.setAttribute(name, value);
    }
    node.append(...children);
    return node;
  };
  const percent = (p) => p >= 0.0995 ? `${Math.round(100 * p)} %` : p >= 0.0005 ? `${(100 * p).toFixed(1)} %` : p > 0 ? "< 0.1 %" : "0 %";
  const plural = (n, what) => `${n.toLocaleString("en")} ${what}${n === 1 ? "" : "s"}`;
  const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });
  let boxes = 0;

  /* One stop of the Tab key for a group; arrows move inside it (by `columns` up and down), Home and End to its ends. */
  function rove(group, items, columns, move) {
    group.addEventListener("keydown", (event) => {
      const all = items(), at = all.indexOf(event.target.closest("[data-rove]"));
      const to = { ArrowLeft: at - 1, ArrowRight: at + 1, ArrowUp: at - columns(), ArrowDown: at + columns(),
                   Home: 0, End: all.length - 1 }[event.key];
      if (at < 0 || to === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      const next = all[Math.max(0, Math.min(all.length - 1, to))];
      move(next);
      next.focus();
    });
  }

  const megabytes = (n) => `${(n / 1e6).toFixed(1)} MB`;

  /* The file of a model; heard(text) says how far it is. */
  async function fetchModel(source, heard) {
    if (source.url) return download(source, heard);
    const text = document.getElementById(source.data)?.textContent.trim();
    if (!text) throw new Error("The model is missing from this page. Export it again.");
    let raw;
    try { raw = atob(text); } catch { throw new Error("The model in this page is damaged: the file was cut short or edited. Export it again."); }
    const bytes = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
    return bytes.buffer;
  }

  async function download({ url, bytes: whole }, heard) {
    if (location.protocol === "file:") throw new Error("This page was opened from a disk, and from there a browser lets no page load a model. "
      + "Run `make serve` in the book's folder and open the address it prints. (A model that you export from a chapter does open from a disk.)");
    const parts = [];
    let n = 0;
    try {
      const answer = await fetch(new URL(url, document.baseURI));
      if (!answer.ok) throw new Error(`The model could not be fetched: the site answered ${answer.status}.`);
      for (const stream = answer.body.getReader();;) {
        const { done, value } = await stream.read();
        if (done) break;
        parts.push(value);
        n += value.length;
        if (whole) heard(`Loading the model: ${megabytes(n)} of ${megabytes(whole)} …`);
      }
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // a browser's words for a failing network differ
      throw new Error(n ? `The model could not be fetched: the connection was lost after ${megabytes(n)}.` : "The model could not be fetched: there is no connection to the site.");
    }
    return new Blob(parts).arrayBuffer();
  }

  function mount(root) {
    if (root.dataset.state) return;
    root.dataset.state = "loading";
    const settings = JSON.parse(root.querySelector('script[type="application/json"]').textContent), { models, tries = [] } = settings;
    const id = `pg${++boxes}-`;
    let source = models[0], reader, words, maps, typed = [], written = [], made = []; // made: with which dials each was drawn
    let past = "", selected = null, layer = 0, head = 0, job = 0, opening = 0, waiting = 0, turn = Promise.resolve();
    let reading = false, writing = false, trouble = "", candidates = null, due = 0; // due: when the small pictures are drawn again

    // ---- what is on the page -------------------------------------------------------------------
    const labelled = (text, control) => el("label", { for: control.id }, el("span", {}, text), control);
    const about = el("p", { class: "pg-about" }), card = el("dl", {}), details = el("details", { class: "pg-card" }, el("summary", {}, "Model card"), card);
    const which = models.map((m, i) => el("input", { type: "radio", name: id + "model", value: i, checked: !i, autocomplete: "off", onchange: () => open(i) }));
    const prompt = el("textarea", { id: id + "prompt", rows: 3, spellcheck: "false", autocomplete: "off", autocapitalize: "off", "aria-describedby": id + "keys" });
    const dial = (label, attributes, shown) => {
      const input = el("input", { type: "range", autocomplete: "off", ...attributes }), output = el("output", {});
      const say = () => { output.textContent = shown(+input.value); input.setAttribute("aria-valuetext", output.textContent); };
      input.addEventListener("input", () => { say(); bars(); });
      return { input, say, label: el("label", {}, el("span", {}, label), input, output) };
    };
    let ks = KS;
    const temperature = dial("Temperature", { min: 0, max: 2, step: 0.05, value: 0.8 }, (v) => v ? v.toFixed(2) : "0: likeliest");
    const topK = dial("Top-k", { min: 0, max: KS.length, step: 1, value: KS.length }, (v) => ks[v] == null ? "all" : String(ks[v]));
    const topP = dial("Top-p", { min: 0.05, max: 1, step: 0.05, value: 1 }, (v) => v < 1 ? v.toFixed(2) : "all");
    const minP = dial("Min-p", { min: 0, max: 0.5, step: 0.01, value: 0 }, (v) => v ? v.toFixed(2) : "all");
    const dialled = [temperature, topK, topP, minP];
    const seed = el("input", { type: "number", id: id + "seed", min: 0, max: 4294967295, step: 1, value: 1, autocomplete: "off", oninput: () => buttons() });
    const allowed = (control) => control.getAttribute("aria-disabled") !== "true";
    const button = (label, press, extra = {}) => el("button", { type: "button", onclick: (event) => { if (allowed(event.currentTarget)) press(); }, ...extra }, label);
    const write = button("Write", () => writing ? stop() : act(() => stream(Infinity)), { class: "pg-write pg-main" });
    const one = button("Add a token", () => act(step), { class: "pg-one" });
    const back = button("Take one back", () => act(takeBack));
    const replay = button("Replay", () => act(again), { title: "Write the same number of tokens once more, from the same seed" });
    const another = button("New seed", () => { seed.value = Math.floor(Math.random() * 1e6); buttons(); });
    const link = button("Copy a link", share, { title: "An address that brings back this model, prompt, seed and text" });
    const status = el("p", { class: "pg-status", role: "status" }), meter = el("p", { class: "pg-meter" });
    const gone = el("span", { class: "pg-gone" }), before = el("span", {}), after = el("span", { class: "pg-written" });
    const text = el("div", { class: "pg-text", tabindex: 0, role: "group", "aria-label": "The text" }, gone, before, after);
    const chips = el("div", { class: "pg-tokens", role: "listbox", "aria-label": "The text as tokens", "aria-orientation": "horizontal" });
    const summary = el("p", { class: "pg-note pg-left" });
    const rows = Array.from({ length: ROWS }, (_, i) => {
      const pick = button("", () => { const token = candidates.order[i]; act(() => take(token, BY_HAND, `Added ${named(token)}.`)); }, { "data-rove": true, tabindex: i ? -1 : 0, title: "Add this token" });
      const own = el("i", { class: "pg-own" }), now = el("i", { class: "pg-now" }), given = el("td", {}), left = el("td", {});
      const track = el("td", { class: "pg-track" }, el("div", { "aria-hidden": "true" }, own, now));
      return { pick, own, now, given, left, row: el("tr", { hidden: true }, el("th", { scope: "row" }, pick), track, given, left) };
    });
    const body = el("tbody", {}, ...rows.map((r) => r.row));
    const table = el("table", {}, el("caption", { class: "pg-unseen" }, "The likeliest next tokens"),
      el("thead", {}, el("tr", {}, ...["Token", "Probability", "Model", "Now"].map((t) => el("th", { scope: "col" }, t)))), body);
    const layers = el("select", { id: id + "layer", autocomplete: "off", onchange: () => choose(+layers.value, head) });
    const heads = el("select", { id: id + "head", autocomplete: "off", onchange: () => choose(layer, +heads.value) });
    const large = el("canvas", { class: "pg-map", role: "img", onclick: (event) => { const at = maps?.rowAt(event.offsetY) ?? -1; if (at >= 0) select(chips.children[at]); } });
    const readout = el("p", { class: "pg-readout", "aria-live": "polite" });
    const small = el("div", { class: "pg-heads", role: "radiogroup", "aria-label": "All heads" });
    const scale = el("p", { class: "pg-note pg-scale" }, "weight 0 ", el("span", { "aria-hidden": "true" }), " 100 %, on a square-root scale; grey: hidden from that row");
    const section = (name, title, ...inside) => el("section", { class: `pg-${name}`, "aria-labelledby": id + name }, el("h2", { id: id + name }, title), ...inside);
    const parts = [
      ...(models.length > 1 ? [el("fieldset", { class: "pg-models" }, el("legend", {}, "Model"), ...which.map((radio, i) => el("label", {}, radio, el("span", {}, models[i].name))))] : []),
      el("div", { class: "pg-line" }, about, details),
      el("div", { class: "pg-panels" },
        section("desk", "Prompt and text",
          ...(tries.length ? [el("div", { class: "pg-tries", role: "group", "aria-label": "Things to try" }, el("span", { "aria-hidden": "true" }, "Try:"), ...tries.map((t) => button(t.label, () => arrive(t, PACE))))] : []),
          el("div", { class: "pg-line" }, el("label", { class: "pg-label", for: prompt.id }, "Prompt"), el("span", { class: "pg-note", id: id + "keys" }, "Ctrl + Enter writes, Escape stops")), prompt,
          el("div", { class: "pg-buttons", role: "group", "aria-label": "Writing" }, write, one, back, replay),
          status, text,
          el("div", { class: "pg-buttons pg-again", role: "group", "aria-label": "Chance" }, labelled("Seed", seed), another, ...(settings.links ? [link] : []))),
        section("next", "What comes next",
          el("div", { class: "pg-dials", role: "group", "aria-label": "How the next token is chosen" }, ...dialled.map((d) => d.label)), summary,
          el("div", { class: "pg-bars", tabindex: 0, role: "group", "aria-label": "The likeliest next tokens" }, table),
          el("p", { class: "pg-note" }, "Hollow: what the model says. Full: what is drawn from, after the dials. Hatched: cut away. Choose a token to add it yourself.")),
        section("strip", "The text as tokens", chips,
          el("p", { class: "pg-note" }, "Underlined: written by the model. Choose a token to see what it read: the stronger the colour behind a token, the more of it."), meter),
        section("look", "Who reads whom",
          el("div", { class: "pg-pair" }, labelled("Layer", layers), labelled("Head", heads)),
          large, readout, scale, el("p", { class: "pg-note" }, "A row is the token that reads, a column the token that is read. Choose a row to follow it.")),
        section("all", "Every head",
          el("p", { class: "pg-note" }, "A line of pictures for each layer, a picture for each head. Choose one to see it large."), small)),
    ];

    // ---- drawing -------------------------------------------------------------------------------
    const named = (token) => `“${words.token(token)}”`;
    const dials = () => ({ temperature: +temperature.input.value, topK: ks[topK.input.value] ?? null, topP: +topP.input.value, minP: +minP.input.value });
    const position = () => Math.min(selected ?? Infinity, reader.length - 1); // of the token whose reading is shown
    const say = (text, wrong = false) => { if (status.textContent !== text) status.textContent = text; status.classList.toggle("pg-wrong", wrong); };
    const isFull = () => reader.length >= reader.maxLength;

    function buttons() {
      const ready = reader && !trouble && !reading, seeded = seed.validity.valid && seed.value !== "", full = ready && isFull();
      seed.setAttribute("aria-invalid", !seeded);
      // aria-disabled, not disabled: a control that has the focus keeps it
      const off = (control, yes) => control.setAttribute("aria-disabled", Boolean(yes));
      off(one, !ready || full || writing || !seeded);
      off(write, !writing && (!ready || full || !seeded));
      off(back, !ready || writing || !written.length);
      off(replay, !ready || writing || !seeded || (full && !written.length));
      off(link, !ready || writing || !seeded);
      write.textContent = writing ? "Stop" : "Write";
      readout.setAttribute("aria-live", writing ? "off" : "polite");
    }

    const painted = new WeakMap();
    chips.addEventListener("pointerover", ({ target }) => {
      const i = [...chips.children].indexOf(target), now = reader?.length ? position() : -1;
      if (i >= 0 && i < reader.length) target.title = `position ${i}, token ${reader.ids[i]}` + (i <= now ? `; read with weight ${percent(reader.row(layer, head, now)[i])}` : "");
    });
    function tokens() {
      const ids = reader.ids, now = position();
      while (chips.children.length > ids.length) chips.lastChild.remove();
      while (chips.children.length < ids.length) chips.append(el("span", { role: "option", "data-rove": true, onclick: (event) => select(event.currentTarget) }));
      const weights = reader.row(layer, head, now), atEnd = selected === null;
      gone.textContent = past;
      before.textContent = words.decode(ids.slice(0, typed.length));
      after.textContent = words.decode(ids).slice(before.textContent.length);
      ids.forEach((token, i) => {
        const chip = chips.children[i], shown = words.token(token), share = weights[i] ?? 0, chosen = String(i === now);
        const colour = i <= now ? `rgba(230, 159, 0, ${(0.42 * Math.sqrt(share)).toFixed(2)})` : "";
        if (chip.textContent !== shown) chip.textContent = shown; // what stays as it is costs nothing
        chip.classList.toggle("pg-written", i >= typed.length);
        chip.classList.toggle("pg-break", shown.endsWith("↵"));
        if (chip.getAttribute("aria-selected") !== chosen) {
          chip.setAttribute("aria-selected", chosen);
          chip.tabIndex = i === now ? 0 : -1;
        }
        if (painted.get(chip) !== colour) painted.set(chip, chip.style.backgroundColor = colour);
      });
      if (atEnd) for (const box of [text, chips]) box.scrollTop = box.scrollHeight;
      const best = Array.from(weights, (w, i) => [w, i]).sort((a, b) => b[0] - a[0]).slice(0, 5).filter(([w]) => w >= 0.005);
      readout.textContent = `Layer ${layer}, head ${head}: ${named(ids[now])} at position ${now} reads `
        + best.map(([w, i]) => `${named(ids[i])}${i === now ? " (itself)" : ""} ${percent(w)}`).join(", ") + ".";
      meter.textContent = `${plural(reader.length, "token")} of at most ${reader.maxLength.toLocaleString("en")}; ${reader.spent.toFixed(1)} ms for the last one.`;
    }

    function bars() {
      if (!reader?.logits) return;
      const d = candidates = distribution(reader.logits, dials()), V = d.own.length, listed = Math.min(ROWS, V);
      const most = Math.max(d.own[d.order[0]], ...Array.from(d.order.subarray(0, listed), (i) => Math.max(d.chance[i], d.warm[i])));
      rows.forEach((r, at) => {
        r.row.hidden = at >= listed;
        if (r.row.hidden) return;
        const i = d.order[at], cut = ["", "top-k", "top-p", "min-p"][d.cutBy[i]];
        if (r.pick.textContent !== words.token(i)) r.pick.textContent = words.token(i);
        r.own.style.width = `${100 * d.own[i] / most}%`;
        r.now.style.width = `${100 * (cut ? d.warm[i] : d.chance[i]) / most}%`;
        r.row.className = cut ? "pg-cut" : "";
        r.given.textContent = percent(d.own[i]);
        r.left.textContent = cut ? `cut: ${cut}` : percent(d.chance[i]);
      });
      const { topK: k, topP: p, minP: m, temperature: t } = dials(), said = [`${plural(V, "token")} to choose from`];
      if (!t) said.push("temperature 0 always takes the likeliest");
      else if (t !== 1) said.push(`temperature ${t.toFixed(2)} makes the likely ones ${t < 1 ? "likelier" : "less likely"}`);
      if (k != null) said.push(`top-k leaves ${d.keptByK}`);
      if (p < 1) said.push(`top-p leaves ${d.keptByP}`);
      if (m > 0) said.push(`min-p leaves ${d.kept}`);
      summary.textContent = said.join("; ") + ".";
    }

    function enlarge() {
      if (!reader?.length || !large.clientWidth) return;
      const look = getComputedStyle(root), label = (i) => { const t = words.token(reader.ids[i]); return t.length > 8 ? t.slice(0, 7) + "…" : t; };
      maps.enlarge(large, layer, head, position(), label, { ink: look.getPropertyValue("--pg-ink"), font: look.fontFamily });
      large.setAttribute("aria-label", `Attention of layer ${layer}, head ${head}: a triangle of ${plural(reader.length, "row")}, one for each token, over the tokens it may read. The sentence below names the largest weights of the chosen row.`);
    }
    function update() {
      if (!reader.length) return;
      tokens(); bars(); enlarge(); buttons();
      if (writing && performance.now() < due) return; // the small pictures may lag a little
      maps.draw();
      due = performance.now() + GLANCE;
    }
    function select(chip) {
      const at = [...chips.children].indexOf(chip);
      if (at >= reader.length) return; // being read again
      selected = at === reader.length - 1 ? null : at; // the last token: follow the end
      tokens(); enlarge();
    }
    function choose(l, h) {
      [layer, head] = [l, h];
      layers.value = l; heads.value = h;
      [...small.children].forEach((radio, k) => {
        const on = k === l * reader.config.n_heads + h;
        radio.setAttribute("aria-checked", on);
        radio.tabIndex = on ? 0 : -1;
      });
      if (reader.length && !reading) { tokens(); enlarge(); }
    }

    // ---- reading and writing -------------------------------------------------------------------
    /* Read typed + written; what the model has read already is kept. False where a later call took over. */
    async function read() {
      const mine = ++job, ids = [...typed, ...written];
      reading = true;
      let same = 0;
      while (same < Math.min(reader.length, ids.length - 1) && reader.ids[same] === ids[same]) same++;
      reader.crop(same);
      maps.crop(same);
      buttons();
      if (!await reader.read(ids.slice(same), (n) => { meter.textContent = `Reading: ${same + n} of ${plural(ids.length, "token")} …`; }) || mine !== job) return false;
      reading = false;
      if (selected >= reader.length) selected = null;
      update();
      return true;
    }

    async function reread() { // the prompt changed; false where it cannot be read
      const mine = ++job; // whatever is being read is no longer wanted
      reading = writing = false;
      written = []; made = [];
      selected = null;
      trouble = "";
      try {
        typed = words.encode(prompt.value);
        if (typed.length > reader.maxLength) trouble = `The prompt has ${plural(typed.length, "token")}; this model reads at most ${reader.maxLength.toLocaleString("en")}. Shorten it.`;
      } catch (error) { trouble = error.message; }
      prompt.setAttribute("aria-invalid", Boolean(trouble));
      if (trouble) { say(trouble, true); buttons(); return false; }
      if (typed.length) say("");
      else {
        typed = [...reader.header.start];
        say(`A model must read something: the empty prompt is read as ${typed.map(named).join("")}.`);
      }
      if (mine !== job || !await read()) return false;
      if (isFull()) full();
      return true;
    }
    function full() {
      say(`The context is full: this model reads at most ${plural(reader.maxLength, "token")}. Take some back, shorten the prompt, or `);
      status.append(button("go on from its last half", () => act(goOn)), ".");
    }
    async function goOn() { // the first half is forgotten, as if the reader had typed the second
      const ids = reader.ids.slice(), half = Math.floor(ids.length / 2), kept = words.decode(ids.slice(half)).replace(/^\uFFFD+/, "");
      const shown = past + words.decode(ids.slice(0, half)).replace(/\uFFFD+$/, "");
      prompt.value = kept;
      past = shown;
      if (await reread()) await stream(Infinity);
    }

    async function take(token, recipe, told = "") { // one more token, wherever it comes from
      if (isFull()) { full(); return false; }
      if (!await reader.read([token])) return false; // something else is to be read
      written.push(token);
      made.push(recipe);
      if (told) say(told);
      update();
      if (words.isSpecial(token)) { say(`The model ended its text with ${named(token)}.`); return false; }
      if (isFull()) { full(); return false; }
      return true;
    }
    const choice = () => ({ seed: +seed.value, t: +temperature.input.value, k: ks[topK.input.value], p: +topP.input.value, m: +minP.input.value });
    const next = () => draw(distribution(reader.logits, dials()).chance, uniform(+seed.value, written.length));
    function step() { const token = next(); return take(token, pack(choice()), `Added ${named(token)}.`); }

    async function stream(n, pace = PACE) {
      const mine = job, first = written.length, busy = "Writing; Escape stops it.";
      writing = true;
      buttons();
      say(busy);
      for (let i = 0; i < n && writing; i++) {
        const start = performance.now();
        if (!await take(next(), pack(choice()))) break;
        await pause(Math.max(0, pace - (performance.now() - start)));
        if (mine !== job) return; // the prompt was changed meanwhile
      }
      if (mine !== job) return;
      writing = false;
      maps.draw();
      if (status.textContent === busy) say(`Wrote ${plural(written.length - first, "token")}.`);
      status.append(el("span", { class: "pg-unseen" }, ` Written: ${words.decode(written.slice(first)).slice(-300)}`)); // seen below, heard here
      buttons();
    }
    const stop = () => { writing = false; };
    async function takeBack() {
      const token = written.at(-1);
      written = written.slice(0, -1); made = made.slice(0, -1);
      if (await read()) say(`Took back ${named(token)}.`);
    }
    async function again() {
      const n = written.length || REPLAYED;
      written = []; made = [];
      selected = null;
      if (await read()) await stream(n);
    }
    function fail(error) {
      reading = writing = false;
      say(trouble = error.message, true);
      buttons();
    }
    /* One thing at a time, in the order of the presses; what is pressed while the model writes is not meant for later. */
    function act(what) {
      if (!reader || trouble || writing || waiting >= WAITING) return;
      const mine = reader;
      waiting++;
      turn = turn.then(() => { if (reader === mine && !trouble && !reading && !writing) return what(); }).catch(fail).finally(() => { waiting--; });
    }

    // ---- links, and things to try --------------------------------------------------------------
    function share() {
      const { seed: from, ...rest } = choice(), pure = made.every((recipe) => recipe === pack(choice()));
      const state = { model: source.id, prompt: prompt.value, seed: from, ...rest, layer, head, ...(pure ? { n: written.length || null } : { w: written }) };
      const address = `${location.href.replace(/#.*/, "")}#${pack(state)}`;
      try { history.replaceState(null, "", address); } catch { /* a frame without an address of its own */ }
      const copied = navigator.clipboard?.writeText(address) ?? Promise.reject();
      copied.then(() => say("The link is copied. It opens this model with this prompt, seed and text."), () => say("The link is in the address line: it opens this model with this prompt, seed and text."));
    }
    async function arrive(state, pace) { // state: as in link.js
      const index = models.findIndex((m) => m.id === state.model);
      past = "";
      if (index >= 0 && (models[index] !== source || !reader)) { if (!await open(index, state.prompt)) return; }
      else {
        if (!reader) return;
        if (state.prompt != null) prompt.value = state.prompt;
        if (!await reread()) return;
      }
      const at = ks.findIndex((k) => k == null || k >= state.k);
      for (const [control, value] of [[temperature, state.t], [topK, state.k == null ? ks.length - 1 : at], [topP, state.p ?? 1], [minP, state.m ?? 0]]) {
        if (value != null) control.input.value = value;
        control.say();
      }
      if (state.seed != null) seed.value = state.seed;
      choose(Math.min(state.layer ?? layer, reader.config.n_layers - 1), Math.min(state.head ?? head, reader.config.n_heads - 1));
      bars();
      buttons();
      const lost = state.model != null && index < 0 ? `This page has no model “${state.model}”; here is another. ` : "";
      if (state.w) {
        written = state.w.filter((token) => token < reader.config.vocab_size).slice(0, reader.maxLength - typed.length);
        made = written.map(() => BY_HAND);
        if (await read()) say(`${lost}The link brought ${plural(written.length, "token")}.`);
      } else if (state.n) {
        await stream(state.n, pace);
        if (lost) status.prepend(lost);
      } else if (lost) say(lost);
    }

    // ---- a model -------------------------------------------------------------------------------
    /* Fetch it, and have it read `given`, or what stands in the box if that is the reader's own and can be read, or its
       own prompt. False where it failed, or another was opened meanwhile. */
    async function open(index, given = null) {
      const mine = ++opening, own = prompt.value !== (source.prompt ?? ""), first = !reader && root.dataset.state === "loading" && !prompt.value;
      source = models[index];
      which[index].checked = true;
      reader?.close();
      reader = null;
      job++;
      reading = writing = false;
      trouble = past = "";
      root.dataset.state = "loading";
      for (const box of [chips, small, layers, heads, before, after, gone, summary, readout, meter, card]) box.replaceChildren(); // another's
      for (const r of rows) r.row.hidden = true;
      large.width = 1;
      buttons();
      say("Loading the model …");
      let opened;
      try {
        opened = await Reader.open(fetchModel(source, (words) => { if (mine === opening) meter.textContent = words; }));
      } catch (error) {
        if (mine !== opening) return false;
        root.dataset.state = "failed";
        meter.textContent = "";
        say(error.message, true);
        if (source.url) status.append(" ", button("Try again", () => open(index, given)));
        return false;
      }
      if (mine !== opening) { opened.close(); return false; }
      reader = opened;
      words = reader.tokenizer;
      maps = new Maps(reader);
      root.dataset.reads = reader.where;
      const { n_layers: L, n_heads: H, vocab_size: V } = reader.config;
      const sizes = `${plural(reader.header.n_parameters, "parameter")}, ${plural(L, "layer")} of ${plural(H, "head")}, `
        + `${plural(V, "token")} known, ${reader.maxLength.toLocaleString("en")} read at most.`;
      about.textContent = [source.about, sizes, "It runs in this page; nothing is sent anywhere."].filter(Boolean).join(" ");
      details.hidden = !source.card?.length;
      for (const [term, told] of source.card ?? []) card.append(el("div", {}, el("dt", {}, term), el("dd", {}, told)));
      for (const box of [prompt, text, chips, body]) if (source.lang) box.lang = source.lang; else box.removeAttribute("lang");
      const portion = topK.input.value / topK.input.max;
      ks = [...KS.filter((k) => k < V), null];
      topK.input.max = ks.length - 1;
      topK.input.value = Math.round(portion * (ks.length - 1));
      for (const d of dialled) d.say();
      layer = Math.min(layer, L - 1); head = Math.min(head, H - 1);
      layers.replaceChildren(...Array.from({ length: L }, (_, l) => el("option", { value: l }, String(l))));
      heads.replaceChildren(...Array.from({ length: H }, (_, h) => el("option", { value: h }, String(h))));
      small.style.setProperty("--pg-columns", H);
      small.replaceChildren(...maps.canvases.map((canvas, k) => {
        const l = Math.floor(k / H), h = k % H;
        return el("div", { role: "radio", "data-rove": true, "aria-label": `Layer ${l}, head ${h}`, title: `Layer ${l}, head ${h}`, onclick: () => choose(l, h),
          onkeydown: (event) => { if (event.key === " " || event.key === "Enter") { event.preventDefault(); choose(l, h); } } }, canvas);
      }));
      choose(layer, head);
      if (given != null) prompt.value = given;
      else if (first || !own || !readable(prompt.value)) prompt.value = source.prompt ?? "";
      try { await reread(); } catch (error) { fail(error); }
      if (mine !== opening) return false;
      root.dataset.state = "ready";
      return !trouble;
    }
    function readable(text) {
      try { return words.encode(text).length <= reader.maxLength; } catch { return false; }
    }

    // ---- the reader's hands --------------------------------------------------------------------
    let typing;
    prompt.addEventListener("input", () => { clearTimeout(typing); writing = false; past = ""; typing = setTimeout(() => { if (reader) reread().catch(fail); }, 150); });
    prompt.addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && allowed(write)) { event.preventDefault(); if (!writing) act(() => stream(Infinity)); } });
    root.addEventListener("keydown", (event) => { if (event.key === "Escape" && writing) stop(); });
    rove(chips, () => [...chips.children], () => 1, select);
    rove(body, () => rows.filter((r) => !r.row.hidden).map((r) => r.pick), () => 1, (pick) => rows.forEach((r) => { r.pick.tabIndex = r.pick === pick ? 0 : -1; }));
    rove(small, () => [...small.children], () => reader.config.n_heads, (radio) => radio.click());
    new ResizeObserver(enlarge).observe(large);
    new MutationObserver(enlarge).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", enlarge);

    root.append(...parts);
    for (const d of dialled) d.say();
    const linked = () => settings.links && location.hash.includes("=") ? unpack(location.hash) : null;
    addEventListener("hashchange", () => { const state = linked(); if (state) arrive(state, 0).catch(fail); });
    const state = linked();
    if (state) open(Math.max(0, models.findIndex((m) => m.id === state.model)), state.prompt).then((ready) => { if (ready) return arrive(state, 0); }).catch(fail);
    else open(0);
  }

  /* Inside a notebook or a page of the book: that page's theme, where it may be looked at. */
  function follow() {
    if (parent === window) return;
    try {
      const { documentElement: html, body } = parent.document;
      const take = () => {
        const theme = html.dataset.theme ?? { true: "light", false: "dark" }[body?.dataset.jpThemeLight];
        if (theme) document.documentElement.dataset.theme = theme;
      };
      take();
      for (const node of [html, body]) if (node) new MutationObserver(take).observe(node, { attributes: true, attributeFilter: ["data-theme", "data-jp-theme-light"] });
    } catch { /* another origin, as in Colab: the system's choice of light or dark holds */ }
  }

  globalThis.llmPlayground = { mount };
  const start = () => { follow(); document.querySelectorAll(".llm-playground").forEach(mount); };
  if (document.readyState === "loading") addEventListener("DOMContentLoaded", start);
  else start();
})();
