/* A question before its figure: the reader chooses, places a number or draws a line, and then the figure opens with the
   guess in it and says how near it was. Written by lib/llmbook/figures/guesses.py, whose `verdict` says the same words.
   A module like those of anywidget: `render({ model, el })`. It reads `figure`, the model of the first figure that waits, and
   sets `guess` and `open`. Guesses are kept by the reader's own browser and sent nowhere. */

// ---- where guesses are kept: { id of the question: { guess, day } } --------------------------------------
const PLACE = "llmbook.predictions";
let visit = null; // where the browser refuses to keep anything: what it was told during this visit
export const kept = {
  all() {
    if (visit) return visit;
    try { return JSON.parse(localStorage.getItem(PLACE)) ?? {}; } catch { return {}; }
  },
  /* Returns whether the browser keeps it. `guess` null: forgotten. */
  put(id, guess) {
    const all = { ...this.all() };
    if (guess === null) delete all[id];
    else all[id] = { guess, day: new Date().toISOString().slice(0, 10) };
    return this.replace(all);
  },
  replace(all) {
    try { localStorage.setItem(PLACE, JSON.stringify(all)); return true; } catch { visit = all; return false; }
  },
};

// ---- how near it was; lib/llmbook/figures/guesses.py says the same, and a test compares them -----------------
export const number = (v) => Math.abs(v) >= 1000 ? Math.floor(v + 0.5).toLocaleString("en-GB") : String(+v.toPrecision(3));
const withUnit = (v, unit) => number(v) + (unit && (/^[%°]/.test(unit) ? unit : ` ${unit}`));
const band = ([low, high], unit) => low === high ? withUnit(low, unit) : `${number(low)} to ${withUnit(high, unit)}`;
const share = (spec, v, [low, high]) => { // of the axis, that lies between v and the nearer end of the band
  const scale = spec.log ? Math.log : (x) => x, gap = v < low ? scale(low) - scale(v) : v > high ? scale(v) - scale(high) : 0;
  return gap / (scale(spec.high) - scale(spec.low));
};
/* -> { said, measured, right, off: share of the axis (null where one chooses), text } */
export function verdict(spec, guess) {
  const unit = spec.unit ?? "";
  if (spec.kind === "pick") {
    const right = spec.answer.includes(guess), said = spec.options[guess];
    const measured = spec.answer.map((i) => spec.options[i]).join(" or ");
    const text = right ? `You said: ${said}. Measured: the same.` : `You said: ${said}. Measured: ${measured}.`;
    return { said, measured, right, off: null, text };
  }
  if (spec.kind === "place") {
    const [low, high] = spec.answer, off = share(spec, guess, spec.answer), right = off === 0;
    const far = guess < low ? low - guess : guess - high, side = guess < low ? "below" : "above";
    const times = guess < low ? low / guess : guess / high;
    const how = right ? "within" : spec.log ? `${side} by a factor of ${number(times)}` : `${side} by ${withUnit(far, unit)}`;
    const said = withUnit(guess, unit), measured = band(spec.answer, unit);
    return { said, measured, right, off, text: `You said ${said}; measured ${measured}: ${how}.` };
  }
  const offs = guess.map((v, i) => share(spec, v, spec.answer[i])), hits = offs.filter((v) => v === 0).length;
  const off = offs.reduce((a, b) => a + b, 0) / offs.length, right = hits * 2 >= guess.length;
  const worst = offs.indexOf(Math.max(...offs)), side = guess[worst] < spec.answer[worst][0] ? "below" : "above";
  const rest = off ? `, and is farthest off at ${spec.names[worst]}, where it lies ${side} ${band(spec.answer[worst], unit)}` : "";
  const measured = spec.answer.map((one) => band(one, unit)).join(", "), said = guess.map((v) => withUnit(v, unit)).join(", ");
  return { said, measured, right, off,
           text: `Your line agrees with what was measured at ${hits} of ${guess.length} places${rest}.` };
}

