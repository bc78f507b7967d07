// What gpt.js computes, for test_playground.py: a job as JSON on standard input, its results as JSON on standard output.
const fs = require("node:fs");
const { gpt, model: file, jobs } = JSON.parse(fs.readFileSync(0, "utf8"));
const path = require("node:path"), asset = (name) => require(path.join(path.dirname(gpt), name));
const { Model, advance, source } = asset("gpt.js"), { distribution, uniform, draw } = asset("chance.js");
const { tokenizer } = asset("text.js"), { pack, unpack } = asset("link.js");

const bytes = fs.readFileSync(file);
const open = (length = bytes.length) => new Model(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + length));
let model, words;
const list = (numbers) => Array.from(numbers);
const tasks = {
  encode: (text) => words.encode(text),
  decode: (ids) => words.decode(ids),
  tokens: () => Array.from({ length: model.config.vocab_size }, (_, id) => words.token(id)),
  // All logits and, of the last token, every head's weights; `keep` tokens of an earlier text are not read again.
  read: ({ ids, keep = 0 }) => {
    model.crop(keep);
    const logits = ids.slice(keep).map((id) => list(model.step(id)));
    const last = model.length - 1, { n_layers: L, n_heads: H } = model.config;
    const heads = (l) => Array.from({ length: H }, (_, h) => list(model.row(l, h, last)));
    return { logits, weights: Array.from({ length: L }, (_, l) => heads(l)) };
  },
  skip: (ids) => { model.crop(0); ids.forEach((id, i) => model.step(id, i === ids.length - 1)); return list(model.logits); },
  start: () => model.header.start,
  // As the page has it read: a piece of the text at a time; `patience` in ms.
  slices: ({ ids, patience }) => {
    const rows = [];
    let logits, pieces = 0;
    for (model.crop(0); rows.length < ids.length; pieces++) {
      const done = advance(model, { keep: rows.length, ids: ids.slice(rows.length), last: true, patience });
      rows.push(...done.rows);
      logits = done.logits && list(done.logits);
    }
    return { pieces, logits, rows: rows.map((layers) => layers.map(list)) };
  },
  // Questions to a worker, and its answers: the same code, made anew from its own text as a page makes it.
  worker: (questions) => {
    const answers = [], port = { postMessage: (answer) => answers.push(answer) };
    new Function("port", `(${source})().serve(port)`)(port);
    for (const { whole, ...question } of questions) {
      port.onmessage({ data: whole ? { buffer: bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + whole) } : question });
    }
    return answers.map(({ rows, logits, header, ...rest }) => ({ read: rows?.length, logits: logits && list(logits), layers: header?.config.n_layers, ...rest }));
  },
  pack: (state) => pack(state),
  unpack: (fragment) => unpack(fragment),
  distribution: ({ logits, dials }) => Object.fromEntries(Object.entries(distribution(Float32Array.from(logits), dials))
    .map(([name, value]) => [name, typeof value === "number" ? value : list(value)])),
  uniform: ({ seed, n }) => Array.from({ length: n }, (_, i) => uniform(seed, i)),
  draw: ({ chance, u }) => draw(chance, u),
  cut: (length) => { open(length); return null; },
  write: ({ ids, n, dials, seed }) => {
    model.crop(0);
    ids.forEach((id) => model.step(id));
    const out = [];
    for (let i = 0; i < n; i++) {
      out.push(draw(distribution(model.logits, dials).chance, uniform(seed, i)));
      model.step(out[i]);
    }
    return out;
  },
};
const results = jobs.map(([name, argument]) => {
  try {
    if (name !== "cut" && !model) { model = open(); words = tokenizer(model.header.tokenizer); }
    return { value: tasks[name](argument) };
  } catch (error) {
    return { error: error.message };
  }
});
process.stdout.write(JSON.stringify(results));
