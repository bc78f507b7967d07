/* One figure of the book, drawn from what lib/llmbook/figures/page.py writes. A module like those of anywidget:
   `render({ model, el })`, where `model` has get, set and on. It reads
     payload  the frames (lib/llmbook/figures/payload.py); in `el` as JSON where the page carries them there
     markup   what to write into an empty `el`: title, controls, description (page.py)
     plotly   where plotly.js lies, unless it lies beside this file or is there already
     guess    what a reader has predicted, to be drawn into the figure (predict.js); null for nothing
     look     any new value draws the figure again: in other colours, or with { printing: true } for paper
   and sets `at`, the option that each control stands at. No kernel is asked, and nothing but plotly is fetched. */

const NARROW = 480; // px of figure width; the same number stands in explorer.css

// ---- plotly, once, on demand -----------------------------------------------------------------
/* The rest belongs to another task: the reader's keys and fingers come first. */
const later = () => new Promise((done) => setTimeout(done));
/* The first figure costs three times what the next one does. An empty one pays for it, in a task of its own.
   It lies within the figure: one more element at the end of a page has the style of all the others looked at again. */
async function warm(Plotly, el) {
  const box = el.appendChild(document.createElement("div"));
  box.ariaHidden = "true";
  box.style.cssText = "position: absolute; top: 0; width: 90px; height: 90px; visibility: hidden; contain: strict";
  await later();
  await Plotly.newPlot(box, [{ x: [0, 1], y: [0, 1] }], { width: 90, height: 90 }, { staticPlot: true });
  Plotly.purge(box);
  box.remove();
  return Plotly;
}
let plotly;
const loadPlotly = (address, el) => plotly ??= fetchPlotly(address).then((Plotly) => warm(Plotly, el));
const fetchPlotly = (address) => new Promise((resolve, reject) => {
  if (window.Plotly) return resolve(window.Plotly);
  const script = document.createElement("script");
  script.src = address ?? new URL("vendor/plotly.min.js", import.meta.url);
  script.onload = () => resolve(window.Plotly);
  script.onerror = () => { plotly = undefined; script.remove(); reject(new Error("plotly did not load")); };
  document.head.append(script);
});

// ---- the payload: see lib/llmbook/figures/payload.py -----------------------------------------
const TYPES = { u1: Uint8Array, u2: Uint16Array, i4: Int32Array, f4: Float32Array, f8: Float64Array };
const unzip = async (text) => {
  if (!text) return new Uint8Array(0);
  const letters = atob(text), packed = new Uint8Array(letters.length);
  for (let i = 0; i < packed.length; i++) packed[i] = letters.charCodeAt(i);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
};
const nest = (flat, shape) => {
  if (shape.length < 2) return flat;
  const step = flat.length / shape[0];
  return Array.from({ length: shape[0] }, (_, i) => nest(flat.subarray(i * step, (i + 1) * step), shape.slice(1)));
};
const decode = (spec, blob) => { // -> function: which distinct array -> its values; nothing is done before it is asked
  const size = spec.s.reduce((a, b) => a * b, 1), count = spec.n * size;
  let codes;
  const read = () => {
    const width = TYPES[spec.t].BYTES_PER_ELEMENT, raw = new Uint8Array(count * width);
    for (let b = 0; b < width; b++)
      for (let i = 0; i < count; i++) raw[i * width + b] = blob[spec.o + b * count + i];
    codes = new TYPES[spec.t](raw.buffer);
    if (spec.d) for (let i = 1; i < count; i++) codes[i] += codes[i - 1]; // modulo 2^16, as the array's type does
  };
  return (which) => {
    if (!codes) read();
    const part = codes.subarray(which * size, (which + 1) * size);
    if (spec.t !== "u2") return nest(part, spec.s);
    const low = spec.lo[which], step = spec.k[which], values = new Float64Array(size);
    for (let i = 0; i < size; i++) values[i] = part[i] === 65535 ? NaN : low + step * part[i];
    return nest(values, spec.s);
  };
};
const put = (object, path, value) => {
  for (const key of path.slice(0, -1)) object = object[key];
  object[path[path.length - 1]] = value;
};

// ---- the look: the page's own colours, and less where there is less room -------------------
const colours = (printing) => {
  if (printing) return { text: "#222", page: "#fff", line: "#ddd", muted: "#555" };
  const style = getComputedStyle(document.documentElement);
  const get = (name, other) => style.getPropertyValue(name).trim() || other;
  return { text: get("--pst-color-text-base", "#222832"), page: get("--pst-color-background", "#fff"),
           line: get("--pst-color-border-muted", "#e5e7eb"), muted: get("--pst-color-text-muted", "#48566b") };
};
const plain = (text) => new DOMParser().parseFromString(String(text ?? "").replace(/<br\s*\/?>/g, " "), "text/html")
  .body.textContent;
