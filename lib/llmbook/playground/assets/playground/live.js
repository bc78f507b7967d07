/* One line of text, what a model of the book expects next, and a button that lets it write: figures/live.py makes the
   markup, with numbers of its own run, and this module brings it to life. The model is fetched when a reader touches the
   figure, not before; reading and drawing tokens is the playground's code. In the form of https://anywidget.dev:
   render({model, el}), where model.get("settings") is
     {"prompt": text, "seed": number, "options": {"temperature": …, "topP": …}, "data": id of a <script> with base64,
      or "file": beside this module, "bytes": of it} */
const SCRIPTS = ["text.js", "chance.js", "gpt.js", "reader.js", "load.js", "parts.js"]; // each needs those before it
const PACE = 70; // ms between two tokens
const LONGEST = 120; // tokens a press

/* The playground's scripts, once; a page that holds them already needs no other. */
let scripts = null;
function needed() {
  if (typeof llmReader !== "undefined") return Promise.resolve();
  return scripts ??= Promise.all(SCRIPTS.map((name) => new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = new URL(name, import.meta.url);
    script.async = false; // in their order
    script.onload = resolve;
    script.onerror = () => { scripts = null; reject(new Error("A script of this page could not be fetched: there is no connection to the site.")); };
    document.head.append(script);
  })));
}

function render({ model, el }) {
  const settings = model.get("settings"), part = (name) => el.querySelector(`.lv-${name}`);
  const [input, text, write, over, status, progress] = ["input", "text", "write", "over", "status", "progress"].map(part);
  const rows = [...el.querySelectorAll(".lv-bars button")], first = rows.map((row) => +row.dataset.token);
  let reader = null, opening = null, words, candidates = first, typed = [], written = [], writing = false, turn = Promise.resolve();

  const say = (told) => { status.textContent = told; };
  const begin = (told) => { writing = told; write.textContent = told ? "Stop" : "Write"; };

  /* The model, fetched at the first touch; a failure is said, and the next touch tries again. */
  function ready() {
    return opening ??= (async () => {
      say("Fetching the model …");
      progress.hidden = false;
      try {
        await needed();
        const source = settings.file ? { url: new URL(settings.file, import.meta.url), bytes: settings.bytes } : { data: settings.data };
        reader = await llmReader.Reader.open(llmLoad.fetchModel(source, (told, share) => { progress.value = share; }));
        words = reader.tokenizer;
        await reread();
      } catch (error) {
        opening = null;
        throw error;
      } finally { progress.hidden = true; }
    })();
  }

  /* Read the line and what was added to it, as far as the model's context goes. */
  async function read(more = []) {
    const all = [...typed, ...written, ...more], start = llmParts.windowStart(all.length, reader.maxLength);
    const ids = all.slice(start);
    let same = 0;
    while (same < Math.min(reader.length, ids.length - 1) && reader.ids[same] === ids[same]) same++;
    reader.crop(same);
    await reader.read(ids.slice(same));
    written.push(...more);
    draw();
  }
  async function reread() {
    const found = await llmText.inSlices(words.encoding(input.value));
    typed = found.length ? found : [...reader.header.start];
    written = [];
    await read();
    say("");
  }
  const chances = () => llmChance.distribution(reader.logits, settings.options);

  function draw() {
    const { chance, order } = chances(), most = chance[order[0]];
    candidates = [...order.subarray(0, rows.length)];
    rows.forEach((row, i) => {
      const share = chance[candidates[i]], [token, percent] = row.querySelectorAll("b, span");
      token.textContent = words.token(candidates[i]);
      percent.textContent = llmParts.percent(share);
      row.style.setProperty("--share", (share / most).toFixed(3));
    });
    const shown = [...typed, ...written].slice(-400);
    text.firstElementChild.replaceChildren(...shown.map((id, i) => {
      const whole = words.decode(shown.slice(Math.max(0, i - 8), i + 1)), known = words.decode(shown.slice(Math.max(0, i - 8), i));
      const span = document.createElement("span");
      span.className = i >= shown.length - written.length ? "lv-new" : "";
      span.textContent = whole.slice(known.length);
      return span;
    }));
  }

  async function stream() {
    begin(true);
    say("Writing; Escape stops it.");
    let n = 0;
    for (; n < LONGEST && writing; n++) {
      const token = llmChance.draw(chances().chance, llmChance.uniform(settings.seed, written.length));
      await read([token]);
      if (words.isSpecial(token)) break;
      await llmParts.pause(PACE);
    }
    begin(false);
    say(`Wrote ${llmParts.plural(n, "token")}.`);
  }
  /* One thing after the other; the first of them has the model fetched. */
  function act(what) {
    turn = turn.then(ready).then(what).catch((error) => { begin(false); say(error.message); });
  }

  let typing;
  input.addEventListener("input", () => { begin(false); clearTimeout(typing); typing = setTimeout(() => act(reread), 150); });
  write.addEventListener("click", () => writing ? begin(false) : act(stream));
  over.addEventListener("click", () => { begin(false); input.value = settings.prompt; act(reread); });
  rows.forEach((row, i) => row.addEventListener("click", () => {
    const token = candidates[i];
    begin(false);
    act(async () => { await read([token]); say(`Added “${words.token(token)}”.`); });
  }));
  for (const touch of ["pointerdown", "focusin"]) el.addEventListener(touch, () => act(() => {}), { once: true });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape" && writing) begin(false); });
  for (const control of [input, write, over, ...rows]) control.disabled = false;
  el.dataset.live = "yes";
}

export default { render };

for (const el of document.querySelectorAll(".llm-live:not([data-live])")) {
  const settings = JSON.parse(el.querySelector('script[type="application/json"]').textContent);
  render({ model: { get: (name) => ({ settings })[name] }, el });
}
