"""What the tests ask of a page, as JavaScript that runs in it."""

# Before anything else: what moves without the reader having done anything, and nothing half-way between two colours.
WATCH = """(() => {
  window.shiftsSeen = [];
  const name = (node) => (node?.nodeType === 1 ? node : node?.parentElement)?.outerHTML.slice(0, 80) ?? "gone";
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries())
      if (!entry.hadRecentInput) window.shiftsSeen.push([entry.value, entry.sources.map((one) => name(one.node))[0]]);
  }).observe({ type: "layout-shift", buffered: true });
  // From the beginning: a rule for every element that came later would be a long task of its own.
  const still = new CSSStyleSheet();
  still.replaceSync("*, ::before, ::after { transition: none !important; }");
  document.adoptedStyleSheets.push(still);
})()"""
SHIFTS = "() => window.shiftsSeen"
# About 42 ms of a core of the machine that the README's figures come from: arithmetic, memory and a sort.
REFERENCE = """() => {
  performance.mark("the reference");
  let x = 0;
  const some = [];
  for (let i = 0; i < 3e6; i++) {
    x = (x * 1103515245 + 12345) & 0x7fffffff;
    if (i % 64 === 0) some.push(x);
  }
  some.sort();
  return some.length;
}"""
# Two frames, and as many as it takes to draw what waits to be drawn.
FRAMES = """async () => {
  const frame = () => new Promise((done) => requestAnimationFrame(done));
  do { await frame(); await frame(); } while (document.querySelector("figure[aria-busy]"));
}"""
# Every figure is passed by, down and up again: only what comes near is drawn.
PASS = """async () => {
  const frame = () => new Promise((done) => requestAnimationFrame(done));
  await document.fonts.ready;
  for (const box of document.querySelectorAll("figure.llm-figure, footer")) {
    if (!box.checkVisibility()) continue;
    box.scrollIntoView({ behavior: "instant" });
    await frame(); await frame();
  }
  scrollTo({ top: 0, behavior: "instant" });
}"""
# Solutions, code and predictions.
OPEN = """() => {
  for (const box of document.querySelectorAll("main details:not(.llm-values)")) box.open = true;
  for (const skip of document.querySelectorAll(".llm-predict [data-skip]")) skip.click();
}"""
SETTLED = """() => [...document.querySelectorAll("figure.llm-figure")]
    .every((figure) => figure.dataset.state || !figure.checkVisibility())
  && [...document.querySelectorAll(".llm-playground")].every((box) => box.dataset.state !== "loading")"""
