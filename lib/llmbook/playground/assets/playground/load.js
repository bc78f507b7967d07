/* The file of a model: from the page itself, or from the site, with a word on how far it is. */
const llmLoad = (() => {
  "use strict";
  const megabytes = (n) => `${(n / 1e6).toFixed(1)} MB`;

  /* source: {data: id of a <script> with base64} or {url, bytes}. heard(text, share) is told what has come. */
  async function fetchModel(source, heard = () => {}) {
    if (source.url) return download(source, heard);
    const text = document.getElementById(source.data)?.textContent.trim();
    if (!text) throw new Error("The model is missing from this page. Export it again.");
    let raw;
    try { raw = atob(text); } catch { throw new Error("The model in this page is damaged: the file was cut short or edited. Export it again."); }
    const bytes = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
    return bytes.buffer;
  }

  async function download({ url, bytes: whole }, heard) {
    if (location.protocol === "file:") throw new Error("This page was opened from a disk, and from there a browser lets no page load a model. "
      + "Run `make serve` in the book's folder and open the address it prints. (A model that you export from a chapter does open from a disk.)");
    const parts = [];
    let n = 0;
    try {
      const answer = await fetch(new URL(url, document.baseURI));
      if (!answer.ok) throw new Error(`The model could not be fetched: the site answered ${answer.status}.`);
      for (const stream = answer.body.getReader();;) {
        const { done, value } = await stream.read();
        if (done) break;
        parts.push(value);
        n += value.length;
        if (whole) heard(`Loading the model: ${megabytes(n)} of ${megabytes(whole)} …`, n / whole);
      }
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // a browser's words for a failing network differ
      throw new Error(n ? `The model could not be fetched: the connection was lost after ${megabytes(n)}.` : "The model could not be fetched: there is no connection to the site.");
    }
    return unpacked(new Blob(parts));
  }

  /* The site compresses the files; a host that says so lets the browser undo it. */
  async function unpacked(blob) {
    const [one, two] = new Uint8Array(await blob.slice(0, 2).arrayBuffer());
    if (one !== 0x1f || two !== 0x8b) return blob.arrayBuffer();
    try {
      return await new Response(blob.stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
    } catch { throw new Error(`The model's file is cut short or damaged: ${megabytes(blob.size)} came. Load it again.`); }
  }

  return { fetchModel };
})();