const coarse = matchMedia("(pointer: coarse)");

function dress(figure, box, printing) {
  const c = colours(printing), narrow = box.clientWidth <= NARROW, layout = figure.layout;
  const size = narrow ? 12 : 13;
  Object.assign(layout, {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", autosize: false,
    width: box.clientWidth, height: box.clientHeight, dragmode: coarse.matches ? false : "zoom", uirevision: 1,
    colorway: ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00"],
    font: { family: getComputedStyle(box).fontFamily, ...layout.font, size, color: c.text },
    hoverlabel: { bgcolor: c.page, bordercolor: c.muted, font: { color: c.text, size: 13 } },
  });
  delete layout.title; // it stands above the figure as text, where it can wrap
  layout.margin = { l: 10, r: 14, b: 10, ...layout.margin, t: figure.subplots ? 26 : 10 }; // axes add their own
  if (narrow) layout.margin.r = Math.min(layout.margin.r, 52);
  const axes = Object.keys(layout).filter((key) => /^[xy]axis\d*$/.test(key));
  for (const key of new Set(["xaxis", "yaxis", ...axes])) {
    const axis = layout[key] = { gridcolor: c.line, zerolinecolor: c.line, linecolor: c.muted, automargin: true,
                                 ticks: "", fixedrange: coarse.matches, ...layout[key] };
    axis.title = { standoff: 8, ...axis.title };
    if (key[0] === "x" && axis.ticktext) axis.ticklabeloverflow = "allow"; // the margin makes room, none is dropped
    if (narrow && key[0] === "x" && !axis.ticktext) {
      axis.nticks ||= 5;
      if (axis.type === "log" && axis.dtick === 1) delete axis.dtick; // every power would be set upright
    }
  }
  thinTicks(figure, box);
  if (narrow) compact(figure, layout, foldBelow(figure, box) * 17 / (0.6 * box.clientHeight));
  else if (!layout.legend) layout.legend = { orientation: "h", y: -0.18, yanchor: "top", x: 0 };
  return figure;
}

/* Labels of single positions (tokens): smaller, then every second, third … of them. Hovering still names each. */
function thinTicks(figure, box) {
  const { layout, data } = figure;
  for (const key of Object.keys(layout).filter((k) => /^[xy]axis\d*$/.test(k))) {
    const axis = layout[key], n = axis.ticktext?.length;
    if (!n || axis.showticklabels === false) continue;
    const bars = data.some((t) => t.type === "bar");
    const room = key[0] === "x" ? box.clientWidth - 130 : box.clientHeight - 90, each = room / n;
    const font = Math.max(9, Math.min(axis.tickfont?.size ?? 12, Math.floor(each)));
    axis.tickfont = { ...axis.tickfont, size: bars ? 12 : font };
    const every = bars ? 1 : Math.ceil((font + 1) / each);
    if (every < 2) continue;
    const names = axis.ticktext, at = axis.tickvals, which = key[0] === "x" ? 1 : 0;
    axis.tickvals = at.filter((_, i) => i % every === 0);
    axis.ticktext = names.filter((_, i) => i % every === 0);
    for (const trace of data) {
      if (trace.type !== "heatmap" || (trace[key[0] + "axis"] ?? key[0]) !== key.replace("axis", "")) continue;
      trace.customdata ??= Array.from(trace.z, (row) => Array.from(row, () => ["", ""]));
      trace.customdata.forEach((row, y) => row.forEach((cell, x) => { cell[which] = names[which ? x : y]; }));
      trace.hovertemplate = trace.hovertemplate?.replace(`%{${key[0]}}`, `%{customdata[${which}]}`);
    }
  }
}

