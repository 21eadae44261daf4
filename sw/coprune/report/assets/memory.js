const DRAM_KINDS = ["instructions", "slots", "parameters", "tables", "input", "output"];

/** Where things lie in DRAM and on the chip. */
function memorySection(program) {
  const { memory } = program;
  const dram = element("figure", { "data-testid": "dram-map" });
  const banks = element("figure", { "data-testid": "bank-map" });
  const rings = memory.rings.map(() => element("figure", { "data-testid": "ring-map" }));
  let selected = null;

  function draw() {
    drawDram(dram, program, selected);
    drawBanks(banks, program, selected);
    memory.rings.forEach((ring, index) => drawRing(rings[index], ring, program, selected));
  }

  return {
    id: "memory",
    title: "Memory",
    body: [dram, banks, element("div", { class: "two" }, ...rings)],
    select(name) {
      selected = program.layers.findIndex((layer) => layer.name === name);
      draw();
    },
    draw,
  };
}

function drawDram(figure, program, selected) {
  const { size_bytes: size, regions } = program.memory.dram;
  const width = figure.clientWidth || 600;
  const height = 34;
  const scale = width / size;
  const marks = regions
    .filter((region) => region.layer !== null && region.layer === selected)
    .map((region) =>
      shape("rect", {
        x: region.offset * scale,
        y: height + 2,
        width: Math.max(region.size_bytes * scale, 2),
        height: 3,
        fill: "var(--ink)",
      }),
    );
  const bars = regions.map((region) => {
    const bar = shape("rect", {
      class: "region",
      x: region.offset * scale,
      y: 0,
      height,
      width: Math.max(region.size_bytes * scale, 1),
      fill: `var(--${region.kind})`,
    });
    if (region.layer !== null)
      bar.addEventListener("click", () => page.select(program.layers[region.layer].name));
    return tooltip.attach(bar, () => ({
      title:
        region.layer === null
          ? region.kind
          : `${region.kind} of ${program.layers[region.layer].name}`,
      rows: [
        ["offset", formatAddress(region.offset)],
        ["bytes", formatCount(region.size_bytes)],
        ["of the image", formatPercent(region.size_bytes / size)],
      ],
    }));
  });
  const kinds = DRAM_KINDS.filter((kind) => regions.some((region) => region.kind === kind));
  const totals = kinds.map((kind) => {
    const bytes = sum(
      regions.filter((region) => region.kind === kind),
      (region) => region.size_bytes,
    );
    return [`${kind} ${formatBytes(bytes)}`, `var(--${kind})`];
  });
  const padding = size - sum(regions, (region) => region.size_bytes);
  figure.replaceChildren(
    element("figcaption", {}, `Memory image: ${formatCount(size)} bytes`),
    shape(
      "svg",
      { width, height: height + 6, role: "img", "aria-label": "Regions of the memory image" },
      shape("rect", { width, height, fill: "var(--padding)" }),
      ...bars,
      ...marks,
    ),
    legend([...totals, [`alignment ${formatBytes(padding)}`, "var(--padding)"]]),
  );
}

/** Tensors in the activation banks: layers from left to right, words from the bottom up. */
function drawBanks(figure, program, selected) {
  const { depth_words: depth, tensors, peak_words: highWater } = program.memory.banks;
  const { layers, hardware } = program;
  const width = figure.clientWidth || 600;
  const longest = Math.max(...layers.map((layer) => layer.name.length));
  const step = (width - 56) / layers.length;
  const turned = longest * 6.2 > step;
  const bottom = turned ? clamp(longest * 4.6 + 12, 30, 110) : 22;
  const plot = 220;
  const height = plot + bottom + 8;
  const x = (layer) => 48 + layer * step;
  // A memory that is mostly empty is shown as far as it is used.
  const top = Math.min(depth, Math.ceil(1.25 * highWater));
  const y = (word) => 4 + plot - (word / top) * plot;
  const parts = [];
  for (let word = 0; word <= top; word += niceStep(top, 4)) {
    parts.push(
      shape("line", { x1: 48, x2: width - 8, y1: y(word), y2: y(word), stroke: "var(--line)" }),
    );
    parts.push(shape("text", { x: 42, y: y(word) + 4, "text-anchor": "end" }, formatCount(word)));
  }
  if (selected >= 0) {
    parts.push(
      shape("rect", { x: x(selected), y: 4, width: step, height: plot, fill: "var(--selected)" }),
    );
  }
  if (top === depth) {
    parts.push(
      shape("line", {
        x1: 48,
        x2: width - 8,
        y1: y(depth),
        y2: y(depth),
        stroke: "var(--muted)",
      }),
    );
  }
  parts.push(
    shape("line", {
      x1: 48,
      x2: width - 8,
      y1: y(highWater),
      y2: y(highWater),
      stroke: "var(--store)",
      "stroke-dasharray": "4 3",
    }),
  );
  for (const [number, tensor] of tensors.entries()) {
    const writer = number - 1;
    const box = {
      x: x(tensor.first) + 1,
      width: Math.max((tensor.last - tensor.first + 1) * step - 2, 1),
      y: y(tensor.base + tensor.words),
      height: Math.max((tensor.words / top) * plot - 1, 1.5),
    };
    const tint = writer < 0 ? "var(--input)" : layerColour(writer, layers.length);
    const bar = shape("rect", {
      class: "tensor",
      ...box,
      rx: 2,
      fill: tint,
      "fill-opacity": writer === selected ? 1 : 0.6,
      "data-testid": "tensor",
    });
    if (writer >= 0) bar.addEventListener("click", () => page.select(layers[writer].name));
    parts.push(
      tooltip.attach(bar, () => ({
        title: writer < 0 ? `${tensor.name} (input)` : `output of ${tensor.name}`,
        rows: [
          [
            "words of every bank",
            `${formatCount(tensor.base)} to ${formatCount(tensor.base + tensor.words - 1)}`,
          ],
          ["bytes of all banks", formatCount(tensor.words * hardware.columns * hardware.lanes)],
          ["needed from", layers[tensor.first].name],
          ["to", layers[tensor.last].name],
        ],
      })),
    );
    if (box.width > 6.2 * tensor.name.length + 8 && box.height > 13) {
      parts.push(
        shape(
          "text",
          { x: box.x + 5, y: box.y + box.height / 2 + 4, style: "fill:var(--ink)" },
          tensor.name,
        ),
      );
    }
  }
  // Every n-th name, where they would touch.
  const every = Math.max(1, Math.ceil(17 / step));
  for (const [index, layer] of layers.entries()) {
    if (index % every) continue;
    const at = x(index) + step / 2;
    const place = turned
      ? { transform: `translate(${at + 3} ${plot + 14}) rotate(-45)`, "text-anchor": "end" }
      : { x: at, y: plot + 18, "text-anchor": "middle" };
    const style = index === selected ? "fill:var(--ink);font-weight:600" : null;
    parts.push(shape("text", { ...place, style }, layer.name));
  }
  const bytes = depth * hardware.columns * hardware.lanes;
  figure.replaceChildren(
    element(
      "figcaption",
      {},
      `Activation memory: ${hardware.columns} banks of ${formatCount(depth)} words of ` +
        `${hardware.lanes} bytes (${formatBytes(bytes)}); words up to ${formatCount(highWater)} ` +
        `are used (${formatPercent(highWater / depth)}, dashed); a layer needs up to ` +
        `${formatCount(program.memory.banks.least_words)} at once`,
    ),
    shape(
      "svg",
      { width, height, role: "img", "aria-label": "Tensors in the activation banks" },
      ...parts,
    ),
  );
}

