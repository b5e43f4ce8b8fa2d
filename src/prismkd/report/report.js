const said = document.getElementById("said");

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
    said.textContent = `sorted by ${button.textContent.trim()}, ${descending ? "descending" : "ascending"}`;
  });
}

// Images enlarge in a dialog. A row of images is one tab stop; arrow keys go along it, in the dialog too.
const viewer = document.getElementById("viewer");
let opener = null;

const ROWS = ".strip, .probes, .examples";
const along = (button, step) => {
  const row = [...button.closest(ROWS).querySelectorAll(".zoom")];
  return row[(row.indexOf(button) + step + row.length) % row.length];
};

function show(button) {
  opener = button;
  const [large, small] = [viewer.querySelector("img"), button.querySelector("img")];
  large.src = small.src;
  large.className = small.className;
  const group = button.closest("[aria-label]");
  const where = button.closest(".examples") || !group ? "" : `${group.getAttribute("aria-label")}: `;
  document.getElementById("viewer-text").textContent = where + small.alt;
}

for (const row of document.querySelectorAll(ROWS)) {
  for (const [index, button] of [...row.querySelectorAll(".zoom")].entries()) {
    button.tabIndex = index ? -1 : 0;
    button.addEventListener("click", () => {
      show(button);
      viewer.showModal();
      viewer.querySelector("[data-close]").focus();
    });
    button.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const next = along(button, step);
      [button.tabIndex, next.tabIndex] = [-1, 0];
      next.focus();
    });
  }
}
for (const button of viewer.querySelectorAll("[data-step]")) {
  button.addEventListener("click", () => show(along(opener, Number(button.dataset.step))));
}
viewer.addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (step) show(along(opener, step));
});
viewer.addEventListener("click", (event) => {
  if (event.target === viewer) viewer.close();
});
viewer.addEventListener("close", () => opener?.focus());

// Copy a command. A page from a file may lack the clipboard: then its text is selected, which copies by hand.
for (const button of document.querySelectorAll(".copy")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const code = button.parentElement.querySelector("code");
    let done = false;
    try {
      await navigator.clipboard.writeText(code.textContent);
      done = true;
    } catch {
      getSelection().selectAllChildren(code);
      done = document.execCommand("copy");
    }
    said.textContent = done ? "copied" : "selected: copy it with the keyboard";
    button.textContent = done ? "Copied" : "Selected";
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });
}

// Paper has no disclosure triangles.
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
});