/* A phone: what stands under the axis and is too long goes over several lines. Returns how many lines more. */
const ruler = document.createElement("canvas").getContext("2d");
const fold = (text, most) => text.split(" ").reduce((lines, word) => {
  const joined = [...lines.slice(-1), word].join(" ");
  return ruler.measureText(joined).width > most ? [...lines, word] : [...lines.slice(0, -1), joined];
}, []).join("<br>");
function foldBelow({ layout, data }, box) {
  const { title, ticktext, tickfont } = layout.xaxis, size = layout.font.size, width = box.clientWidth;
  const of = (type) => data.some((trace) => trace.type === type), lines = (text) => text.split("<br>").length - 1;
  let more = 0;
  if (title.text && !title.text.includes("<")) {
    ruler.font = `${1.2 * size}px ${layout.font.family}`; // plotly's titles are larger by so much
    title.text = fold(title.text, (of("bar") ? 0.7 : 0.92) * width); // names of bars push the middle to the right
    more += lines(title.text);
  }
  if (ticktext && !of("heatmap")) {
    ruler.font = `${tickfont?.size ?? size}px ${layout.font.family}`;
    layout.xaxis.ticktext = Array.from(ticktext, (text) => fold(String(text), (width - 60) / ticktext.length));
    more += Math.max(0, ...layout.xaxis.ticktext.map(lines));
  }
  return more;
}

/* A phone: labels beside the lines become a legend below, lower by a share of the plot; colour bars become thin. */
function compact(figure, layout, lower) {
  const labels = (layout.annotations ?? []).filter((a) => a.name === "direct-label");
  if (labels.length) {
    layout.annotations = layout.annotations.filter((a) => a.name !== "direct-label");
    layout.margin.r = 12;
    for (const trace of figure.data) if (trace.name) trace.showlegend = true;
    layout.showlegend = true;
  }
  layout.legend = { ...layout.legend, orientation: "h", x: 0, y: -0.22 - lower, yanchor: "top" };
  for (const annotation of layout.annotations ?? []) annotation.font = { ...annotation.font, size: 10 };
  const bars = [layout.coloraxis?.colorbar, ...figure.data.map((t) => t.colorbar)];
  for (const bar of bars) if (bar) Object.assign(bar, { thickness: 7, title: { text: "" }, tickfont: { size: 10 }, xpad: 4 });
}

/* Names beside points: one that would lie upon an earlier one, or be cut, is left out. Hovering still says it. */
function sparseNames(plot) {
  const box = plot.getBoundingClientRect(), kept = [];
  for (const text of plot.querySelectorAll(".textpoint text")) {
    const a = text.getBoundingClientRect();
    const covers = kept.some((b) => a.left < b.right && b.left < a.right && a.top + 3 < b.bottom && b.top + 3 < a.bottom);
    const out = covers || a.left < box.left || a.right > box.right;
    text.style.visibility = out ? "hidden" : "";
    if (!out) kept.push(a);
  }
}

// ---- what the reader predicted: { mark: "x" | "y", value } or { mark: "line", x, y } or { mark: "label", text } ----
const GUESS = "#CC79A7", SAYS = "your guess";
function addGuess({ data, layout }, guess) {
  if (!guess) return;
  if (guess.mark === "line") {
    const text = guess.x.map((_, i) => i === guess.x.length - 1 ? SAYS : "");
    data.push({ type: "scatter", mode: "lines+markers+text", name: SAYS, x: guess.x, y: guess.y, text,
                textposition: "top left", cliponaxis: false, showlegend: false,
                line: { color: GUESS, dash: "dot", width: 2.5 }, marker: { color: GUESS, size: 9, symbol: "diamond-open" },
                hovertemplate: `${SAYS}<br>%{x}: %{y:.4g}<extra></extra>` });
  } else if (guess.mark === "x" || guess.mark === "y") {
    const along = guess.mark, across = along === "x" ? "y" : "x";
    const at = { [`${along}0`]: guess.value, [`${along}1`]: guess.value, [`${across}0`]: 0, [`${across}1`]: 1 };
    const label = { text: SAYS, textposition: along === "x" ? "end" : "start", textangle: 0, xanchor: "left", yanchor: "top" };
    layout.shapes = [...(layout.shapes ?? []), { ...at, type: "line", [`${along}ref`]: along, [`${across}ref`]: "paper",
                                                 line: { color: GUESS, dash: "dot", width: 2.5 }, label }];
  } else if (guess.mark === "label") {
    const mine = (text) => plain(text).replace(/^[━╍]\s*/, "").trim() === guess.text;
    for (const axis of Object.keys(layout).filter((key) => /^[xy]axis\d*$/.test(key)).map((key) => layout[key]))
      if (axis.ticktext) axis.ticktext = axis.ticktext.map((text) => mine(text) ? `<b>▸ ${text}</b>` : text);
    for (const note of layout.annotations ?? []) if (mine(note.text)) note.text = `<b>▸ ${note.text}</b>`;
    for (const trace of data) if (trace.name && mine(trace.name)) trace.name = `▸ ${trace.name}`;
  }
}

