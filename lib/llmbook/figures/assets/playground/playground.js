/* The playground: a reader types, a model of the book (gpt.js) reads, and everything it does on the way is shown.
   llmPlayground.mount(element) builds it inside an element that holds its settings as JSON:
     {"prompt": text, "models": [{"name": …, "about": …, "prompt": …, "data": id of a <script> with base64, or "url": …}]}
   Nothing moves until the reader asks for it, and nothing leaves the page. */
(() => {
  "use strict";
  if (globalThis.llmPlayground) return;
  const { Model, distribution, uniform, draw } = llmGPT;
  const ROWS = 30; // candidates that are listed
  const PACE = 33, SLICE = 12; // ms: between two tokens while writing; of reading before the page may breathe
  const KS = [1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000];

  // viridis (https://bids.github.io/colormap/), the scale of the book's heatmaps, as 256 steps
  const VIRIDIS = ["440154", "472d7b", "3b528b", "2c728e", "21918c", "28ae80", "5ec962", "addc30", "fde725"]
    .map((c) => [0, 2, 4].map((i) => parseInt(c.slice(i, i + 2), 16)));
  const SHADES = Array.from({ length: 256 }, (_, s) => {
    const at = s / 255 * (VIRIDIS.length - 1), k = Math.min(Math.floor(at), VIRIDIS.length - 2);
    return VIRIDIS[k].map((v, i) => Math.round(v + (VIRIDIS[k + 1][i] - v) * (at - k)));
  });

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

  async function fetchModel(source) {
    if (source.url) {
      let answer;
      try { answer = await fetch(new URL(source.url, document.baseURI)); } catch { throw new Error("The model could not be fetched: there is no connection to the site."); }
      if (!answer.ok) throw new Error(`The model could not be fetched: the site answered ${answer.status}.`);
      return answer.arrayBuffer();
    }
    const text = document.getElementById(source.data)?.textContent.trim();
    if (!text) throw new Error("The model is missing from this page. Export it again.");
    let raw;
    try { raw = atob(text); } catch { throw new Error("The model in this page is damaged: the file was cut short or edited. Export it again."); }
    const bytes = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
    return bytes.buffer;
  }

  function mount(root) {
    if (root.dataset.state) return;
    root.dataset.state = "loading";
    const settings = JSON.parse(root.querySelector('script[type="application/json"]').textContent);
    const id = `pg${++boxes}-`;
    let model, words, typed = [], written = [], selected = null, layer = 0, head = 0;
    let opened = false, job = 0, reading = false, writing = false, trouble = "", spent = 0, candidates = null;
    let maps = []; // of each head: an image of its weights, rows drawn once

    // ---- what is on the page -------------------------------------------------------------------
    const about = el("p", { class: "pg-about" });
    const which = el("select", { id: id + "model" }, ...settings.models.map((m, i) => el("option", { value: i }, m.name)));
    const prompt = el("textarea", { id: id + "prompt", rows: 3, spellcheck: "false", autocomplete: "off", autocapitalize: "off" });
    const dial = (label, attributes, shown) => {
      const input = el("input", { type: "range", autocomplete: "off", ...attributes }), output = el("output", {});
      const say = () => { output.textContent = shown(+input.value); input.setAttribute("aria-valuetext", output.textContent); };
      input.addEventListener("input", () => { say(); bars(); });
      return { input, say, label: el("label", {}, el("span", {}, label), input, output) };
    };
    let ks = KS;
    const temperature = dial("Temperature", { min: 0, max: 2, step: 0.05, value: 0.8 }, (v) => v ? v.toFixed(2) : "0 (likeliest)");
    const topK = dial("Top-k", { min: 0, max: KS.length, step: 1, value: KS.length }, (v) => ks[v] == null ? "all" : String(ks[v]));
    const topP = dial("Top-p", { min: 0.05, max: 1, step: 0.05, value: 1 }, (v) => v < 1 ? v.toFixed(2) : "all");
    const seed = el("input", { type: "number", id: id + "seed", min: 0, max: 4294967295, step: 1, value: 1, autocomplete: "off", oninput: () => buttons() });
    const allowed = (control) => control.getAttribute("aria-disabled") !== "true";
    const button = (label, press, extra = {}) => el("button", { type: "button", onclick: (event) => { if (allowed(event.currentTarget)) press(); }, ...extra }, label);
    const one = button("Add a token", () => act(step), { class: "pg-main" });
    const write = button("Write", () => writing ? stop() : act(() => stream(Infinity)), { class: "pg-write" });
    const back = button("Take one back", () => act(takeBack));
    const replay = button("Replay", () => act(again), { title: "Write the same number of tokens once more, from the same seed" });
    const another = button("New seed", () => { seed.value = Math.floor(Math.random() * 1e6); buttons(); });
    const status = el("p", { class: "pg-status", role: "status" }), meter = el("p", { class: "pg-meter" });
    const before = el("span", {}), after = el("span", { class: "pg-written" });
    const text = el("div", { class: "pg-text", tabindex: 0, role: "group", "aria-label": "The text" }, before, after);
    const chips = el("div", { class: "pg-tokens", role: "listbox", "aria-label": "The text as tokens", "aria-orientation": "horizontal" });
    const summary = el("p", { class: "pg-note" });
    const rows = Array.from({ length: ROWS }, (_, i) => {
      const pick = button("", () => act(() => take(candidates.order[i], `Added ${named(candidates.order[i])}.`)), { "data-rove": true, tabindex: i ? -1 : 0, title: "Add this token" });
      const own = el("i", { class: "pg-own" }), now = el("i", { class: "pg-now" }), given = el("td", {}), left = el("td", {});
      const track = el("td", { class: "pg-track" }, el("div", { "aria-hidden": "true" }, own, now));
      return { pick, own, now, given, left, row: el("tr", { hidden: true }, el("th", { scope: "row" }, pick), track, given, left) };
    });
    const body = el("tbody", {}, ...rows.map((r) => r.row));
    const table = el("table", {}, el("caption", { class: "pg-unseen" }, "The likeliest next tokens"),
      el("thead", {}, el("tr", {}, ...["Token", "Probability", "Model", "Now"].map((t) => el("th", { scope: "col" }, t)))), body);
    const layers = el("select", { id: id + "layer", onchange: () => choose(+layers.value, head) });
    const heads = el("select", { id: id + "head", onchange: () => choose(layer, +heads.value) });
    const large = el("canvas", { class: "pg-map", role: "img", onclick: pickRow });
    const readout = el("p", { class: "pg-readout", "aria-live": "polite" });
    const small = el("div", { class: "pg-heads", role: "radiogroup", "aria-label": "All heads" });
    const labelled = (text, control) => el("label", { for: control.id }, el("span", {}, text), control);
    const scale = el("p", { class: "pg-note pg-scale" }, "weight 0 ", el("span", { "aria-hidden": "true" }), " 100 %, on a square-root scale; grey: hidden from that row");
    const parts = [
      about,
      ...(settings.models.length > 1 ? [el("div", { class: "pg-dials" }, labelled("Model", which))] : []),
      el("label", { class: "pg-label", for: prompt.id }, "Prompt"), prompt,
      el("div", { class: "pg-dials", role: "group", "aria-label": "How the next token is chosen" }, temperature.label, topK.label, topP.label,
        el("span", { class: "pg-pair" }, labelled("Seed", seed), another)),
      el("div", { class: "pg-buttons", role: "group", "aria-label": "Writing" }, one, write, back, replay),
      status,
      el("section", { "aria-labelledby": id + "t" }, el("h2", { id: id + "t" }, "The text, and its tokens"), text, chips,
        el("p", { class: "pg-note" }, "Underlined: written by the model. Choose a token to see what it read: the stronger the colour behind a token, the more of it."), meter),
      el("div", { class: "pg-panels" },
        el("section", { "aria-labelledby": id + "n" }, el("h2", { id: id + "n" }, "What comes next"), summary,
          el("div", { class: "pg-bars", tabindex: 0, role: "group", "aria-label": "The likeliest next tokens" }, table),
          el("p", { class: "pg-note" }, "Hollow: what the model says. Full: what is drawn from, after temperature, top-k and top-p. Hatched: cut away. Choose a token to add it yourself.")),
        el("section", { "aria-labelledby": id + "a" }, el("h2", { id: id + "a" }, "Who reads whom"),
          el("div", { class: "pg-dials" }, labelled("Layer", layers), labelled("Head", heads)),
          large, readout, scale, el("p", { class: "pg-note" }, "A row is the token that reads, a column the token that is read. Choose a row to follow it.")),
        el("section", { "aria-labelledby": id + "h" }, el("h2", { id: id + "h" }, "All heads"),
          el("p", { class: "pg-note" }, "A line of pictures for each layer, a picture for each head. Choose one to see it large."), small)),
    ];

    // ---- drawing -------------------------------------------------------------------------------
    const named = (token) => `“${words.token(token)}”`;
    const dials = () => ({ temperature: +temperature.input.value, topK: ks[topK.input.value] ?? null, topP: +topP.input.value });
    const reader = () => Math.min(selected ?? Infinity, model.length - 1); // whose reading is shown
    const say = (text, wrong = false) => { if (status.textContent !== text) status.textContent = text; status.classList.toggle("pg-wrong", wrong); };

    function buttons() {
      const ready = model && !trouble && !reading, full = ready && model.length >= model.maxLength;
      const seeded = seed.validity.valid && seed.value !== "";
      seed.setAttribute("aria-invalid", !seeded);
      // aria-disabled, not disabled: a control that has the focus keeps it
      const off = (control, yes) => control.setAttribute("aria-disabled", Boolean(yes));
      off(one, !ready || full || writing || !seeded);
      off(write, !writing && (!ready || full || !seeded));
      off(back, !ready || writing || !written.length);
      off(replay, !ready || writing || !seeded || (full && !written.length));
      write.textContent = writing ? "Stop" : "Write";
      readout.setAttribute("aria-live", writing ? "off" : "polite");
    }

    function tokens() {
      const ids = [...typed, ...written].slice(0, model.length), now = reader();
      while (chips.children.length > ids.length) chips.lastChild.remove();
      while (chips.children.length < ids.length) chips.append(el("span", { role: "option", "data-rove": true, onclick: (event) => select(event.currentTarget) }));
      const weights = model.row(layer, head, now), atEnd = selected === null;
      before.textContent = words.decode(ids.slice(0, typed.length));
      after.textContent = words.decode(ids).slice(before.textContent.length);
      ids.forEach((token, i) => {
        const chip = chips.children[i], shown = words.token(token), share = weights[i] ?? 0;
        if (chip.textContent !== shown) chip.textContent = shown;
        chip.classList.toggle("pg-written", i >= typed.length);
        chip.classList.toggle("pg-break", shown.endsWith("↵"));
        chip.setAttribute("aria-selected", i === now);
        chip.tabIndex = i === now ? 0 : -1;
        chip.title = `position ${i}, token ${token}` + (i <= now ? `; read with weight ${percent(share)}` : "");
        chip.style.backgroundColor = i <= now ? `rgba(230, 159, 0, ${(0.42 * Math.sqrt(share)).toFixed(3)})` : "";
      });
      if (atEnd) for (const box of [text, chips]) box.scrollTop = box.scrollHeight;
      const best = Array.from(weights, (w, i) => [w, i]).sort((a, b) => b[0] - a[0]).slice(0, 5).filter(([w]) => w >= 0.005);
      readout.textContent = `Layer ${layer}, head ${head}: ${named(ids[now])} at position ${now} reads `
        + best.map(([w, i]) => `${named(ids[i])}${i === now ? " (itself)" : ""} ${percent(w)}`).join(", ") + ".";
      meter.textContent = `${plural(model.length, "token")} of at most ${model.maxLength.toLocaleString("en")}; ${spent.toFixed(1)} ms for the last one.`;
    }

    function bars() {
      if (!model?.logits) return;
      const d = candidates = distribution(model.logits, dials()), V = d.own.length, listed = Math.min(ROWS, V);
      const most = Math.max(d.own[d.order[0]], ...Array.from(d.order.subarray(0, listed), (i) => Math.max(d.chance[i], d.warm[i])));
      rows.forEach((r, at) => {
        r.row.hidden = at >= listed;
        if (r.row.hidden) return;
        const i = d.order[at], cut = ["", "top-k", "top-p"][d.cutBy[i]];
        if (r.pick.textContent !== words.token(i)) r.pick.textContent = words.token(i);
        r.own.style.width = `${100 * d.own[i] / most}%`;
        r.now.style.width = `${100 * (cut ? d.warm[i] : d.chance[i]) / most}%`;
        r.row.className = cut ? "pg-cut" : "";
        r.given.textContent = percent(d.own[i]);
        r.left.textContent = cut ? `cut: ${cut}` : percent(d.chance[i]);
      });
      const { topK: k, topP: p, temperature: t } = dials(), said = [`${plural(V, "token")} to choose from`];
      if (!t) said.push("temperature 0 always takes the likeliest");
      else if (t !== 1) said.push(`temperature ${t.toFixed(2)} makes the likely ones ${t < 1 ? "likelier" : "less likely"}`);
      if (k != null) said.push(`top-k leaves ${d.keptByK}`);
      if (p < 1) said.push(`top-p leaves ${d.kept}`);
      summary.textContent = said.join("; ") + ".";
    }

    function attention() {
      const n = model.length;
      maps.forEach((map, k) => {
        const l = Math.floor(k / model.config.n_heads), h = k % model.config.n_heads;
        if (map.image.width < n) {
          const old = map.image, size = Math.min(model.maxLength, Math.max(n, 2 * old.width));
          map.image = new ImageData(size, size);
          map.rows = 0;
        }
        for (; map.rows < n; map.rows++) {
          const row = model.row(l, h, map.rows), start = 4 * map.rows * map.image.width;
          for (let j = 0; j < row.length; j++) { // the square root: most weights are small
            const [r, g, b] = SHADES[Math.round(255 * Math.sqrt(row[j]))];
            map.image.data[start + 4 * j] = r; map.image.data[start + 4 * j + 1] = g; map.image.data[start + 4 * j + 2] = b; map.image.data[start + 4 * j + 3] = 255;
          }
        }
        map.canvas.width = map.canvas.height = n;
        map.canvas.getContext("2d").putImageData(map.image, 0, 0);
      });
      enlarge();
    }

    let cell = 1, margin = 0;
    function enlarge() { // the chosen head, with its tokens beside it where they can be read
      const side = large.clientWidth, n = model?.length, ratio = globalThis.devicePixelRatio || 1, now = model && reader();
      if (!side || !n || !maps[0]?.rows) return;
      large.width = large.height = Math.round(side * ratio);
      const pen = large.getContext("2d"), look = getComputedStyle(root), ink = look.getPropertyValue("--pg-ink");
      const label = (i) => { const t = words.token(model.ids[i]); return t.length > 8 ? t.slice(0, 7) + "…" : t; };
      pen.scale(ratio, ratio);
      pen.font = `12px ${look.fontFamily}`;
      margin = Math.min(70, Math.max(...Array.from({ length: n }, (_, i) => pen.measureText(label(i)).width)) + 6);
      cell = Math.min(26, (side - margin) / n);
      const named = cell >= 11;
      if (!named) { margin = 0; cell = side / n; }
      pen.fillStyle = "rgba(128, 128, 128, 0.22)";
      pen.fillRect(margin, margin, n * cell, n * cell);
      pen.imageSmoothingEnabled = n * cell < n; // several weights to a pixel: show their mean
      pen.drawImage(maps[layer * model.config.n_heads + head].canvas, margin, margin, n * cell, n * cell);
      pen.strokeStyle = ink;
      pen.lineWidth = 2;
      pen.strokeRect(margin, margin + now * cell, (now + 1) * cell, cell);
      if (named) {
        pen.textBaseline = "middle";
        for (let i = 0; i < n; i++) {
          pen.fillStyle = ink;
          pen.textAlign = "right";
          pen.fillText(label(i), margin - 4, margin + (i + 0.5) * cell);
          pen.save();
          pen.translate(margin + (i + 0.5) * cell, margin - 4);
          pen.rotate(-Math.PI / 2);
          pen.textAlign = "left";
          pen.fillText(label(i), 0, 0);
          pen.restore();
        }
      }
      large.setAttribute("aria-label", `Attention of layer ${layer}, head ${head}: a triangle of ${plural(n, "row")}, one for each token, over the tokens it may read. The sentence below names the largest weights of the chosen row.`);
    }
    function pickRow(event) {
      if (!model) return;
      const at = Math.floor((event.offsetY - margin) / cell);
      if (at >= 0 && at < model.length) select(chips.children[at]);
    }

    function update() {
      if (!model.length) return;
      tokens(); bars(); attention(); buttons();
    }
    function select(chip) {
      const at = [...chips.children].indexOf(chip);
      if (at >= model.length) return; // being read again
      selected = at === model.length - 1 ? null : at; // the last token: follow the end
      tokens(); enlarge();
    }
    function choose(l, h) {
      [layer, head] = [l, h];
      layers.value = l; heads.value = h;
      [...small.querySelectorAll("[role=radio]")].forEach((radio, k) => {
        const on = k === l * model.config.n_heads + h;
        radio.setAttribute("aria-checked", on);
        radio.tabIndex = on ? 0 : -1;
      });
      if (model.length && !reading) { tokens(); enlarge(); }
    }

    // ---- reading and writing -------------------------------------------------------------------
    /* Read typed + written; what the model has read already is kept. False where a later call took over. */
    async function read() {
      const mine = ++job, ids = [...typed, ...written];
      reading = true;
      let same = 0;
      while (same < Math.min(model.length, ids.length - 1) && model.ids[same] === ids[same]) same++;
      model.crop(same);
      maps.forEach((map) => { map.rows = Math.min(map.rows, same); });
      buttons();
      for (let i = same, since = performance.now(); i < ids.length; i++) {
        const start = performance.now();
        model.step(ids[i], i === ids.length - 1);
        spent = performance.now() - start;
        if (performance.now() - since < SLICE) continue;
        meter.textContent = `Reading: ${i + 1} of ${plural(ids.length, "token")} …`;
        await pause(0);
        if (mine !== job) return false;
        since = performance.now();
      }
      reading = false;
      if (selected >= model.length) selected = null;
      update();
      return true;
    }

    async function reread() { // the prompt changed
      job++; // whatever is being read is no longer wanted
      reading = writing = false;
      written = [];
      selected = null;
      trouble = "";
      try {
        typed = words.encode(prompt.value);
        if (typed.length > model.maxLength) trouble = `The prompt has ${plural(typed.length, "token")}; this model reads at most ${model.maxLength.toLocaleString("en")}. Shorten it.`;
      } catch (error) { trouble = error.message; }
      if (trouble) { say(trouble, true); return buttons(); }
      if (typed.length) say("");
      else {
        typed = [...model.header.start];
        say(`A model must read something: the empty prompt is read as ${typed.map(named).join("")}.`);
      }
      if (await read() && model.length >= model.maxLength) full();
    }
    const full = () => say(`The context is full: this model reads at most ${plural(model.maxLength, "token")}. Take some back, or shorten the prompt.`);

    function take(token, told = "") { // one more token, wherever it comes from
      if (model.length >= model.maxLength) { full(); return false; }
      const start = performance.now();
      model.step(token);
      spent = performance.now() - start;
      written.push(token);
      if (told) say(told);
      update();
      if (words.isSpecial(token)) { say(`The model ended its text with ${named(token)}.`); return false; }
      if (model.length >= model.maxLength) { full(); return false; }
      return true;
    }
    const next = () => draw(distribution(model.logits, dials()).chance, uniform(+seed.value, written.length));
    function step() { const token = next(); return take(token, `Added ${named(token)}.`); }

    async function stream(n) {
      const mine = written, first = written.length, busy = "Writing; Escape stops it.";
      writing = true;
      buttons();
      say(busy);
      for (let i = 0; i < n && writing; i++) {
        const start = performance.now();
        if (!take(next())) break;
        await pause(Math.max(0, PACE - (performance.now() - start)));
        if (mine !== written) return; // the prompt was changed meanwhile
      }
      writing = false;
      if (status.textContent === busy) {
        say(`Wrote ${plural(written.length - first, "token")}.`);
        status.append(el("span", { class: "pg-unseen" }, ` ${words.decode(written.slice(first)).slice(-300)}`)); // seen below, heard here
      }
      buttons();
    }
    const stop = () => { writing = false; };
    async function takeBack() {
      const token = written.at(-1);
      written = written.slice(0, -1);
      if (await read()) say(`Took back ${named(token)}.`);
    }
    async function again() {
      const n = written.length || 40;
      written = [];
      selected = null;
      if (await read()) await stream(n);
    }
    function act(what) { // one thing at a time
      if (model && !trouble && !reading && !writing) what();
    }

    // ---- a model -------------------------------------------------------------------------------
    async function open(index) {
      const source = settings.models[index];
      model = null;
      job++;
      reading = writing = false;
      trouble = "";
      for (const box of [chips, small, layers, heads, before, after, summary, readout, meter]) box.replaceChildren(); // another's
      for (const r of rows) r.row.hidden = true;
      large.width = 1;
      buttons();
      say("Loading the model …");
      try {
        model = new Model(await fetchModel(source));
      } catch (error) {
        root.dataset.state = "failed";
        say(error.message, true);
        if (source.url) status.append(" ", button("Try again", () => open(index)));
        return;
      }
      words = model.tokenizer;
      const { n_layers: L, n_heads: H, vocab_size: V } = model.config;
      const sizes = `${plural(model.header.n_parameters, "parameter")}, ${plural(L, "layer")} of ${plural(H, "head")}, `
        + `${plural(V, "token")} known, ${model.maxLength.toLocaleString("en")} read at most.`;
      about.textContent = [source.about, sizes, "It runs in this page; nothing is sent anywhere."].filter(Boolean).join(" ");
      const share = topK.input.value / topK.input.max;
      ks = [...KS.filter((k) => k < V), null];
      topK.input.max = ks.length - 1;
      topK.input.value = Math.round(share * (ks.length - 1));
      for (const d of [temperature, topK, topP]) d.say();
      layer = Math.min(layer, L - 1); head = Math.min(head, H - 1);
      layers.replaceChildren(...Array.from({ length: L }, (_, l) => el("option", { value: l }, String(l))));
      heads.replaceChildren(...Array.from({ length: H }, (_, h) => el("option", { value: h }, String(h))));
      maps = Array.from({ length: L * H }, () => ({ canvas: el("canvas", {}), image: new ImageData(Math.min(32, model.maxLength), Math.min(32, model.maxLength)), rows: 0 }));
      small.style.setProperty("--pg-columns", H);
      small.replaceChildren(...maps.map(({ canvas }, k) => {
        const l = Math.floor(k / H), h = k % H;
        return el("div", { role: "radio", "data-rove": true, "aria-label": `Layer ${l}, head ${h}`, title: `Layer ${l}, head ${h}`, onclick: () => choose(l, h),
          onkeydown: (event) => { if (event.key === " " || event.key === "Enter") { event.preventDefault(); choose(l, h); } } }, canvas);
      }));
      choose(layer, head);
      if (!opened || source.prompt != null) prompt.value = source.prompt ?? settings.prompt ?? "";
      opened = true;
      await reread();
      root.dataset.state = "ready";
    }

    // ---- the reader's hands --------------------------------------------------------------------
    let due;
    prompt.addEventListener("input", () => { clearTimeout(due); writing = false; due = setTimeout(() => { if (model) reread(); }, 150); });
    root.addEventListener("keydown", (event) => { if (event.key === "Escape" && writing) stop(); });
    rove(chips, () => [...chips.children], () => 1, select);
    rove(body, () => rows.filter((r) => !r.row.hidden).map((r) => r.pick), () => 1, (pick) => rows.forEach((r) => { r.pick.tabIndex = r.pick === pick ? 0 : -1; }));
    rove(small, () => [...small.children], () => model.config.n_heads, (radio) => radio.click());
    which.addEventListener("change", () => open(+which.value));
    new ResizeObserver(enlarge).observe(large);
    new MutationObserver(enlarge).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", enlarge);

    root.append(...parts);
    for (const d of [temperature, topK, topP]) d.say();
    open(0);
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