OPEN_VALUES = """async () => {
  const values = document.querySelector(".llm-values");
  if (!values) return;
  values.open = true;
  for (let left = 200; left && values.querySelectorAll("tr").length < 2; left--)
    await new Promise((done) => requestAnimationFrame(done));
}"""
WAY_UP = "#pst-back-to-top"
# To the end and a little back; false where a page is too short for that.
BACK_UP = """async () => {
  const frame = () => new Promise((done) => requestAnimationFrame(done));
  for (const top of [document.documentElement.scrollHeight, -200, -200]) {
    scrollBy({ top, behavior: "instant" });
    await frame(); await frame();
  }
  return scrollY > innerHeight;
}"""
# The whole page has the colours of the night, its figures included; one that stays bright is given up after a while.
RESTED = """() => {
  window.asked = (window.asked ?? 0) + 1;
  const text = getComputedStyle(document.documentElement).getPropertyValue("--pst-color-text-base").trim();
  const plots = [...document.querySelectorAll("figure.llm-figure .js-plotly-plot")];
  return document.documentElement.dataset.theme === "dark"
    && plots.every((plot) => plot._fullLayout?.font.color === text) || window.asked > 600;
}"""
STATE = """() => {
  const width = document.documentElement.clientWidth;
  const clipped = (element) => {
    for (let box = element.parentElement; box; box = box.parentElement)
      if (box !== document.body && box !== document.documentElement && getComputedStyle(box).overflowX !== "visible")
        return true;
    return false;
  };
  const name = (element) => element.tagName.toLowerCase() + [...element.classList].map((c) => "." + c).join("");
  const shown = (element) => element.checkVisibility({ visibilityProperty: true }) && !clipped(element);
  const too_wide = [...document.body.querySelectorAll("*")]
    .filter((element) => element.getBoundingClientRect().right > width + 1 && shown(element))
    .map((element) => `${name(element)} to ${Math.round(element.getBoundingClientRect().right)} px`);
  const drawn = (plot) => plot.classList.contains("js-plotly-plot") && plot.querySelector(".main-svg")
    && plot._fullData?.length > 0 || plot.querySelector(".llm-svg > *");
  const inks = (plot) => plot._fullLayout?.font.color ?? getComputedStyle(plot.querySelector(".llm-svg")).color;
  const same = (one, other) => {
    const probe = document.body.appendChild(document.createElement("i"));
    const [a, b] = [one, other].map((colour) => { probe.style.color = colour; return getComputedStyle(probe).color; });
    probe.remove();
    return a === b;
  };
  const plots = [...document.querySelectorAll("figure.llm-figure .llm-plot")].filter(drawn);
  const text = getComputedStyle(document.documentElement).getPropertyValue("--pst-color-text-base").trim();
  // A formula in a line against the nearest box that hides what is outside of it.
  const cut = [...document.querySelectorAll("main span.math, main .katex")].filter((formula) => {
    const end = (formula.firstElementChild ?? formula).getBoundingClientRect().right;
    for (let box = formula; box && box.localName !== "main"; box = box.parentElement) {
      const style = getComputedStyle(box);
      if (style.display !== "inline" && style.overflowX !== "visible" && !/auto|scroll/.test(style.overflowX)
          && end > box.getBoundingClientRect().right + 1) return true;
    }
    return false;
  }).map((formula) => formula.textContent.slice(0, 40));
  const boxes = [...document.querySelectorAll("main .bd-article *")].filter((box) => box.checkVisibility()
    && box.scrollWidth > box.clientWidth + 1 && /auto|scroll/.test(getComputedStyle(box).overflowX));
  const told = (box) => `${name(box)} ${box.clientWidth} of ${box.scrollWidth} px: ${box.textContent.slice(0, 40)}`;
  const ours = boxes.filter((box) => !box.closest("figure, .llm-playground, textarea, input, select"));
  const unsaid = ours.filter((box) => box.tabIndex < 0 || getComputedStyle(box).backgroundImage === "none");
  // Wider than the text: nothing that lies beside it may lie above it.
  for (const box of [...document.querySelectorAll("main .book-wide")].filter((one) => one.checkVisibility())) {
    box.scrollIntoView({ behavior: "instant", block: "center" });
    const at = box.getBoundingClientRect(), above = document.elementFromPoint(at.right - 6, (at.top + at.bottom) / 2);
    if (above && !box.contains(above)) cut.push(`${told(box)}, below ${name(above)}`);
    if (/, 0\\)$/.test(getComputedStyle(box).backgroundColor)) cut.push(`${told(box)}, seen through`);
  }
  // Beside free space: there is room to the right of the box, up to the edge of the window.
  const squeezed = ours.filter((box) => !box.closest("li, table")
    && box.getBoundingClientRect().right < width - 40 && width >= 1200);
  return {
    theme: document.documentElement.dataset.theme,
    unlike: plots.filter((plot) => !same(inks(plot), text)).length,
    scroll: document.documentElement.scrollWidth - width,
    too_wide: too_wide.slice(0, 5),
    cut: cut.slice(0, 5),
    unsaid: unsaid.map(told).slice(0, 5),
    squeezed: squeezed.map(told).slice(0, 5),
    drawn: plots.length,
    failed: [...document.querySelectorAll("figure[data-state=failed] .llm-title")].map((title) => title.textContent),
    values: document.querySelector(".llm-values[open]")?.querySelectorAll("tr").length ?? null,
    red: [...document.querySelectorAll(".katex-error, .math > code")].map((error) => error.textContent),
    hidden: [],
  };
}"""
# The buttons that copy code: seen where nothing hovers, each with a name of its own, one of them a stop of Tab.
COPIES = """() => {
  const buttons = [...document.querySelectorAll("button.copybtn")], names = buttons.map((one) => one.ariaLabel ?? "");
  const unseen = (one) => !matchMedia("(hover: hover)").matches && getComputedStyle(one).opacity < 0.9;
  const hidden = buttons.filter(unseen).map(() => "a button nobody sees");
  if (new Set(names).size < names.length) hidden.push(`names given twice: ${names.slice(0, 3)}`);
  const stops = buttons.filter((one) => one.tabIndex >= 0).length;
  if (stops > 1) hidden.push(`${stops} buttons that copy code are stops of Tab`);
  return { hidden: hidden.slice(0, 3) };
}"""
# One of each kind that Tab stops at takes the focus; how it and what it lies in look must change.
FOCUS = """() => {
  const all = "a[href], button, summary, input, select, textarea, [tabindex]";
  const reached = [...document.querySelectorAll(all)].filter((one) => one.tabIndex >= 0 && !one.disabled
    && one.checkVisibility({ visibilityProperty: true, opacityProperty: false }));
  const looks = (one) => {
    const style = getComputedStyle(one), around = getComputedStyle(one.parentElement);
    const outline = (s) => s.outlineStyle === "none" || parseFloat(s.outlineWidth) === 0 ? "" : s.outline;
    return [outline(style), style.boxShadow, style.borderColor, style.backgroundColor, style.textDecorationLine,
            outline(around), around.boxShadow, around.borderColor].join("|");
  };
  const kinds = new Set(), unseen = [], stops = {};
  for (const one of reached) {
    const named = one.localName + [...one.classList].map((c) => "." + c).join("");
    const kind = named + "|" + [...(one.parentElement?.classList ?? [])].join(".");
    stops[one.localName] = (stops[one.localName] ?? 0) + 1;
    if (kinds.has(kind)) continue;
    kinds.add(kind);
    document.activeElement?.blur();
    const before = looks(one);
    one.focus({ preventScroll: true });
    if (document.activeElement === one && looks(one) === before) unseen.push(named);
  }
  document.activeElement?.blur();
  return { unseen, stops };
}"""
# As it would be printed: the text alone, over the whole width, with its address. The browser is asked for it before.
PRINTED = """() => {
  const beside = [".bd-sidebar-primary", ".bd-sidebar-secondary", "#pst-back-to-top", ".bd-header-article"];
  const wrong = beside.filter((name) => document.querySelector(name)?.checkVisibility());
  const text = document.querySelector(".bd-article").getBoundingClientRect().width;
  if (text < 0.95 * document.documentElement.clientWidth) wrong.push(`the text is ${text} px wide`);
  const made = /(genindex|search)\\.html$/.test(location.pathname); // not of the book, but of the tool
  if (!made && !document.querySelector(".book-address")?.checkVisibility()) wrong.push("no address");
  return { unprintable: wrong };
}"""
DIALS = """
  const explorers = [...document.querySelectorAll("figure.llm-figure:has([data-dial])")]
    .filter((figure) => figure.dataset.state === "explorer");
  const titled = (figure) => figure.querySelector(".llm-title")?.textContent ?? "a figure without a title";
"""
# Every dial by one option and back. What is shown must change and come back; what is said must say what is drawn.
MOVE = (
    "async () => {"
    + DIALS
    + """
  const frame = () => new Promise((done) => requestAnimationFrame(done));
  const plain = (_, value) => ArrayBuffer.isView(value) ? Array.from(value) : value;
  const shown = (figure) => {
    const plot = figure.querySelector(".llm-plot");
    // The line below the title is all that changes where the lesson is that nothing does.
    const below = figure.querySelector(".llm-subtitle")?.textContent;
    const drawing = plot.querySelector(".llm-svg")?.innerHTML;
    return JSON.stringify([drawing ?? [plot.data, plot.layout.annotations, plot.layout.shapes], below], plain);
  };
  const until = async (test) => { // many frames: a busy machine draws late
    for (let left = 600; left && !test(); left--) await frame();
    return test();
  };
  const step = (control, by) => {
    if (control.localName === "select") control.selectedIndex += by;
    else control.valueAsNumber += by * (control.step || 1);
    for (const kind of ["input", "change"]) control.dispatchEvent(new Event(kind, { bubbles: true }));
  };
  const found = { dead: [], stuck: [], mute: [] };
  for (const figure of explorers) {
    for (const control of figure.querySelectorAll("[data-dial]")) {
      const named = `${titled(figure)}, ${control.parentElement.firstElementChild.textContent}`;
      const before = shown(figure), said = control.parentElement.textContent;
      const last = control.localName === "select" ? control.selectedIndex === control.length - 1
        : control.value === control.max;
      step(control, last ? -1 : 1);
      if (!await until(() => shown(figure) !== before)) { found.dead.push(named); continue; }
      if (control.localName === "input" && control.parentElement.textContent === said) found.mute.push(named);
      step(control, last ? 1 : -1);
      if (!await until(() => shown(figure) === before)) found.stuck.push(named);
    }
  }
  for (const figure of explorers) {
    const status = figure.querySelector(".llm-status"), plot = figure.querySelector(".llm-plot");
    const says = () => {
      const drawn = plot.getAttribute("aria-label");
      return drawn && status.textContent.includes(": ") && status.textContent.endsWith(drawn);
    };
    if (!await until(says)) found.mute.push(titled(figure));
  }
  return found;
}"""
)
TAKE = "() => {" + DIALS + "return explorers.length; }"
TAKE_DIAL = (
    "(number) => {"
    + DIALS
    + """
  const control = explorers[number].querySelector("[data-dial]");
  control.focus();
  const last = control.localName === "select" ? control.selectedIndex === control.length - 1
    : control.value === control.max;
  const on = control.localName === "select" ? "ArrowDown" : "ArrowRight";
  const back = control.localName === "select" ? "ArrowUp" : "ArrowLeft";
  return { value: control.value, key: last ? back : on, back: last ? on : back };
}"""
)
READ_DIAL = """() => {
  const control = document.activeElement, figure = control.closest("figure");
  return { value: control.value, name: figure?.querySelector(".llm-title")?.textContent ?? control.localName };
}"""
# axe takes a minute for a page with ten thousand words of code. One of each kind is enough: of the words that look
# alike and stand in alike places all but the first are taken out, once everything else has been asked.
THIN = """() => {
  const seen = new Set();
  const again = (element) => {
    const style = getComputedStyle(element), kind = [style.color, style.fill, style.fontSize, style.fontWeight];
    for (let box = element, up = 0; box && up < 4; box = box.parentElement, up++)
      kind.push(box.localName + "." + (box.getAttribute("class") ?? ""));
    return seen.has(kind.join()) || !seen.add(kind.join());
  };
  const kinds = [".highlight span, .llm-values td", ".katex-display:not([tabindex]), span.math", ".main-svg text"];
  const [words, formulas, labels] = kinds.map((kind) => [...document.querySelectorAll(kind)].filter(again));
  for (const one of words) one.remove();
  for (const one of formulas) one.replaceChildren();
  for (const one of labels) one.style.visibility = "hidden"; // the figure will want them when it is drawn again
}"""
