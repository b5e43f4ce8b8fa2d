// Sort a table by a column: numbers by data-value (missing ones last), text by alphabet. A second click reverses.
for (const button of document.querySelectorAll("th > button")) {
  button.addEventListener("click", () => {
    const heading = button.parentElement;
    const body = heading.closest("table").tBodies[0];
    const numeric = heading.classList.contains("num");
    const before = heading.getAttribute("aria-sort");
    const descending = before ? before === "ascending" : numeric;
    const key = (row) => {
      const cell = row.cells[heading.cellIndex];
      return numeric ? parseFloat(cell.dataset.value) : cell.textContent.trim();
    };
    const compare = (a, b) => {
      if (!numeric) return key(a).localeCompare(key(b));
      return key(a) - key(b);
    };
    const missing = (row) => numeric && Number.isNaN(key(row));
    const rows = [...body.rows];
    const sorted = rows.filter((row) => !missing(row)).sort((a, b) => (descending ? compare(b, a) : compare(a, b)));
    body.append(...sorted, ...rows.filter(missing));
    for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
  });
}

// Paper has no disclosure triangles.
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
});