// ---- one figure ------------------------------------------------------------------------------
/* Draws again in the next frame, however often it is asked for; of several figures one a frame. */
const due = new Set();
function soon(draw) {
  if (!due.size) requestAnimationFrame(nextDue);
  due.add(draw);
}
function nextDue() {
  const [draw] = due;
  due.delete(draw);
  if (due.size) requestAnimationFrame(nextDue);
  draw();
}
/* Draws the figure into `el`; resolves when it is drawn, or has said that it could not be. */
async function render({ model, el }) {
  if (!el.querySelector(".llm-plot")) el.innerHTML = model.get("markup") ?? "";
  const plot = el.querySelector(".llm-plot");
  try {
    if (plot.classList.contains("llm-drawing")) return await renderDrawing({ model, el, plot });
    const source = model.get("payload") ?? JSON.parse(el.querySelector('script[type="application/json"]').textContent);
    const [Plotly, blob] = await Promise.all([loadPlotly(model.get("plotly"), el), unzip(source.blob)]);
    const tables = source.arrays.map((spec) => decode(spec, blob));
    const at = source.dials.map((dial) => dial.at);
    const title = el.querySelector(".llm-title"), subtitle = el.querySelector(".llm-subtitle");
    let shown, width;

    const frame = () => {
      const k = place(source.dials, at), figure = structuredClone(source.fig);
      for (const [path, which, order] of source.use) put(figure, path, tables[which](order ? order[k] : 0));
      for (const [path, values, order] of source.vary) put(figure, path, values[order[k]]);
      return figure;
    };
    const draw = () => {
      if (!plot.clientWidth) return undefined; // hidden: drawn when it is given a width
      const figure = frame(), meta = figure.layout.meta ?? {}, own = plain(figure.layout.title?.text);
      const guess = model.get("guess"), alt = [meta.alt, guess?.said].filter(Boolean).join(" ");
      plot.setAttribute("aria-label", alt);
      el.querySelector(".llm-caption").textContent = meta.caption ?? "";
      if (subtitle) subtitle.textContent = own && own !== title?.textContent ? own : "\u00a0";
      figure.subplots = (figure.layout.annotations ?? []).some((a) => a.name !== "direct-label");
      addGuess(figure, guess);
      shown = alt;
      width = plot.clientWidth;
      if (el.querySelector("details[open]")) table(el, frame());
      const dressed = dress(figure, plot, model.get("look")?.printing);
      return Plotly.react(plot, dressed.data, dressed.layout, { displayModeBar: false, responsive: false, doubleClick: "reset" });
    };
    const redraw = () => soon(draw);
    connect({ model, el, dials: source.dials, at, redraw, says: () => shown ?? "" });
    const values = el.querySelector(".llm-values");
    values.addEventListener("toggle", () => { if (values.open) table(el, frame()); });
    await later();
    await draw();
    sparseNames(plot);
    plot.on?.("plotly_afterplot", () => sparseNames(plot));
    model.on("change:guess", redraw);
    model.on("change:look", draw); // at once: the page around it chooses the moment
    new ResizeObserver(() => { if (plot.clientWidth !== width) redraw(); }).observe(plot);
    el.dataset.state = source.dials.length ? "explorer" : "figure";
  } catch (error) {
    console.warn("figure not drawn:", error);
    failed(el, plot, () => render({ model, el }));
  }
}

/* Which of all frames the controls stand at. */
const place = (dials, at) => dials.reduce((sum, dial, i) => sum * dial.options.length + at[i], 0);

/* The controls: each sets its place in `at`, has the figure drawn again and, when the reader rests, says what it shows. */
function connect({ model, el, dials, at, redraw, says }) {
  let speak;
  const status = el.querySelector(".llm-status");
  [...el.querySelectorAll("[data-dial]")].forEach((control, i) => {
    const output = control.parentElement.querySelector("output");
    control.value = at[i];
    control.disabled = false;
    control.addEventListener("input", () => {
      at[i] = +control.value;
      const text = dials[i].options[at[i]];
      if (output) { output.textContent = text; control.setAttribute("aria-valuetext", text); }
      redraw();
      model.set("at", [...at]);
      clearTimeout(speak); // say it once the reader has stopped moving
      speak = setTimeout(() => {
        const values = dials.map((dial, j) => `${dial.label}: ${dial.options[at[j]]}`).join(", ");
        status.textContent = `${values}. ${says()}`;
      }, 700);
    });
  });
}