/** Slot or parameter memory over time. */
function drawRing(figure, ring, program, selected) {
  const width = figure.clientWidth || 420;
  const plot = 150;
  const { cycles } = program.timeline;
  const x = (cycle) => 48 + (cycle / cycles) * (width - 60);
  const y = (address) => 4 + plot - (address / ring.depth) * plot;
  const parts = [];
  for (let address = 0; address <= ring.depth; address += niceStep(ring.depth, 4)) {
    parts.push(
      shape("line", {
        x1: 48,
        x2: width - 12,
        y1: y(address),
        y2: y(address),
        stroke: "var(--line)",
      }),
    );
    parts.push(
      shape("text", { x: 42, y: y(address) + 4, "text-anchor": "end" }, formatCount(address)),
    );
  }
  parts.push(
    shape("line", {
      x1: 48,
      x2: width - 12,
      y1: y(ring.depth),
      y2: y(ring.depth),
      stroke: "var(--muted)",
    }),
  );
  const step = niceStep(cycles, Math.max(width / 110, 2));
  for (let cycle = 0; cycle <= cycles; cycle += step) {
    const anchor = x(cycle) > width - 40 ? "end" : "middle";
    parts.push(
      shape("text", { x: x(cycle), y: plot + 20, "text-anchor": anchor }, formatCount(cycle)),
    );
  }
  for (const piece of ring.pieces) {
    const name = piece.layer === null ? "no layer" : program.layers[piece.layer].name;
    const bar = shape("rect", {
      class: "region",
      x: x(piece.begin),
      width: Math.max(x(piece.end) - x(piece.begin), 1),
      y: y(piece.base + piece.count),
      height: Math.max((piece.count / ring.depth) * plot, 1),
      fill:
        piece.layer === null
          ? "var(--instructions)"
          : layerColour(piece.layer, program.layers.length),
      "fill-opacity": piece.layer === selected ? 1 : 0.6,
    });
    if (piece.layer !== null) bar.addEventListener("click", () => page.select(name));
    parts.push(
      tooltip.attach(bar, () => ({
        title: `${ring.name} of ${name}`,
        rows: [
          [
            "addresses",
            `${formatCount(piece.base)} to ${formatCount(piece.base + piece.count - 1)}`,
          ],
          ["loaded from cycle", formatCount(piece.begin)],
          ["last read in cycle", formatCount(piece.end)],
          ["instruction", `#${piece.instruction}`],
        ],
      })),
    );
  }
  const most = mostAtOnce(ring.pieces);
  figure.replaceChildren(
    element(
      "figcaption",
      {},
      `${ring.name === "slots" ? "Slot" : "Parameter"} memory over cycles: ` +
        `${formatCount(ring.depth)} ${ring.name}; at most ${formatCount(most)} are needed at ` +
        `once (${formatPercent(most / ring.depth)})`,
    ),
    shape(
      "svg",
      { width, height: plot + 26, role: "img", "aria-label": `${ring.name} memory over time` },
      ...parts,
    ),
  );
}

/** The largest number of addresses that pieces hold at the same time. */
function mostAtOnce(pieces) {
  const steps = pieces.flatMap(({ begin, end, count }) => [
    [begin, count],
    [end, -count],
  ]);
  // What ends in a cycle makes room for what begins in it.
  steps.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  let held = 0,
    most = 0;
  for (const [, count] of steps) {
    held += count;
    most = Math.max(most, held);
  }
  return most;
}