/* Whether `guess`, which may have been kept before the question was changed, is an answer to it at all. */
export function fits(spec, guess) {
  const within = (v) => typeof v === "number" && v >= spec.low && v <= spec.high;
  if (spec.kind === "pick") return Number.isInteger(guess) && guess >= 0 && guess < spec.options.length;
  return spec.kind === "place" ? within(guess) : Array.isArray(guess) && guess.length === spec.names.length && guess.every(within);
}

// ---- the controls -------------------------------------------------------------------------------
const at = (spec, step) => { // the value of a slider's step
  const part = step / spec.steps, v = spec.log ? spec.low * (spec.high / spec.low) ** part : spec.low + part * (spec.high - spec.low);
  return +v.toPrecision(3);
};
const stepOf = (spec, v) => Math.round(spec.steps * (spec.log ? Math.log(v / spec.low) / Math.log(spec.high / spec.low)
  : (v - spec.low) / (spec.high - spec.low)));

/* Each kind: -> { read(): the guess, or a word on what is missing; write(guess) }. */
const KINDS = {
  pick(spec, el) {
    const choices = [...el.querySelectorAll("input[type=radio]")];
    return {
      read() { const i = choices.findIndex((choice) => choice.checked); return i < 0 ? "Choose one of the answers first." : i; },
      write(guess) { choices.forEach((choice, i) => { choice.checked = i === guess; }); },
    };
  },
  place(spec, el) {
    const slider = el.querySelector("input[type=range]"), field = el.querySelector("input[type=text]");
    const tell = (v) => slider.setAttribute("aria-valuetext", withUnit(v, spec.unit));
    slider.addEventListener("input", () => { const v = at(spec, +slider.value); field.value = String(v); tell(v); });
    field.addEventListener("input", () => {
      const v = amount(field.value);
      if (v >= spec.low && v <= spec.high) { slider.value = stepOf(spec, v); tell(v); }
    });
    return {
      read() {
        const v = amount(field.value), axis = `between ${number(spec.low)} and ${withUnit(spec.high, spec.unit)}`;
        if (!field.value.trim()) return `Move the slider or write a number ${axis} first.`;
        if (Number.isNaN(v)) return `“${field.value.trim().slice(0, 40)}” is not a number; write one ${axis}.`;
        return v >= spec.low && v <= spec.high ? v : `${number(v)} is outside the axis; write a number ${axis}.`;
      },
      write(guess) { field.value = guess === null ? "" : String(guess); slider.value = guess === null ? spec.steps / 2 : stepOf(spec, guess); },
    };
  },
  draw(spec, el) {
    const pad = el.querySelector(".llm-pad"), line = pad.querySelector("polyline"), sliders = [...pad.querySelectorAll("input")];
    const drawn = new Set();
    const show = (slider) => {
      const v = at(spec, +slider.value);
      slider.setAttribute("aria-valuetext", drawn.has(slider) ? withUnit(v, spec.unit) : "not drawn yet");
      slider.parentElement.style.setProperty("--part", 1 - slider.value / spec.steps);
      slider.parentElement.dataset.drawn = drawn.has(slider) ? number(v) : "";
      line.setAttribute("points", sliders.flatMap((one, i) => drawn.has(one)
        ? [`${100 * (i + 0.5) / sliders.length},${100 - 100 * one.value / spec.steps}`] : []).join(" "));
    };
    const move = (slider) => { drawn.add(slider); show(slider); };
    for (const slider of sliders) {
      slider.addEventListener("input", () => move(slider));
      slider.addEventListener("keydown", (event) => { // left and right go along the line, up and down move its point
        const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
        if (!step) return;
        event.preventDefault();
        sliders[sliders.indexOf(slider) + step]?.focus();
      });
    }
    const field = pad.querySelector(".llm-field");
    let last = null; // the point before, so that a fast hand leaves no gap
    const follow = (event) => {
      const box = field.querySelector("svg").getBoundingClientRect();
      const i = Math.max(0, Math.min(sliders.length - 1, Math.floor((event.clientX - box.left) / box.width * sliders.length)));
      const part = Math.max(0, Math.min(1, 1 - (event.clientY - box.top) / box.height));
      const from = last ?? { i, part }, n = Math.max(1, Math.abs(i - from.i));
      for (let k = 1; k <= n; k++) {
        const slider = sliders[from.i + Math.round((i - from.i) * k / n)];
        slider.value = Math.round(spec.steps * (from.part + (part - from.part) * k / n));
        move(slider);
      }
      last = { i, part };
    };
    field.addEventListener("pointerdown", (event) => {
      if (sliders[0].matches(":disabled")) return;
      event.preventDefault();
      field.setPointerCapture(event.pointerId);
      last = null;
      follow(event);
      sliders[last.i].focus({ preventScroll: true });
    });
    field.addEventListener("pointermove", (event) => { if (field.hasPointerCapture(event.pointerId)) follow(event); });
    sliders.forEach(show);
    return {
      read() {
        const missing = sliders.findIndex((slider) => !drawn.has(slider));
        return missing < 0 ? sliders.map((slider) => at(spec, +slider.value))
          : `Draw the line through every place first: at ${spec.names[missing]} there is no point yet.`;
      },
      write(guess) {
        drawn.clear();
        sliders.forEach((slider, i) => { slider.value = guess === null ? spec.steps / 2 : stepOf(spec, guess[i]); if (guess) drawn.add(slider); });
        sliders.forEach(show);
      },
    };
  },
};
const amount = (text) => {
  const plain = text.trim().replace(/[%\s]/g, "").replace(/,(?=\d{3}\b)/g, "").replace(",", ".");
  return plain ? Number(plain) : NaN;
};
const mark = (spec, guess, said) => {
  if (spec.kind === "pick") return { mark: "label", text: spec.options[guess], said };
  return spec.kind === "place" ? { mark: spec.mark, value: guess, said } : { mark: "line", x: spec.over, y: guess, said };
};

