/* The search: opened with Ctrl+K, with / or by its button; what it needs is fetched then, and not before. A result opens
   at its place with the words marked. search-core.js says what is found; here is what a reader sees and presses. */
(() => {
  const SHOWN = 20, KINDS = { section: "Section", page: "Page", exercise: "Exercise", figure: "Figure", word: "Glossary", source: "Source", model: "Model", code: "Library" };
  const here = document.currentScript?.src ?? "", root = new URL("..", here), asset = (path) => new URL(path, here).href;
  const dialog = () => document.getElementById("pst-search-dialog");

  const fetched = new Map();
  const script = (path) => {
    if (!fetched.has(path)) fetched.set(path, new Promise((done, failed) => {
      const tag = document.createElement("script");
      Object.assign(tag, { src: asset(path), async: false, onload: done, onerror: () => { fetched.delete(path); failed(new Error(path)); } });
      document.head.append(tag);
    }));
    return fetched.get(path);
  };
  const load = () => Promise.all(["vendor/minisearch/minisearch.js", "search-core.js", "search/index.js"].map(script)).then(() => bookSearch.loading);

  const el = (name, attributes, ...inside) => {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...inside);
    return made;
  };

  /* A field with its results: the one in the dialog of every page, and the one of the page that is called Search. */
  function attach(form, number) {
    const field = form.querySelector("input[type=search]"), id = `search-${number}`;
    const told = el("p", { class: "search-told", role: "status" });
    const list = el("div", { class: "search-results", role: "listbox", id, "aria-label": "Results" });
    form.after(told, list);
    for (const [key, value] of Object.entries({ role: "combobox", "aria-expanded": "false", "aria-controls": id, "aria-autocomplete": "list" })) field.setAttribute(key, value);
    let asked = "", active = -1;

    const choose = (at) => {
      const options = [...list.children];
      active = options.length ? (at + options.length) % options.length : -1;
      options.forEach((option, i) => option.setAttribute("aria-selected", String(i === active)));
      if (active < 0) field.removeAttribute("aria-activedescendant");
      else {
        field.setAttribute("aria-activedescendant", options[active].id);
        options[active].scrollIntoView({ block: "nearest" });
      }
    };

    const option = (result, i) => {
      const address = new URL(`${result.page.name}.html`, root), find = [...result.terms].join(" ");
      if (result.kind !== "model") address.searchParams.set("find", find);
      address.hash = result.at;
      const quoted = el("span", { class: "search-quoted" });
      const where = ["page", "word"].includes(result.kind) ? "" : result.page.title;
      const made = el("a", { role: "option", id: `${id}-${i}`, href: address.href, tabindex: "-1", "aria-selected": "false" },
        el("span", { class: "search-kind" }, KINDS[result.kind]), el("span", { class: "search-title" }, result.title),
        el("span", { class: "search-where" }, where), quoted);
      made.addEventListener("click", (event) => {
        if (event.ctrlKey || event.metaKey || event.shiftKey || address.pathname !== location.pathname || result.kind === "model") return;
        event.preventDefault(); // it stands on this page
        dialog()?.close();
        location.hash = result.at;
        mark(result.terms);
      });
      const page = result.page.name;
      script(`search/pages/${page}.js`).then(() => {
        const { text } = bookSearch.texts[page].entries[result.entry];
        quoted.replaceChildren(...bookSearch.snippet(text, result.terms).map(([words, found]) => (found ? el("mark", {}, words) : words)));
      }).catch(() => {});
      return made;
    };

    const show = async () => {
      const query = field.value.trim();
      asked = query;
      if (!query) { told.textContent = ""; list.replaceChildren(); field.setAttribute("aria-expanded", "false"); return; }
      try { await load(); } catch {
        told.textContent = "The index of the search is missing on this site, so nothing can be found. `make book` makes it. The contents and the glossary lead to every chapter.";
        return;
      }
      if (asked !== query) return; // more was typed meanwhile
      const { results, query: meant } = bookSearch.search(query);
      const some = results.slice(0, SHOWN), count = results.length === 1 ? "1 result" : `${results.length} results`;
      const told_of = meant === query ? "" : ` for “${meant}”`;
      told.textContent = results.length ? `${count}${told_of}${results.length > SHOWN ? `, the best ${SHOWN} shown` : ""}` : `Nothing found for “${query}”.`;
      list.replaceChildren(...some.map(option));
      field.setAttribute("aria-expanded", String(some.length > 0));
      choose(some.length ? 0 : -1);
      list.scrollTop = 0;
    };

    field.addEventListener("focus", () => load().catch(() => {}));
    field.addEventListener("input", show);
    field.addEventListener("keydown", (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (step && list.children.length) { event.preventDefault(); choose(active + step); }
      else if (event.key === "Enter" && !event.isComposing && list.children[active]) { event.preventDefault(); list.children[active].click(); }
      else if (event.key === "Escape" && form.closest("dialog")) { event.preventDefault(); dialog().close(); }
    });
    form.addEventListener("submit", (event) => { if (fetched.size) event.preventDefault(); });
    if (!form.closest("dialog")) {
      field.value = new URLSearchParams(location.search).get("q") ?? "";
      field.focus();
      show();
    }
    return field;
  }

  /* Marks words in the section that the address leads to, without touching the page's elements. */
  function mark(terms) {
    if (!window.Highlight || !CSS.highlights) return;
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const place = target ? target.closest("section, figure, .citation") ?? target : document.querySelector("main article, main");
    const texts = document.createTreeWalker(place, NodeFilter.SHOW_TEXT, (node) => (
      node.parentElement.closest("script, style, .katex, .headerlink") ? NodeFilter.FILTER_REJECT : NodeFilter.FILTER_ACCEPT));
    const ranges = [];
    while (texts.nextNode()) for (const [from, to] of bookSearch.spans(texts.currentNode.data, terms)) {
      const range = new Range();
      range.setStart(texts.currentNode, from);
      range.setEnd(texts.currentNode, to);
      ranges.push(range);
    }
    CSS.highlights.set("search", new Highlight(...ranges));
    document.documentElement.classList.add("search-marked"); // without marks no element needs a style for them
  }

  const typing = (target) => target.closest?.("input, textarea, select, [contenteditable], .llm-playground");
  const fields = [...document.querySelectorAll("form.bd-search")].map(attach);
  addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !dialog()?.open) window.CSS?.highlights?.delete("search");
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
    event.preventDefault();
    const inline = fields.find((field) => !field.closest("dialog"));
    if (inline) inline.focus();
    else if (dialog() && !dialog().open) { dialog().showModal(); fields[0].focus(); }
  });

  const address = new URL(location.href), find = address.searchParams.get("find");
  if (find) {
    address.searchParams.delete("find");
    history.replaceState(history.state, "", address);
    script("search-core.js").then(() => mark(new Set(find.split(" "))));
  }
})();