/* A drawing lies in the page already; of an explorer, each frame is put in its place. Its colours are style sheets'. */
async function renderDrawing({ model, el, plot }) {
  const packed = el.querySelector('script[type="application/json"]');
  const label = (alt) => plot.setAttribute("aria-label", [alt, model.get("guess")?.said].filter(Boolean).join(" "));
  let alt = plot.getAttribute("aria-label");
  model.on("change:guess", () => label(alt));
  if (packed) {
    const source = JSON.parse(packed.textContent), at = source.dials.map((dial) => dial.at);
    const frames = JSON.parse(new TextDecoder().decode(await unzip(source.blob)));
    const title = el.querySelector(".llm-title")?.textContent, list = el.querySelector(".llm-panels");
    const draw = () => {
      const frame = frames[place(source.dials, at)], own = frame.title;
      plot.innerHTML = frame.svg;
      label(alt = frame.alt);
      el.querySelector(".llm-caption").textContent = frame.caption;
      el.querySelector(".llm-subtitle").textContent = own && own !== title ? own : "\u00a0";
      if (!list) return;
      list.innerHTML = list.querySelector("summary").outerHTML + frame.panels;
      el.querySelector(".llm-panel").replaceChildren(); // it told of the frame before
    };
    connect({ model, el, dials: source.dials, at, redraw: () => soon(draw), says: () => plot.getAttribute("aria-label") });
  }
  label(alt);
  el.dataset.state = packed ? "explorer" : "figure";
}

function failed(el, plot, mend) {
  el.dataset.state = "failed";
  const note = document.createElement("p"), again = document.createElement("button");
  note.className = "llm-error";
  note.textContent = `This figure could not be drawn. What it shows: ${plot.getAttribute("aria-label")} `;
  again.type = "button";
  again.textContent = "Try again";
  again.addEventListener("click", () => { note.remove(); plot.hidden = false; mend(); });
  note.append(again);
  plot.hidden = true;
  plot.after(note);
}

// ---- the numbers, as a table and as a file -------------------------------------------------
const number = (v) => v == null || Number.isNaN(v) ? "" : typeof v === "number"
  ? String(Number.isInteger(v) ? v : +v.toPrecision(5)) : plain(v);
function rows(figure) {
  const out = [], { data, layout } = figure;
  for (const trace of data) {
    if (trace.hoverinfo === "skip" || trace.showscale === false) continue;
    const names = (letter) => {
      const axis = layout[(trace[letter + "axis"] ?? letter).replace(/^[xy]/, "$&axis")] ?? {};
      return (v) => { const i = axis.tickvals && axis.ticktext ? axis.tickvals.indexOf(v) : -1; return i < 0 ? number(v) : plain(axis.ticktext[i]); };
    };
    const nx = names("x"), ny = names("y");
    if (trace.type === "heatmap") {
      const x = trace.x ?? Array.from(trace.z[0], (_, j) => j), y = trace.y ?? Array.from(trace.z, (_, i) => i);
      out.push(["", ...Array.from(x, nx)]);
      Array.from(trace.z).forEach((row, i) => out.push([ny(y[i]), ...Array.from(row, number)]));
    } else {
      const label = plain(trace.name) || plain(layout.yaxis?.title?.text) || "y";
      out.push([plain(layout.xaxis?.title?.text) || "x", label]);
      Array.from(trace.x).forEach((v, i) => out.push([nx(v), ny(trace.y[i])]));
    }
  }
  return out;
}
function table(el, figure) {
  const details = el.querySelector(".llm-values"), all = rows(figure), most = 200;
  const scroll = document.createElement("div"), grid = document.createElement("table"), link = document.createElement("a");
  scroll.tabIndex = 0;
  scroll.setAttribute("role", "group");
  scroll.setAttribute("aria-label", "Values of the figure");
  for (const row of all.slice(0, most)) {
    const tr = grid.insertRow();
    row.forEach((text, j) => {
      const cell = document.createElement(text && (j === 0 || row === all[0]) ? "th" : "td");
      if (cell.localName === "th") cell.scope = row === all[0] ? "col" : "row";
      cell.textContent = text;
      tr.append(cell);
    });
  }
  scroll.append(grid);
  const quote = (text) => /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  link.href = "data:text/csv;charset=utf-8," + encodeURIComponent(all.map((r) => r.map(quote).join(",")).join("\n"));
  link.download = "figure.csv";
  link.textContent = all.length > most ? `All ${all.length} rows as CSV` : "Download as CSV";
  details.replaceChildren(details.firstChild, link, scroll);
}

export default { render };
