/* What the search is, without a page: how a text becomes terms, how a query is asked, and what is quoted of a text. The
   build runs this file to make the index; a page loads it, with the index, when a reader opens the search. */
var bookSearch = (() => {
  const WORD = /\p{Script=Han}+|[\p{L}\p{N}_]+(?:[-–'’.][\p{L}\p{N}_]+)*/gu, HAN = /^\p{Script=Han}/u;
  const COMMON = new Set("a an and are as at be by for from how in is it its of on or that the to what which with".split(" "));
  const OPTIONS = {
    fields: ["title", "page", "text", "code"], storeFields: ["title", "kind", "at", "place"],
    tokenize: (text) => terms(text), processTerm: (term) => (COMMON.has(term) ? null : term),
  };
  const ASKED = {
    boost: { title: 5, page: 1.5, text: 1, code: 0.3 }, weights: { prefix: 0.5, fuzzy: 0.3 },
    prefix: (term) => term.length > 1 || HAN.test(term),
    boostTerm: (term) => (/[^\p{L}\p{N}]/u.test(term) ? 3 : term.length > 1 || HAN.test(term) ? 1 : 0.2), // d_model before d
  };
  const NEAR = { fields: ["title", "text"], fuzzy: (term) => (term.length > 3 ? 0.25 : false), maxFuzzy: 2 };
  const KINDS = { word: 1.6, page: 1.5, model: 1.2, exercise: 0.8, figure: 0.8, source: 0.5, code: 0.5 }; // a section has 1
  let index = null, loading = null, pages = [], synonyms = [];

  const plain = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
  /* Chinese is written without spaces: each pair of neighbours is a term. A compound is one and is its parts as well. */
  const termsOf = (word) => {
    if (HAN.test(word)) return word.length === 1 ? [word] : [...word].slice(1).map((letter, i) => word[i] + letter);
    const whole = plain(word).replace(/['’]s$/, "").replace(/[–’]/g, "-"), parts = whole.split(/[^\p{L}\p{N}]+/u).filter(Boolean);
    return parts.length > 1 ? [...parts, whole] : parts;
  };
  const terms = (text) => [...text.matchAll(WORD)].flatMap(([word]) => termsOf(word));

  /* Where `wanted`, a set of terms, stands in a text: [from, to, term]. */
  const spans = (text, wanted) => {
    const found = [];
    for (const { 0: word, index: at } of text.matchAll(WORD)) {
      const mine = termsOf(word);
      if (HAN.test(word)) mine.forEach((term, i) => { if (wanted.has(term)) found.push([at + i, at + i + term.length, term]); });
      else {
        const term = mine.findLast((one) => wanted.has(one) && (one.length > 1 || word.length === 1));
        if (term) found.push([at, at + word.length, term]);
      }
    }
    return found;
  };

  /* The part of a text that has most of `wanted`, about `length` characters, as pieces [words, whether to mark them]. */
  const snippet = (text, wanted, length = 170) => {
    const found = spans(text, wanted);
    const inside = (from) => new Set(found.filter(([a, b]) => a >= from && b <= from + length).map(([, , term]) => term)).size;
    const starts = [0, ...found.map(([from]) => Math.max(0, from - 40))];
    let start = starts.reduce((best, one) => (inside(one) > inside(best) ? one : best));
    if (start > 0) start += Math.max(0, text.slice(start, start + 40).search(/\s/) + 1);
    let end = Math.min(text.length, start + length);
    if (end < text.length) end = Math.max(text.lastIndexOf(" ", end), start + length / 2);
    const pieces = start > 0 ? [["… ", false]] : [];
    let at = start;
    for (const [from, to] of found) {
      if (to <= at || from >= end) continue;
      const begin = Math.max(from, at);
      if (begin > at) pieces.push([text.slice(at, begin), false]);
      pieces.push([text.slice(begin, to), true]);
      at = to;
    }
    if (at < end) pieces.push([text.slice(at, end), false]);
    if (end < text.length) pieces.push([" …", false]);
    return pieces;
  };

  /* A query and what else it may be called: 注意力 is attention, and attention is 注意力. */
  const variants = (query) => {
    const asked = plain(query).trim(), out = [asked];
    for (const group of synonyms) for (const name of group) {
      const one = plain(name), at = asked.indexOf(one);
      if (at < 0) continue;
      const around = HAN.test(one) ? "" : (asked[at - 1] ?? " ") + (asked[at + one.length] ?? " ");
      if (/[\p{L}\p{N}]/u.test(around)) continue;
      for (const other of group) if (other !== name) out.push(`${asked.slice(0, at)} ${plain(other)} ${asked.slice(at + one.length)}`);
    }
    return [...new Set(out)].slice(0, 8);
  };

  /* How many letters have to be added, dropped or changed to make one word of the other. */
  const distance = (one, other) => {
    let row = [...other].reduce((made, _, i) => [...made, i + 1], [0]);
    for (let i = 0; i < one.length; i++) {
      const next = [i + 1];
      for (let j = 0; j < other.length; j++) next.push(Math.min(row[j + 1] + 1, next[j] + 1, row[j] + (one[i] !== other[j])));
      row = next;
    }
    return row.at(-1);
  };

  /* The query with each word that the book has not, nor a longer one, replaced by the nearest and then commonest it has. */
  const known = (term) => COMMON.has(term) || index.search(term, { prefix: true }).length > 0;
  const corrected = (query) => query.replace(WORD, (word) => {
    if (HAN.test(word) || termsOf(word).every(known)) return word;
    const seen = new Map();
    for (const { match } of index.search(word, NEAR)) for (const term of Object.keys(match)) seen.set(term, (seen.get(term) ?? 0) + 1);
    const [best] = [...seen].map(([term, times]) => [term, distance(plain(word), term), times]).sort((a, b) => a[1] - b[1] || b[2] - a[2]);
    return best?.[0] ?? word;
  });

  /* What is found, best first, and the query it was found for: the one that was asked, or its correction. */
  const search = (asked) => {
    const query = corrected(asked), ways = variants(query), boostDocument = (id, term, { kind }) => KINDS[kind] ?? 1;
    const ask = (combineWith) => index.search(
      { combineWith: "OR", queries: ways.map((one) => ({ combineWith, queries: [one] })) }, { ...ASKED, boostDocument });
    let found = ask("AND");
    if (!found.length) found = ask("OR");
    return { query, results: found.map(({ id, title, kind, at, place, score, match }) => (
      { entry: Number(id.split(".")[1]), title, kind, at, score, page: pages[place], terms: new Set(Object.keys(match)) })) };
  };

  return {
    terms, spans, snippet, search, texts: {},
    make: (entries) => { const made = new MiniSearch(OPTIONS); made.addAll(entries); return JSON.stringify(made); },
    // In pieces, so that what is typed meanwhile appears.
    load: (data) => { ({ pages, synonyms } = data); loading = MiniSearch.loadJSAsync(data.index, OPTIONS).then((made) => { index = made; }); },
    get loading() { return loading; },
    get size() { return index.documentCount; },
  };
})();
