"use strict";
// Optional: sorts tables and filters long sections. The page is complete without it.
for (const tool of document.querySelectorAll("[data-tool]")) tool.hidden = false;

function filter(input, items, count) {
  const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const item of items) {
    const text = item.textContent.toLowerCase();
    item.hidden = !words.every((word) => text.includes(word));
    if (!item.hidden) shown += 1;
  }
  count.textContent = words.length ? shown + " of " + items.length : "";
}

for (const input of document.querySelectorAll("input[data-filters]")) {
  const items = document.querySelectorAll(input.dataset.filters);
  const count = input.parentElement.querySelector("output");
  input.addEventListener("input", () => filter(input, items, count));
}

function compare(a, b) {
  const [x, y] = [Number(a), Number(b)];
  if (a !== "" && b !== "" && !Number.isNaN(x) && !Number.isNaN(y)) return x - y;
  // Missing values come last in either direction.
  return a.localeCompare(b, "en", { numeric: true });
}

for (const table of document.querySelectorAll("table[data-sortable]")) {
  const heads = Array.from(table.tHead.rows[0].cells);
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
      const rows = Array.from(table.tBodies[0].rows).map((row) => [key(row), row]);
      const empty = ([value]) => value === "" || value === "–";
      rows.sort((a, b) => empty(a) - empty(b) || (up ? 1 : -1) * compare(a[0], b[0]));
      table.tBodies[0].append(...rows.map(([, row]) => row));
    });
  });
}

// Keeps the scroll position and open sections when the page reloads itself.
try {
  const parts = () => Array.from(document.querySelectorAll("details"));
  const kept = JSON.parse(sessionStorage.getItem(location.pathname));
  sessionStorage.removeItem(location.pathname);
  if (kept) {
    history.scrollRestoration = "manual";
    parts().forEach((part, index) => (part.open = kept.open[index] ?? part.open));
    scrollTo({ top: kept.top, behavior: "instant" });
  }
  if (document.querySelector("meta[http-equiv=refresh]")) {
    addEventListener("pagehide", () => {
      const now = { top: scrollY, open: parts().map((part) => part.open) };
      sessionStorage.setItem(location.pathname, JSON.stringify(now));
    });
  }
} catch {
  // Without session storage, the page starts at the top.
}
