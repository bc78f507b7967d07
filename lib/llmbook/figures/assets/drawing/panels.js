/* Opens what a box of a drawing says, below the drawing, when it is clicked or gets the focus. One listener a page. */
if (!window.llmPanels) {
  window.llmPanels = true;
  const open = (event) => {
    const part = event.target.closest?.(".llm-drawing .dr-part"), figure = part?.closest("figure");
    if (!figure) return;
    if (event.type === "click") event.preventDefault();
    const told = figure.querySelector(".llm-panels").querySelector(part.getAttribute("href"));
    for (const other of figure.querySelectorAll(".dr-part[aria-current]")) other.removeAttribute("aria-current");
    part.setAttribute("aria-current", "true");
    figure.querySelector(".llm-panel").innerHTML = told.innerHTML;
  };
  document.addEventListener("click", open);
  document.addEventListener("focusin", open);
}
