/* Attention as pictures: a row for the token that reads, a column for the token that is read. Of a long text as many
   tokens are drawn as one can tell apart, the last of them, or those around the row that is looked at. */
const llmMaps = (() => {
  "use strict";
  // viridis (https://bids.github.io/colormap/), the scale of the book's heatmaps, as 256 steps
  const VIRIDIS = ["440154", "472d7b", "3b528b", "2c728e", "21918c", "28ae80", "5ec962", "addc30", "fde725"]
    .map((c) => [0, 2, 4].map((i) => parseInt(c.slice(i, i + 2), 16)));
  const SHADES = Uint32Array.from({ length: 256 }, (_, s) => { // as the bytes of a picture: red, green, blue, opaque
    const at = s / 255 * (VIRIDIS.length - 1), k = Math.min(Math.floor(at), VIRIDIS.length - 2);
    const [r, g, b] = VIRIDIS[k].map((v, i) => Math.round(v + (VIRIDIS[k + 1][i] - v) * (at - k)));
    return (255 << 24 | b << 16 | g << 8 | r) >>> 0;
  });
  const READABLE = 9, LARGEST = 26; // CSS pixels a row: with less, tokens have no room beside it; with more, it looks coarse
  const SHOWN = 40; // tokens of the small pictures
  const MARGIN = 70; // for the tokens beside the large one

  /* The tokens that are drawn of n, at most `room`, with `now` among them: [from, to). */
  function span(n, room, now) {
    const to = Math.min(n, Math.max(room, now + 1));
    return [Math.max(0, to - room), to];
  }

  /* Draw the weights of one head between two positions on a canvas, a pixel each; `top`: the weight that is brightest. */
  function plot(canvas, reader, layer, head, [from, to], top) {
    const n = to - from, image = new ImageData(n, n), pixels = new Uint32Array(image.data.buffer);
    for (let i = from; i < to; i++) {
      const row = reader.row(layer, head, i);
      for (let j = from; j <= i; j++) pixels[(i - from) * n + j - from] = SHADES[Math.min(255, Math.round(255 * Math.sqrt(row[j] / top)))]; // the square root: most weights are small
    }
    canvas.width = canvas.height = n;
    canvas.getContext("2d").putImageData(image, 0, 0);
  }

  class Maps {
    /* reader: a Reader; its layers' heads get a canvas each, in `canvases`, layer after layer. */
    constructor(reader) {
      const { n_layers: L, n_heads: H } = reader.config, make = () => document.createElement("canvas");
      Object.assign(this, { reader, cell: 1, margin: 0, from: 0, to: 0, one: make(), canvases: Array.from({ length: L * H }, make) });
    }

    /* Bring the small pictures up to date, each scaled to the largest weight it shows. */
    draw(now) {
      const { reader } = this, [from, to] = span(reader.length, SHOWN, now), H = reader.config.n_heads;
      this.canvases.forEach((canvas, k) => {
        let top = 1e-6;
        for (let i = from; i < to; i++) {
          const row = reader.row(Math.floor(k / H), k % H, i);
          for (let j = from; j <= i; j++) if (row[j] > top) top = row[j];
        }
        plot(canvas, reader, Math.floor(k / H), k % H, [from, to], top);
      });
    }

    /* One head on the canvas `large`, with its tokens beside it, and position `now` framed. label(i): what to call
       position i; ink and font: how to write it. */
    enlarge(large, layer, head, now, label, { ink, font }) {
      const side = large.clientWidth, ratio = globalThis.devicePixelRatio || 1;
      if (!side || !this.reader.length) return;
      const [from, to] = span(this.reader.length, Math.max(8, Math.floor((side - MARGIN) / READABLE)), now), n = to - from;
      const pixels = Math.round(side * ratio);
      if (large.width !== pixels) large.width = large.height = pixels;
      const pen = large.getContext("2d"), labels = Array.from({ length: n }, (_, i) => label(from + i));
      pen.setTransform(ratio, 0, 0, ratio, 0, 0);
      pen.clearRect(0, 0, side, side);
      pen.font = `${Math.min(12, Math.max(READABLE, side / (n + 3)))}px ${font}`;
      const margin = Math.min(MARGIN, Math.max(...labels.map((text) => pen.measureText(text).width)) + 6), cell = Math.min(LARGEST, (side - margin) / n);
      const size = n * cell;
      pen.fillStyle = "rgba(128, 128, 128, 0.22)";
      pen.fillRect(margin, margin, size, size);
      plot(this.one, this.reader, layer, head, [from, to], 1);
      pen.imageSmoothingEnabled = false;
      pen.drawImage(this.one, margin, margin, size, size);
      pen.strokeStyle = ink;
      pen.lineWidth = 2;
      pen.strokeRect(margin, margin + (now - from) * cell, (now - from + 1) * cell, cell);
      pen.fillStyle = ink;
      pen.textBaseline = "middle";
      for (let i = 0; i < n; i++) {
        pen.textAlign = "right";
        pen.fillText(labels[i], margin - 4, margin + (i + 0.5) * cell);
        pen.save();
        pen.translate(margin + (i + 0.5) * cell, margin - 4);
        pen.rotate(-Math.PI / 2);
        pen.textAlign = "left";
        pen.fillText(labels[i], 0, 0);
        pen.restore();
      }
      Object.assign(this, { cell, margin, from, to });
    }
    /* The position of the row at height y of the large picture, or -1. */
    rowAt(y) {
      const at = this.from + Math.floor((y - this.margin) / this.cell);
      return at >= this.from && at < this.to ? at : -1;
    }
  }

  return { Maps };
})();