// ---- the question ---------------------------------------------------------------------------------
async function render({ model, el }) {
  if (!el.querySelector(".llm-guess")) el.innerHTML = model.get("markup") ?? "";
  const spec = model.get("spec") ?? JSON.parse(el.querySelector("script.llm-spec").textContent);
  const form = el.querySelector(".llm-guess"), say = form.querySelector(".llm-say"), told = el.querySelector(".llm-verdict");
  const hand = KINDS[spec.kind](spec, form), words = told.querySelector("span");
  const open = (guess, note = "") => {
    const result = guess === null ? null : verdict(spec, guess);
    el.dataset.state = "open";
    if (result) told.dataset.right = result.right;
    else delete told.dataset.right;
    words.textContent = [result?.text ?? "Opened without a guess.", note].filter(Boolean).join(" ");
    model.get("figure")?.set("guess", result && mark(spec, guess, result.text));
    model.set("guess", guess);
    model.set("open", true);
  };
  const close = () => {
    delete el.dataset.state;
    hand.write(null);
    say.textContent = "";
    model.get("figure")?.set("guess", null);
    model.set("guess", null);
    model.set("open", false);
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const guess = hand.read();
    if (typeof guess === "string") { say.textContent = guess; return; } // the guess stays as it is
    const note = kept.put(spec.id, guess) ? "" : "Your browser keeps nothing for this site, so this guess lasts for the visit.";
    open(guess, note);
    told.focus();
  });
  form.querySelector("[data-skip]").addEventListener("click", () => { open(null); told.focus(); });
  told.querySelector("button").addEventListener("click", () => {
    kept.put(spec.id, null);
    close();
    form.querySelector("input").focus();
  });
  hand.write(null);
  form.querySelector("fieldset").disabled = false;
  const before = kept.all()[spec.id]?.guess;
  if (before !== undefined && fits(spec, before)) { hand.write(before); open(before); }
}

export default { render };
