/* The playground: a reader types, a model of the book (gpt.js) reads, and everything it does on the way is shown.
   llmPlayground.mount(element) builds it inside an element that holds its settings as JSON:
     {"models": [{"name": …, "about": …, "prompt": …, "data": id of a <script> with base64, or "url": …,
                  "id": its name in links, "lang": of its text, "bytes": of its file, "card": [[term, text], …]}],
      "tries": [{"label": …, and a state as in link.js}], "links": whether the address may carry the reader's text}
   Nothing moves until the reader asks for it, and nothing leaves the page. */
(() => {
  "use strict";
  if (globalThis.llmPlayground) return;
  const { el, plural, pause, worded, allowed, button, labelled, windowStart, onFrames } = llmParts;
  const { uniform, draw: drawn } = llmChance, { Reader } = llmReader, { pack, unpack, recall, remember } = llmLink;
  const PACE = 33; // ms between two tokens while writing
  const GLANCE = 150; // ms between two drawings of bars, colours and pictures, which follow the text more slowly
  const LONGEST = 1000; // tokens a press
  const WAITING = 3; // presses that are kept while the model reads
  const REPLAYED = 40; // tokens, where none has been written yet
  const REMEMBERED = 2000; // tokens that are shown of what the model no longer reads
  const CARRIED = 8000; // characters of an address that still travels
  const BY_HAND = "by hand";
  let boxes = 0;

  function mount(root) {
    if (root.dataset.state) return;
    root.dataset.state = "loading";
    const settings = JSON.parse(root.querySelector('script[type="application/json"]').textContent), { models, tries = [] } = settings;
    const id = `pg${++boxes}-`, place = `llm-playground ${location.pathname} ${models.map((m) => m.id ?? m.name).join(" ")}`;
    let source = models[0], reader = null, words, typed = [], written = [], made = []; // made: with which options each was drawn
    let start = 0, own = false; // of typed and written, where the model reads from; whether the reader has typed the prompt
    let selected = null, job = 0, opening = 0, waiting = 0, turn = Promise.resolve(), from = location.hash;
    let reading = false, writing = false, trouble = "", due = 0; // due: when the slower pictures are drawn again

    // ---- what is on the page -------------------------------------------------------------------
    const about = el("p", { class: "pg-about" }), card = el("dl", {}), details = el("details", { class: "pg-card" }, el("summary", {}, "Model card"), card);
    const which = models.map((m, i) => el("input", { type: "radio", name: id + "model", value: i, checked: !i, autocomplete: "off", onchange: () => open(i) }));
    const prompt = el("textarea", { id: id + "prompt", rows: 2, spellcheck: "false", autocomplete: "off", autocapitalize: "off", "aria-describedby": id + "keys" });
    const candidates = new llmCandidates.Candidates(() => { if (!trouble) draw(); rest(); }, (token) => act(() => take(token, BY_HAND, `Added ${named(token)}.`)));
    const strip = new llmStrip.Strip(select, (i) => i <= position() && reader.length ? reader.row(heads.layer, heads.head, position())[i] : null);
    const heads = new llmHeads.Heads(id, () => { draw(); rest(); }, select);
    const seed = el("input", { type: "number", id: id + "seed", min: 0, max: 4294967295, step: 1, value: 1, autocomplete: "off", oninput: () => { buttons(); rest(); } });
    const write = button("Write", () => writing ? stop() : act(() => stream(LONGEST)), { class: "pg-write pg-main" });
    const one = button("Add a token", () => act(step), { class: "pg-one" });
    const back = button("Take one back", () => act(takeBack));
    const replay = button("Replay", () => act(again), { title: "Write the same number of tokens once more, from the same seed" });
    const another = button("New seed", () => { seed.value = Math.floor(Math.random() * 1e6); buttons(); rest(); });
    const link = button("Copy a link", share, { title: "An address that brings back this model, prompt, seed and text" });
    const status = el("p", { class: "pg-status", role: "status" }), meter = el("p", { class: "pg-meter" });
    const loaded = el("progress", { max: 1, "aria-label": "The model's file" }), lost = el("p", { class: "pg-note", hidden: true });
    const section = (name, title, ...inside) => el("section", { class: `pg-${name}`, "aria-labelledby": id + name }, el("h2", { id: id + name }, title), ...inside);
    const parts = [
      ...(models.length > 1 ? [el("fieldset", { class: "pg-models" }, el("legend", {}, "Model"), ...which.map((radio, i) => el("label", {}, radio, el("span", {}, el("span", {}, ...worded(models[i].name))))))] : []),
      el("div", { class: "pg-panels" },
        section("desk", "Prompt and text",
          ...(tries.length ? [el("div", { class: "pg-tries", role: "group", "aria-label": "Things to try" }, el("span", { "aria-hidden": "true" }, "Try:"), ...tries.map((t) => button(t.label, () => arrive(t, { pace: PACE }))))] : []),
          el("div", { class: "pg-line" }, el("label", { class: "pg-label", for: prompt.id }, "Prompt"), el("span", { class: "pg-note", id: id + "keys" }, "Ctrl + Enter writes, Escape stops")), prompt,
          el("div", { class: "pg-buttons", role: "group", "aria-label": "Writing" }, write, one, back, replay),
          el("div", { class: "pg-said" }, status, loaded), strip.text, lost),
        section("next", "What comes next",
          el("div", { class: "pg-bars", tabindex: 0, role: "group", "aria-label": "The likeliest next tokens" }, candidates.table),
          el("p", { class: "pg-note" }, "Hollow: what the model says. Full: what is drawn from, after the options below. Hatched: cut away. Choose a token to add it yourself."),
          el("div", { class: "pg-dials", role: "group", "aria-label": "How the next token is chosen" }, ...candidates.sliders.map((s) => s.label)), candidates.summary,
          el("div", { class: "pg-buttons pg-again", role: "group", "aria-label": "Chance" }, labelled("Seed", seed), another, ...(settings.links ? [link] : []))),
        section("strip", "The text as tokens", strip.box,
          el("p", { class: "pg-note" }, "Underlined: written by the model. Choose a token to see what it read: the stronger the colour behind a token, the more of it."), meter),
        section("look", "Who reads whom",
          el("div", { class: "pg-pair" }, labelled("Layer", heads.layers), labelled("Head", heads.heads)), heads.large, heads.readout,
          el("p", { class: "pg-note pg-scale" }, "weight 0 ", el("span", { "aria-hidden": "true" }), " 100 %, on a square-root scale; grey: hidden from that row"),
          el("p", { class: "pg-note" }, "A row is the token that reads, a column the token that is read. Choose a row to follow it. Of a long text you see the last rows, or those around the one you chose.")),
        section("all", "Every head",
          el("p", { class: "pg-note" }, "A line of pictures for each layer, a picture for each head, of the last 40 tokens at most. Each is as bright as its own largest weight. Choose one to see it large."), heads.small)),
      el("div", { class: "pg-line" }, about, details),
    ];

    // ---- drawing -------------------------------------------------------------------------------
    const named = (token) => `“${words.token(token)}”`;
    const position = () => Math.min(selected ?? Infinity, reader.length - 1); // of the token whose reading is shown
    const say = (text, wrong = false) => { if (status.textContent !== text) status.textContent = text; status.classList.toggle("pg-wrong", wrong); };
    const length = () => typed.length + written.length;
    const ids = (a, b) => a >= typed.length ? written.slice(a - typed.length, b - typed.length)
      : [...typed.slice(a, b), ...written.slice(0, Math.max(0, b - typed.length))]; // of typed and written, from a to b
    const forget = (n) => strip.forget(n, ids(Math.max(0, n - REMEMBERED), n), words);

    function buttons() {
      const ready = reader && !trouble && !reading, seeded = seed.validity.valid && seed.value !== "";
      seed.setAttribute("aria-invalid", !seeded);
      const off = (control, yes) => control.setAttribute("aria-disabled", Boolean(yes));
      off(one, !ready || writing || !seeded);
      off(write, !writing && (!ready || !seeded));
      off(back, !ready || writing || !written.length);
      off(replay, !ready || writing || !seeded);
      off(link, !ready || writing || !seeded);
      write.textContent = writing ? "Stop" : "Write";
      heads.readout.setAttribute("aria-live", writing ? "off" : "polite");
    }
    /* All panels; briefly: a frame while the model writes, in which all but the text follow now and then. */
    function draw(briefly = false) {
      if (!reader?.length || reading || trouble) return;
      const now = position(), glance = !briefly || performance.now() >= due, most = reader.maxLength.toLocaleString("en");
      strip.draw(reader.ids, words, Math.max(0, typed.length - start), now, glance ? reader.row(heads.layer, heads.head, now) : null);
      meter.textContent = `${plural(length(), "token")}${start ? `, of which the model reads the last ${reader.length}` : ""}, of at most ${most} at once; ${reader.spent.toFixed(1)} ms for the last one.`;
      if (!glance) return;
      if (reader.logits) candidates.draw(reader.logits, words);
      heads.draw(words, now, briefly);
      due = performance.now() + GLANCE;
    }
    const onNextFrame = onFrames(() => draw(true));
    function clear() { for (const panel of [strip, candidates, heads]) panel.clear(); meter.textContent = ""; }
    function select(at) {
      if (!reader || at < 0 || at >= reader.length) return; // being read again
      selected = at === reader.length - 1 ? null : at; // the last token: follow the end
      draw();
    }

    // ---- reading and writing -------------------------------------------------------------------
    /* Read typed + written, the end of it where it is too long; what the model has read already is kept. False where a
       later call took over. */
    async function read() {
      const mine = ++job, before = start;
      start = windowStart(length(), reader.maxLength);
      const all = ids(start, length());
      reading = true;
      let same = 0;
      while (start === before && same < Math.min(reader.length, all.length - 1) && reader.ids[same] === all[same]) same++;
      reader.crop(same);
      buttons();
      if (!await reader.read(all.slice(same), (n) => { meter.textContent = `Reading: ${same + n} of ${plural(all.length, "token")} …`; }) || mine !== job) return false;
      reading = false;
      if (selected >= reader.length) selected = null;
      forget(start);
      draw(); buttons(); rest();
      return true;
    }

    async function reread() { // the prompt changed; false where it cannot be read
      const mine = ++job, stopped = () => mine !== job;
      reader.crop(reader.length); // whatever is being read is no longer wanted
      writing = false;
      reading = true;
      written = []; made = [];
      selected = null;
      trouble = "";
      buttons();
      try {
        const found = await llmText.inSlices(words.encoding(prompt.value), stopped);
        if (stopped()) return false;
        typed = found;
      } catch (error) {
        if (stopped()) return false;
        trouble = error.message;
      }
      prompt.setAttribute("aria-invalid", Boolean(trouble));
      if (trouble) { fail(new Error(trouble)); return false; }
      const over = typed.length > reader.maxLength, kept = typed.length - windowStart(typed.length, reader.maxLength);
      if (over) say(`The prompt has ${plural(typed.length, "token")} and this model reads at most ${reader.maxLength.toLocaleString("en")} at once: it reads the last ${kept} of them.`);
      else if (typed.length) say("");
      else {
        typed = [...reader.header.start];
        say(`A model must read something: the empty prompt is read as ${typed.map(named).join("")}.`);
      }
      return read();
    }

    async function take(token, recipe, told = "") { // one more token, wherever it comes from
      const next = windowStart(length() + 1, reader.maxLength), slides = next !== start;
      if (slides) {
        const mine = ++job;
        reading = true;
        const all = [...ids(next, length()), token];
        forget(start = next);
        reader.crop(0);
        if (!await reader.read(all) || mine !== job) return false;
        reading = false;
      } else if (!await reader.read([token])) return false; // something else is to be read
      written.push(token);
      made.push(recipe);
      if (told) say(told);
      if (slides) say(`${writing ? "Writing; Escape stops it." : told} The model reads at most ${reader.maxLength} tokens at once: it has forgotten the beginning and read the last ${reader.length} again.`);
      if (writing) onNextFrame(); else { draw(); buttons(); rest(); }
      if (words.isSpecial(token)) { say(`The model ended its text with ${named(token)}.`); return false; }
      return true;
    }
    const next = () => drawn(candidates.distribution(reader.logits).chance, uniform(+seed.value, written.length));
    const recipe = () => pack({ seed: +seed.value, ...candidates.state });
    function step() { const token = next(); return take(token, recipe(), `Added ${named(token)}.`); }

    async function stream(n, pace = PACE) {
      const first = written.length, text = written; // another text: the prompt was changed meanwhile
      writing = true;
      buttons();
      say("Writing; Escape stops it.");
      for (let i = 0; i < n && writing; i++) {
        const since = performance.now();
        if (!await take(next(), recipe())) break;
        await pause(Math.max(0, pace - (performance.now() - since)));
        if (text !== written) return;
      }
      if (text !== written) return;
      writing = false;
      draw(); buttons(); rest();
      if (status.textContent.startsWith("Writing")) say(`Wrote ${plural(written.length - first, "token")}.${start ? ` The model reads the last ${reader.length}, at most ${reader.maxLength} at once.` : ""}`);
      status.append(el("span", { class: "pg-unseen" }, ` Written: ${words.decode(written.slice(first)).slice(-300)}`)); // seen below, heard here
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
    function fail(error) { // nothing of another text stays beside the words
      reading = writing = false;
      say(trouble = error.message, true);
      clear(); buttons(); rest();
    }
    /* One thing at a time, in the order of the presses; what is pressed while the model writes is not meant for later. */
    function act(what) {
      if (!reader || trouble || writing || waiting >= WAITING) return;
      const mine = reader;
      waiting++;
      turn = turn.then(() => { if (reader === mine && !trouble && !reading && !writing) return what(); }).catch(fail).finally(() => { waiting--; });
    }

    // ---- links, things to try, and what the tab remembers --------------------------------------
    const state = () => ({ model: source.id, prompt: prompt.value, seed: +seed.value, ...candidates.state, layer: heads.layer, head: heads.head });
    function share() {
      const pure = made.every((one) => one === recipe()), address = `${location.href.replace(/#.*/, "")}#${pack({ ...state(), ...(pure ? { n: written.length || null } : { w: written }) })}`;
      if (address.length > CARRIED) return say("This text is too long for a link: shorten the prompt, or copy the text itself.");
      try { history.replaceState(null, "", address); from = location.hash; } catch { /* a frame without an address of its own */ }
      const copied = navigator.clipboard?.writeText(address) ?? Promise.reject();
      copied.then(() => say("The link is copied. It opens this model with this prompt, seed and text."), () => say("The link is in the address line: it opens this model with this prompt, seed and text."));
    }
    let resting;
    function rest() { clearTimeout(resting); resting = setTimeout(keep, 300); }
    function keep() {
      clearTimeout(resting);
      if (!reader) return;
      lost.hidden = remember(place, from, { ...state(), w: written.length ? written : null });
      if (!lost.hidden) lost.textContent = `This browser lets the page remember nothing: a reload forgets your text.${settings.links ? " A link keeps it." : ""}`;
    }
    addEventListener("pagehide", keep);

    async function arrive(wanted, { pace = 0, greeting = "" } = {}) { // wanted: as in link.js
      const index = models.findIndex((m) => m.id === wanted.model), told = [];
      if (!reader || (index >= 0 && models[index] !== source)) { if (!await open(Math.max(0, index), wanted.prompt)) return; }
      else {
        if (wanted.prompt != null) { prompt.value = wanted.prompt; own = false; }
        if (!await reread()) return;
      }
      if (wanted.model != null && index < 0) told.push(`This page has no model “${wanted.model}”; here is another.`);
      if (wanted.refused) told.push(`The link says ${wanted.refused.join(", ")}, which cannot be used and was left out.`);
      told.push(...candidates.set(wanted));
      if (wanted.seed != null) seed.value = wanted.seed;
      heads.choose(wanted.layer ?? heads.layer, wanted.head ?? heads.head);
      draw(); buttons();
      if (wanted.w) {
        written = wanted.w.filter((token) => token < reader.config.vocab_size);
        made = written.map(() => BY_HAND);
        if (!await read()) return;
        told.unshift(greeting || `The link brought ${plural(written.length, "token")}.`);
      } else if (wanted.n) await stream(wanted.n, pace);
      if (told.length) say([wanted.n && !wanted.w ? status.firstChild?.data ?? "" : "", ...told].join(" ").trim());
    }

    // ---- a model -------------------------------------------------------------------------------
    /* Fetch it, and have it read `given`, or what stands in the box if that is the reader's own, or its own prompt.
       False where it failed, or another was opened meanwhile. */
    async function open(index, given = null) {
      const mine = ++opening;
      source = models[index];
      which[index].checked = true;
      if (given != null || !own) { prompt.value = given ?? source.prompt ?? ""; own = false; }
      for (const box of [prompt, strip.text, strip.chips, candidates.body]) if (source.lang) box.lang = source.lang; else box.removeAttribute("lang");
      reader?.close();
      reader = null;
      job++;
      typed = []; written = []; made = [];
      start = 0;
      reading = writing = false;
      trouble = "";
      root.dataset.state = "loading";
      clear();
      heads.fit(null);
      loaded.hidden = false;
      loaded.removeAttribute("value");
      buttons();
      say("Loading the model …");
      let opened;
      try {
        const heard = (words, share) => { if (mine === opening) { loaded.value = share; loaded.title = words; } };
        opened = await Reader.open(llmLoad.fetchModel(source, heard));
      } catch (error) {
        if (mine !== opening) return false;
        root.dataset.state = "failed";
        loaded.hidden = true;
        say(error.message, true);
        if (source.url) status.append(" ", button("Try again", () => { prompt.focus({ preventScroll: true }); open(index, given); }));
        return false;
      }
      if (mine !== opening) { opened.close(); return false; }
      reader = opened;
      words = reader.tokenizer;
      loaded.hidden = true;
      root.dataset.reads = reader.where;
      const { n_layers: L, n_heads: H, vocab_size: V } = reader.config;
      about.textContent = [source.about, `${plural(reader.header.n_parameters, "parameter")}, ${plural(L, "layer")} of ${plural(H, "head")}, `
        + `${plural(V, "token")} known, ${reader.maxLength.toLocaleString("en")} read at once.`, "It runs in this page; nothing is sent anywhere."].filter(Boolean).join(" ");
      details.hidden = !source.card?.length;
      card.replaceChildren(...(source.card ?? []).map(([term, told]) => el("div", {}, el("dt", {}, term), el("dd", {}, told))));
      candidates.fit(V);
      heads.fit(reader);
      try { await reread(); } catch (error) { fail(error); }
      if (mine !== opening) return false;
      root.dataset.state = "ready";
      return !trouble;
    }

    // ---- the reader's hands --------------------------------------------------------------------
    let typing;
    prompt.addEventListener("input", () => { clearTimeout(typing); writing = false; own = true; typing = setTimeout(() => { if (reader) reread().catch(fail); }, 150); });
    prompt.addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && allowed(write)) { event.preventDefault(); if (!writing) act(() => stream(LONGEST)); } });
    document.addEventListener("keydown", (event) => { if (event.key === "Escape" && writing) stop(); }); // wherever the focus is
    const redrawn = () => { if (reader?.length && !reading && !trouble) heads.enlarge(words, position()); };
    new ResizeObserver(redrawn).observe(heads.large);
    new MutationObserver(redrawn).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawn);

    root.append(...parts);
    for (const one of candidates.sliders) one.say();
    const linked = () => settings.links && location.hash.includes("=") ? unpack(location.hash) : null;
    addEventListener("hashchange", () => { from = location.hash; const wanted = linked(); if (wanted) arrive(wanted).catch(fail); });
    const kept = recall(place, from), wanted = kept ?? linked();
    if (!wanted) { open(0).then(keep); return; }
    arrive(wanted, { greeting: kept?.w ? "Here is your text again." : "" }).catch(fail);
    own = Boolean(kept) && prompt.value !== (source.prompt ?? ""); // `open` has put it there
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
  const begin = () => { follow(); document.querySelectorAll(".llm-playground").forEach(mount); };
  if (document.readyState === "loading") addEventListener("DOMContentLoaded", begin);
  else begin();
})();
