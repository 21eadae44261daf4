/**
 * A table that sorts by any column.
 *
 * A column has a `label`, `value(row)` to sort by and `cell(row)`: text or a node. Optional are
 * `title`, `text` (left-aligned, sorted as text), `name` (the row's heading, which stays in view),
 * `start` (a line before it) and `foot` (text or node below). `groups` is a row of headings over
 * several columns: [label, columns].
 */
function sortableTable({ testId, caption, columns, rows, keyOf, onSelect, groups = null }) {
  const body = element("tbody");
  const headings = columns.map((column, index) =>
    element(
      "th",
      { scope: "col", class: cellClass(column), title: column.title, "aria-sort": "none" },
      element("button", { type: "button", onclick: () => sortBy(index) }, column.label),
    ),
  );
  const lines = rows.map((row) => {
    const line = element(
      "tr",
      { tabindex: 0, "data-key": keyOf(row), "aria-selected": "false" },
      ...columns.map((column) =>
        element(
          column.name ? "th" : "td",
          { class: cellClass(column), scope: column.name && "row" },
          column.cell(row),
        ),
      ),
    );
    line.addEventListener("click", () => onSelect(row));
    line.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        onSelect(row);
      }
    });
    return { row, line };
  });
  let sorted = { index: 0, direction: 1 };

  function sortBy(index) {
    const column = columns[index];
    // Numbers are looked for from the largest on, names from the first.
    const first = column.text || column.ordinal ? 1 : -1;
    const direction = sorted.index === index ? -sorted.direction : first;
    arrange({ index, direction });
  }

  function arrange(order) {
    sorted = order;
    const column = columns[order.index];
    // Array.sort is stable, so equals stay in the program's order.
    const ordered = [...lines].sort(
      (a, b) => order.direction * compareValues(column.value(a.row), column.value(b.row)),
    );
    body.replaceChildren(...ordered.map(({ line }) => line));
    headings.forEach((heading, index) => {
      const direction = order.direction > 0 ? "ascending" : "descending";
      heading.setAttribute("aria-sort", index === order.index ? direction : "none");
    });
  }

  const foot = columns.some((column) => column.foot !== undefined)
    ? [
        element(
          "tfoot",
          {},
          element(
            "tr",
            {},
            ...columns.map((column) =>
              element(column.name ? "th" : "td", { class: cellClass(column) }, column.foot ?? ""),
            ),
          ),
        ),
      ]
    : [];
  const groupRow = groups && [
    element(
      "tr",
      { class: "groups" },
      ...groups.map(([label, span], index) =>
        element("th", { colspan: span, scope: "colgroup", class: index ? "start" : "" }, label),
      ),
    ),
  ];
  const node = element(
    "div",
    { class: "scroll" },
    element(
      "table",
      { "data-testid": testId, "aria-label": caption },
      element("thead", {}, ...(groupRow ?? []), element("tr", {}, ...headings)),
      body,
      ...foot,
    ),
  );
  arrange(sorted);
  return {
    node,
    select(key) {
      for (const { row, line } of lines) {
        line.setAttribute("aria-selected", String(keyOf(row) === key));
      }
    },
  };
}

function cellClass(column) {
  const names = [
    column.text || column.name ? "text" : "",
    column.name ? "name" : "",
    column.start ? "start" : "",
  ];
  return names.filter(Boolean).join(" ") || null;
}

/** Missing values come last when the largest are first. */
function compareValues(a, b) {
  if (a === null || b === null) return (a !== null) - (b !== null);
  return typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b;
}
