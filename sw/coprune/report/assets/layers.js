/** Energy of a layer in picojoules. */
function layerEnergy(program, index) {
  return sum(Object.values(program.energy[index].picojoules));
}

function movedBytes(layer) {
  return layer.load_bytes + layer.store_bytes;
}

/** [name, cycles, meaning] of every part of a layer's cycles: its slots, then its waits. */
function cycleParts(layer) {
  return [
    ["slots", layer.slots, "the array works"],
    ...Object.entries(layer.waits).map(([cause, cycles]) => [
      cause,
      cycles,
      report.wait_causes[cause],
    ]),
  ];
}

/** A bar of a layer's cycles, `fraction` of the track long, split by what they went to. */
function cycleBar(layer, fraction) {
  const parts = cycleParts(layer).filter(([, cycles]) => cycles > 0);
  const bar = element(
    "div",
    { class: "bar", style: `width:${(100 * fraction).toFixed(2)}%` },
    ...parts.map(([name, cycles]) =>
      element("i", { style: `flex:${cycles} 0 0;background:${cyclePart(name)}` }),
    ),
  );
  return tooltip.attach(element("div", { class: "track" }, bar), () => ({
    title: `${layer.name}: ${formatCount(layer.cycles)} cycles`,
    rows: parts.map(([name, cycles]) => [
      name === "slots" ? "slots" : `waits: ${name}`,
      `${formatCount(cycles)} (${formatPercent(cycles / layer.cycles)})`,
      cyclePart(name),
    ]),
  }));
}

/** Everything that a layer's tooltip says, wherever it is shown. */
function layerTooltip(program, index) {
  const layer = program.layers[index];
  return {
    title: `${layer.name} (${layer.op})`,
    rows: [
      ["output", formatShape(layer.output)],
      ["non-zero MACs", `${formatCount(layer.nonzero_macs)} of ${formatCount(layer.macs)}`],
      ["cycles", formatCount(layer.cycles)],
      ["MACs per cycle", (layer.nonzero_macs / layer.cycles).toFixed(1)],
      ["multipliers used", formatPercent(layer.multiplier_use)],
      ["bytes moved", formatCount(movedBytes(layer))],
      ["limit", layer.limit],
    ],
  };
}

