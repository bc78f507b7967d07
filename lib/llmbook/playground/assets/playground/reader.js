/* Where a page's model reads: in a worker, so that the page never waits for it, or, where the browser grants none, in
   the page itself and in slices. What it has read is mirrored here: tokens, every head's attention, the last logits. */
const llmReader = (() => {
  "use strict";
  const { Model, advance, serve, source } = llmGPT, { tokenizer } = llmText;
  const SLICE = { worker: 40, page: 12 }; // ms of reading before the page hears of it, or breathes

  /* A worker that runs gpt.js, or null. Its script is the text of the function that runs here: no second file is
     fetched, and a page that was opened from a disk can start it as well. */
  async function worker() {
    let found = null, url = "";
    try {
      url = URL.createObjectURL(new Blob([`(${source})().serve(self);`], { type: "text/javascript" }));
      found = new Worker(url);
      await new Promise((ready, failed) => {
        found.onmessage = ready;
        found.onerror = failed;
        setTimeout(failed, 20_000); // a browser that may start none says so at once; this is a busy machine
      });
      return found;
    } catch { // a page may be forbidden to start one
      found?.terminate();
      return null;
    } finally { URL.revokeObjectURL(url); }
  }

  function inWorker(found) {
    const waiting = []; // answers come in the order of the questions
    found.onmessage = ({ data }) => {
      const { resolve, reject } = waiting.shift();
      if (data.error) reject(new Error(data.error)); else resolve(data);
    };
    found.onerror = (event) => { event.preventDefault(); waiting.splice(0).forEach(({ reject }) => reject(new Error("The model stopped: this device may lack the memory for it."))); };
    return {
      ask: (what, given = []) => new Promise((resolve, reject) => { waiting.push({ resolve, reject }); found.postMessage(what, given); }),
      close: () => found.terminate(), patience: SLICE.worker, where: "worker",
    };
  }

  function inPage() {
    let model;
    return {
      ask: async (what) => {
        await new Promise((resolve) => { setTimeout(resolve, 0); });
        if (!what.buffer) return advance(model, what);
        model = new Model(what.buffer);
        return { header: model.header };
      },
      close() {}, patience: SLICE.page, where: "page",
    };
  }

  class Reader {
    /* bytes: a promise of an ArrayBuffer with the file of a model. Throws an Error whose message can be shown. */
    static async open(bytes) {
      const [buffer, found] = await Promise.allSettled([bytes, worker()]);
      const there = found.value ? inWorker(found.value) : inPage();
      try {
        if (buffer.reason) throw buffer.reason;
        return new Reader(there, (await there.ask({ buffer: buffer.value }, [buffer.value])).header);
      } catch (error) {
        there.close();
        throw error;
      }
    }
    constructor(there, header) {
      Object.assign(this, { there, header, config: header.config, tokenizer: tokenizer(header.tokenizer), where: there.where, spent: 0, turn: 0 });
      this.ids = [];
      this.attention = Array.from({ length: this.config.n_layers }, () => []); // as in Model
      this.logits = null;
    }
    get length() { return this.ids.length; }
    get maxLength() { return this.config.max_seq_len; }

    /* The weights of one head at one position: what the token there read of each token up to itself. */
    row(layer, head, position) {
      return this.attention[layer][position].subarray(head * (position + 1), (head + 1) * (position + 1));
    }

    /* Forget all but the first n tokens, and whatever is being read. */
    crop(n) {
      this.turn++;
      this.ids.length = Math.min(n, this.length);
      for (const layer of this.attention) layer.length = this.length;
      this.logits = null;
    }

    /* Read on, telling `heard` after each slice; false where a crop came between. */
    async read(ids, heard = () => {}) {
      const mine = this.turn;
      for (let at = 0; at < ids.length;) {
        const { there: { ask, patience } } = this;
        const { rows, logits, spent } = await ask({ keep: this.length, ids: ids.slice(at), last: true, patience });
        if (mine !== this.turn) return false;
        rows.forEach((layers, i) => {
          this.ids.push(ids[at + i]);
          layers.forEach((row, l) => this.attention[l].push(row));
        });
        Object.assign(this, { logits, spent });
        at += rows.length;
        if (at < ids.length) heard(at);
      }
      return true;
    }

    close() { this.turn++; this.there.close(); }
  }

  return { Reader };
})();
