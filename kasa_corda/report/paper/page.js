// The page is complete without this: it adds sorting and a switch between light and dark.
for (const head of document.querySelectorAll("table.sortable .names th")) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...head.childNodes);
  head.append(button);
  button.addEventListener("click", () => {
    const body = head.closest("table").tBodies[0], column = head.cellIndex, was = head.getAttribute("aria-sort");
    const down = was ? was === "ascending" : head.classList.contains("number");
    const key = row => {
      const cell = row.cells[column];
      return "value" in cell.dataset ? Number(cell.dataset.value) : cell.textContent.trim();
    };
    const rank = value => typeof value === "number" ? 0 : value === "-" ? 2 : 1;
    const compare = (a, b) => rank(a) - rank(b) || (down ? -1 : 1)
      * (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true }));
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    body.append(...[...body.rows].sort((a, b) => compare(key(a), key(b))));
  });
}
{
  const root = document.documentElement, button = document.createElement("button");
  const stored = () => { try { return localStorage.getItem("theme"); } catch { return null; } };
  const store = theme => { try { localStorage.setItem("theme", theme); } catch { /* not remembered */ } };
  const dark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const name = () => { button.textContent = dark() ? "Light colours" : "Dark colours"; };
  if (["light", "dark"].includes(stored())) root.dataset.theme = stored();
  button.type = "button";
  button.className = "theme";
  button.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; store(root.dataset.theme); name(); });
  name();
  document.querySelector("header").prepend(button);
}
