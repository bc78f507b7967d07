/* Finds the figures and predictions of a page of this site and gives each its model. Elsewhere a notebook does this:
   explorer.js and predict.js know nothing of the page around them. */
import explorer from "./explorer.js";
import predict from "./predict.js";

/* The part of anywidget's model that a page without a kernel needs. */
export class Model {
  #values; #heard = new Map();
  constructor(values = {}) { this.#values = values; }
  get(name) { return this.#values[name]; }
  set(name, value) {
    this.#values[name] = value;
    for (const hear of this.#heard.get(`change:${name}`) ?? []) hear();
  }
  on(event, hear) { this.#heard.set(event, [...this.#heard.get(event) ?? [], hear]); }
  off(event, hear) { this.#heard.set(event, (this.#heard.get(event) ?? []).filter((one) => one !== hear)); }
  save_changes() {}
}

const FIGURE = "figure.llm-figure", CLOSED = ".llm-predict:not([data-state=open])";
const models = new WeakMap(), drawn = new WeakMap();
const modelOf = (el) => models.get(el) ?? models.set(el, new Model()).get(el);
export const mount = (el) => drawn.get(el) ?? drawn.set(el, explorer.render({ model: modelOf(el), el })).get(el);

// ---- one figure at a time, when nothing else is to do; what the reader looks at comes first ----
const idle = () => new Promise((done) => window.requestIdleCallback ? requestIdleCallback(done, { timeout: 300 }) : setTimeout(done));
const middle = (el) => { const box = el.getBoundingClientRect(); return Math.abs((box.top + box.bottom - innerHeight) / 2); };
const waiting = new Map(); // element -> what to do with it
let working = false;
async function work() {
  if (working) return;
  working = true;
  while (waiting.size) {
    await idle();
    const el = [...waiting.keys()].reduce((a, b) => middle(b) < middle(a) ? b : a), act = waiting.get(el);
    waiting.delete(el);
    await act();
    if (!waiting.has(el)) el.ariaBusy = null;
  }
  working = false;
}
function whenIdle(el, act) {
  waiting.set(el, act);
  el.ariaBusy = "true";
  work();
}

function start() {
  const every = () => [...document.querySelectorAll(FIGURE)];
  const redraw = () => every().filter((el) => drawn.has(el)).forEach((el) => whenIdle(el, () => modelOf(el).set("look", {})));
  const near = new IntersectionObserver((entries) => entries.forEach(({ isIntersecting, target }) => {
    if (!isIntersecting || drawn.has(target)) return;
    if (target.closest(CLOSED)) target.dataset.state = "waiting"; // for the reader's guess
    else whenIdle(target, () => mount(target));
  }), { rootMargin: "500px" });
  every().forEach((el) => near.observe(el));
  for (const el of document.querySelectorAll(".llm-predict")) {
    const figures = [...el.querySelectorAll(FIGURE)], model = new Model({ figure: modelOf(figures[0]) });
    model.on("change:open", () => figures.filter((one) => model.get("open") && !drawn.has(one)).forEach((one) => {
      near.unobserve(one);
      near.observe(one); // again, now that there is something to see
    }));
    predict.render({ model, el });
  }
  const list = document.querySelector(".llm-ledger");
  if (list) import("./ledger.js").then((ledger) => ledger.default.render({ model: new Model(), el: list }));
  new MutationObserver(redraw).observe(document.documentElement,
    { attributes: true, attributeFilter: ["data-theme", "data-mode"] });
  matchMedia("(pointer: coarse)").addEventListener("change", redraw);
  const print = (printing) => every().forEach((el) => {
    if (drawn.has(el)) modelOf(el).set("look", { printing });
    else if (printing && !el.closest(CLOSED)) { modelOf(el).set("look", { printing }); mount(el); }
  });
  addEventListener("beforeprint", () => print(true));
  addEventListener("afterprint", () => print(false));
}
start();
