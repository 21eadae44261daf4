/** What changed per layer between two programs. */
function changesSection() {
  const [before, after] = report.programs;
  const rows = report.pairs.map((pair, order) => ({
    order,
    name: pair.name,
    before: pair.before === null ? null : layerNumbers(before, pair.before),
    after: pair.after === null ? null : layerNumbers(after, pair.after),
  }));
  const totals = { before: programNumbers(before), after: programNumbers(after) };
  const longest = Math.max(
    ...rows.flatMap((row) => [row.before?.cycles ?? 0, row.after?.cycles ?? 0]),
  );

  const number = (key, side, format) => ({
    label: side === "before" ? "A" : "B",
    title: `${key} of ${side === "before" ? "A" : "B"}`,
    start: side === "before",
    value: (row) => row[side]?.[key] ?? null,
    cell: (row) => (row[side] ? format(row[side][key]) : "–"),
    foot: format(totals[side][key]),
  });
  const ratio = (key, label) => ({
    label,
    title: `${key} of A per ${key} of B: above 1, B needs less`,
    value: (row) => (row.before && row.after ? change(row.before[key], row.after[key]) : null),
    cell: (row) =>
      row.before && row.after ? changeNode(row.before[key], row.after[key]) : onlyIn(row),
    foot: changeNode(totals.before[key], totals.after[key]),
  });
  const bars = {
    label: "A over B",
    title: "Cycles of A above those of B",
    value: (row) => row.before?.cycles ?? null,
    cell: (row) => element("div", { class: "measure" }, pairOfBars(row, longest)),
  };
  const table = sortableTable({
    testId: "change-table",
    caption: "What changed per layer",
    columns: [
      {
        label: "#",
        ordinal: true,
        title: "Order in the program",
        value: (row) => row.order,
        cell: (row) => String(row.order),
      },
      {
        label: "layer",
        name: true,
        text: true,
        value: (row) => row.name,
        cell: (row) => row.name,
        foot: "total",
      },
      number("cycles", "before", formatCount),
      number("cycles", "after", formatCount),
      bars,
      ratio("cycles", "A / B"),
      number("floor", "before", formatCount),
      number("floor", "after", formatCount),
      number("slots", "before", formatCount),
      number("slots", "after", formatCount),
      ratio("slots", "A / B"),
      number("bytes", "before", formatBytes),
      number("bytes", "after", formatBytes),
      ratio("bytes", "A / B"),
      number("energy", "before", formatEnergy),
      number("energy", "after", formatEnergy),
      ratio("energy", "A / B"),
    ],
    groups: [
      ["", 2],
      ["cycles", 4],
      ["floor", 2],
      ["slots", 3],
      ["bytes moved", 3],
      ["energy", 3],
    ],
    rows,
    keyOf: (row) => row.name,
    onSelect: (row) => page.select(row.name),
  });
  return {
    id: "changes",
    title: "What changed",
    body: [
      element(
        "p",
        { class: "note" },
        "Layers are matched by name. A / B above 1 means that B needs less.",
      ),
      table.node,
    ],
    select: (name) => table.select(name),
  };
}

function layerNumbers(program, index) {
  const layer = program.layers[index];
  return {
    cycles: layer.cycles,
    floor: layer.floor_cycles,
    slots: layer.slots,
    bytes: movedBytes(layer),
    energy: layerEnergy(program, index),
  };
}

function programNumbers(program) {
  return {
    cycles: program.total.cycles,
    floor: program.total.floor_cycles,
    slots: sum(program.layers, (layer) => layer.slots),
    bytes: sum(program.layers, movedBytes),
    energy: sum(program.layers.map((_, index) => layerEnergy(program, index))),
  };
}

function change(before, after) {
  return after ? before / after : before ? Infinity : 1;
}

function changeNode(before, after) {
  const rounded = Math.round(100 * change(before, after)) / 100;
  const verdict = rounded > 1 ? "better" : rounded < 1 ? "worse" : "faint";
  return element("span", { class: verdict }, formatRatio(before, after));
}

function onlyIn(row) {
  return element("span", { class: "faint" }, row.before ? "only in A" : "only in B");
}

function pairOfBars(row, longest) {
  const bar = (numbers, colourName) => {
    const percent = (100 * (numbers?.cycles ?? 0)) / longest;
    const style = `width:${percent}%;background:var(--${colourName})`;
    return element("div", { class: "bar thin", style });
  };
  return element(
    "div",
    { class: "track" },
    bar(row.before, "instructions"),
    bar(row.after, "slots"),
  );
}
