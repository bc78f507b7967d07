/* The page of one's own predictions: the build lists the questions (lib/publishing/predictions.py), and here each gets
   the answer that this browser has kept, beside what was measured. */
import { fits, kept, verdict } from "./predict.js";

const quote = (text) => /[",\n]/.test(text) ? `"${String(text).replaceAll('"', '""')}"` : text;

async function render({ el }) {
  const specs = JSON.parse(el.querySelector(".llm-specs").textContent);
  const score = el.querySelector(".llm-score"), tools = el.querySelector(".llm-all");
  const show = () => {
    const all = kept.all(), done = [];
    for (const spec of specs) {
      const item = el.querySelector(`[data-id="${spec.id}"]`), mine = item.querySelector(".llm-mine");
      const guess = all[spec.id]?.guess, result = guess !== undefined && fits(spec, guess) ? verdict(spec, guess) : null;
      if (result) done.push({ spec, result, day: all[spec.id].day });
      mine.textContent = result?.text ?? "No guess yet.";
      mine.dataset.right = result?.right ?? "";
    }
    const right = done.filter(({ result }) => result.right).length, offs = done.map(({ result }) => result.off).filter((v) => v !== null);
    const mean = offs.reduce((a, b) => a + b, 0) / offs.length;
    const far = offs.length ? ` Where you gave a number or drew a line, you were off by ${Math.round(100 * mean)}% of the axis on average.` : "";
    score.textContent = done.length ? `Right ${right} of ${done.length}; the book asks ${specs.length} questions.${far}`
      : `You have made no prediction yet, or this browser has not kept any. The book asks ${specs.length} questions.`;
    tools.hidden = !done.length;
    const rows = [["question", "your guess", "measured", "right", "off, share of the axis", "day"],
                  ...done.map(({ spec, result: r, day }) => [spec.question, r.said, r.measured, r.right, r.off?.toFixed(3) ?? "", day ?? ""])];
    tools.querySelector("a").href = "data:text/csv;charset=utf-8,"
      + encodeURIComponent(rows.map((row) => row.map((v) => quote(String(v))).join(",")).join("\n"));
  };
  tools.querySelector("button").addEventListener("click", () => {
    if (!confirm("Forget all your predictions? This cannot be undone.")) return;
    kept.replace({});
    show();
    score.tabIndex = -1;
    score.focus(); // the button is gone
  });
  show();
}

export default { render };