function layersSection(program) {
  const longest = Math.max(...program.layers.map((layer) => layer.cycles));
  const total = program.total;
  const all = (value) => sum(program.layers, value);
  const columns = [
    {
      label: "#",
      ordinal: true,
      title: "Order in the program",
      value: (row) => row.index,
      cell: (row) => String(row.index),
    },
    {
      label: "layer",
      name: true,
      text: true,
      value: ({ layer }) => layer.name,
      cell: ({ layer }) => layer.name,
      foot: "total",
    },
    { label: "op", text: true, value: ({ layer }) => layer.op, cell: ({ layer }) => layer.op },
    {
      label: "MACs",
      title: "Multiply-accumulates, zero weights included",
      value: ({ layer }) => layer.macs,
      cell: ({ layer }) => formatShort(layer.macs),
      foot: formatShort(total.macs),
    },
    {
      label: "non-zero",
      title: "Multiply-accumulates with a weight that is not zero",
      value: ({ layer }) => layer.nonzero_macs,
      cell: ({ layer }) => formatShort(layer.nonzero_macs),
      foot: formatShort(total.nonzero_macs),
    },
    {
      label: "density",
      title: "Non-zero MACs of all MACs",
      value: ({ layer }) => density(layer),
      cell: ({ layer }) => formatDensity(layer),
      foot: formatDensity(total),
    },
    {
      label: "cycles",
      title: "From the mark of the layer before to this one's",
      value: ({ layer }) => layer.cycles,
      cell: ({ layer }) =>
        element(
          "div",
          { class: "measure" },
          cycleBar(layer, layer.cycles / longest),
          element("span", { class: "number" }, formatCount(layer.cycles)),
        ),
      foot: formatCount(total.cycles),
    },
    {
      label: "slots",
      title: "Cycles in which the array works",
      value: ({ layer }) => layer.slots,
      cell: ({ layer }) => formatCount(layer.slots),
      foot: formatCount(all((layer) => layer.slots)),
    },
    {
      label: "floor",
      title: "What the layer takes of multipliers or bus, whichever is more",
      value: ({ layer }) => layer.floor_cycles,
      cell: ({ layer }) => formatCount(layer.floor_cycles),
      foot: formatCount(total.floor_cycles),
    },
    {
      label: "× floor",
      title:
        "Cycles per cycle of the floor; below 1 where bytes came while an earlier layer computed",
      value: ({ layer }) => floorRatio(layer),
      cell: ({ layer }) => formatFloorRatio(layer),
      foot: formatFloorRatio(total),
    },
    {
      label: "limit",
      text: true,
      title: "What the floor comes from",
      value: ({ layer }) => layer.limit,
      cell: ({ layer }) => layer.limit,
      foot: total.limit,
    },
    {
      label: "use",
      title: "Non-zero MACs of what all multipliers could do in the layer's cycles",
      value: ({ layer }) => layer.multiplier_use,
      cell: ({ layer }) => formatPercent(layer.multiplier_use),
      foot: formatPercent(total.multiplier_use),
    },
    {
      label: "tiles",
      title: "Pixel tiles times channel tiles; in brackets those that the drain limits",
      value: ({ layer }) => layer.tiles,
      cell: ({ layer }) =>
        formatCount(layer.tiles) +
        (layer.drain_bound_tiles ? ` (${formatCount(layer.drain_bound_tiles)})` : ""),
      foot: formatCount(all((layer) => layer.tiles)),
    },
    {
      label: "bytes",
      title: "Loaded and stored over the bus",
      value: ({ layer }) => movedBytes(layer),
      cell: ({ layer }) => formatBytes(movedBytes(layer)),
      foot: formatBytes(all(movedBytes)),
    },
    {
      label: "energy",
      title: "An estimate: see below",
      value: ({ index }) => layerEnergy(program, index),
      cell: ({ index }) => formatEnergy(layerEnergy(program, index)),
      foot: formatEnergy(sum(program.layers.map((_, index) => layerEnergy(program, index)))),
    },
  ];
  const table = sortableTable({
    testId: "layer-table",
    caption: "Layers",
    columns,
    rows: program.layers.map((layer, index) => ({ layer, index })),
    keyOf: ({ layer }) => layer.name,
    onSelect: ({ layer }) => page.select(layer.name),
  });
  const waits = Object.entries(report.wait_causes);
  return {
    id: "layers",
    title: "Layers",
    body: [
      legend([
        ["slots", cyclePart("slots"), "Cycles in which the array works."],
        ...waits.map(([cause, meaning]) => [`waits: ${cause}`, cyclePart(cause), meaning]),
      ]),
      table.node,
    ],
    select: (name) => table.select(name),
  };
}

function density(counts) {
  return counts.macs ? counts.nonzero_macs / counts.macs : null;
}

function formatDensity(counts) {
  return counts.macs ? formatPercent(density(counts)) : "–";
}

function floorRatio(counts) {
  return counts.floor_cycles ? counts.cycles / counts.floor_cycles : null;
}

function formatFloorRatio(counts) {
  return counts.floor_cycles ? floorRatio(counts).toFixed(2) : "–";
}

/** A layer's numbers, and what its cycles went to. */
function layerCard(program, index, badge) {
  const layer = program.layers[index];
  const { rows } = layerTooltip(program, index);
  rows.push(["floor", `${formatCount(layer.floor_cycles)} cycles (× ${formatFloorRatio(layer)})`]);
  const parts = cycleParts(layer).filter(([, cycles]) => cycles > 0);
  const heading = element(
    "h3",
    {},
    ...(badge ? [element("span", { class: "badge" }, badge)] : []),
    layer.name,
  );
  const cells = parts.flatMap(([name, cycles, meaning]) => {
    const label = element(
      "span",
      { class: "label" },
      name === "slots" ? "slots" : `waits: ${name}`,
    );
    const style = `width:${(100 * cycles) / layer.cycles}%;background:${cyclePart(name)}`;
    return [
      tooltip.attach(label, () => ({ title: label.textContent, lines: [meaning] })),
      element("div", {}, element("div", { class: "bar", style })),
      element("span", { class: "value" }, formatCount(cycles)),
    ];
  });
  return element(
    "div",
    { class: "card" },
    heading,
    element(
      "dl",
      {},
      ...rows.flatMap(([term, value]) => [element("dt", {}, term), element("dd", {}, value)]),
    ),
    element("div", { class: "parts" }, ...cells),
  );
}
