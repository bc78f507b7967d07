/* Every head's attention as pictures: a row for the token that reads, a column for the token that is read. A row is
   drawn once, when its token has been read. */
const llmMaps = (() => {
  "use strict";
  // viridis (https://bids.github.io/colormap/), the scale of the book's heatmaps, as 256 steps
  const VIRIDIS = ["440154", "472d7b", "3b528b", "2c728e", "21918c", "28ae80", "5ec962", "addc30", "fde725"]
    .map((c) => [0, 2, 4].map((i) => parseInt(c.slice(i, i + 2), 16)));
  const SHADES = Array.from({ length: 256 }, (_, s) => {
    const at = s / 255 * (VIRIDIS.length - 1), k = Math.min(Math.floor(at), VIRIDIS.length - 2);
    return VIRIDIS[k].map((v, i) => Math.round(v + (VIRIDIS[k + 1][i] - v) * (at - k)));
  });
  const READABLE = 9, LARGEST = 26; // CSS pixels a row: with less, tokens have no room beside it; with more, it looks coarse

  class Maps {
    /* reader: a Reader; its layers' heads get a canvas each, in `canvases`, layer after layer. */
    constructor(reader) {
      Object.assign(this, { reader, cell: 1, margin: 0 });
      const { n_layers: L, n_heads: H } = reader.config, first = Math.min(32, reader.maxLength);
      this.maps = Array.from({ length: L * H }, () => ({ canvas: document.createElement("canvas"), image: new ImageData(first, first), rows: 0 }));
      this.canvases = this.maps.map((map) => map.canvas);
    }
    crop(n) { for (const map of this.maps) map.rows = Math.min(map.rows, n); }

    /* Bring the small pictures up to date. */
    draw() { this.maps.forEach((_, k) => this.one(k)); }
    one(k) {
      const { reader, maps: { [k]: map } } = this, n = reader.length, H = reader.config.n_heads;
      if (map.rows === n && map.canvas.width === n) return map.canvas;
      if (map.image.width < n) {
        const size = Math.min(reader.maxLength, Math.max(n, 2 * map.image.width));
        map.image = new ImageData(size, size);
        map.rows = 0;
      }
      for (; map.rows < n; map.rows++) {
        const row = reader.row(Math.floor(k / H), k % H, map.rows), pixels = map.image.data;
        let at = 4 * map.rows * map.image.width;
        for (const weight of row) { // the square root: most weights are small
          const shade = SHADES[Math.round(255 * Math.sqrt(weight))];
          pixels[at++] = shade[0]; pixels[at++] = shade[1]; pixels[at++] = shade[2]; pixels[at++] = 255;
        }
      }
      map.canvas.width = map.canvas.height = n;
      map.canvas.getContext("2d").putImageData(map.image, 0, 0);
      return map.canvas;
    }

    /* One head on the canvas `large`, with its tokens beside it where they can be read, and position `now` framed.
       label(i): what to call position i; ink and font: how to write it. */
    enlarge(large, layer, head, now, label, { ink, font }) {
      const n = this.reader.length, side = large.clientWidth, ratio = globalThis.devicePixelRatio || 1;
      if (!side || !n) return;
      large.width = large.height = Math.round(side * ratio);
      const pen = large.getContext("2d"), labels = Array.from({ length: n }, (_, i) => label(i));
      pen.scale(ratio, ratio);
      pen.font = `${Math.min(12, Math.max(READABLE, side / (n + 3)))}px ${font}`;
      let margin = Math.min(70, Math.max(...labels.map((text) => pen.measureText(text).width)) + 6), cell = Math.min(LARGEST, (side - margin) / n);
      const named = cell >= READABLE;
      if (!named) { margin = 0; cell = side / n; }
      const size = n * cell;
      pen.fillStyle = "rgba(128, 128, 128, 0.22)";
      pen.fillRect(margin, margin, size, size);
      pen.imageSmoothingEnabled = size < n; // several weights to a pixel: show their mean
      pen.drawImage(this.one(layer * this.reader.config.n_heads + head), margin, margin, size, size);
      pen.strokeStyle = ink;
      pen.lineWidth = 2;
      pen.strokeRect(margin, margin + now * cell, (now + 1) * cell, cell);
      pen.fillStyle = ink;
      pen.textBaseline = "middle";
      for (let i = 0; named && i < n; i++) {
        pen.textAlign = "right";
        pen.fillText(labels[i], margin - 4, margin + (i + 0.5) * cell);
        pen.save();
        pen.translate(margin + (i + 0.5) * cell, margin - 4);
        pen.rotate(-Math.PI / 2);
        pen.textAlign = "left";
        pen.fillText(labels[i], 0, 0);
        pen.restore();
      }
      Object.assign(this, { cell, margin });
    }
    /* The position of the row at height y of the large picture, or -1. */
    rowAt(y) {
      const at = Math.floor((y - this.margin) / this.cell);
      return at >= 0 && at < this.reader.length ? at : -1;
    }
  }

  return { Maps };
})();
