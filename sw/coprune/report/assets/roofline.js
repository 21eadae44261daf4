const ROOFLINE_MARGIN = { left: 56, right: 18, top: 18, bottom: 42 };

/**
 * Every layer by how many MACs it does per byte and per cycle, under the roofs that multipliers and
 * bus make. With two programs, an arrow leads from A to B.
 */
function rooflineSection() {
  const plot = element("figure", { "data-testid": "roofline" });
  const side = element("div", { class: "side", "data-testid": "layer-card" });
  const dense = element("input", { type: "checkbox", onchange: () => draw() });
  const compares = report.programs.length > 1;
  // Zero weights counted as work: how fast dense hardware would have to be.
  dense.checked =
    !compares && report.programs[0].total.nonzero_macs < 0.9 * report.programs[0].total.macs;
  let selected = null;

  function draw() {
    drawRoofline(plot, { withDense: dense.checked, selected });
    const cards = report.programs.flatMap((program, number) => {
      const index = program.layers.findIndex((layer) => layer.name === selected);
      return index < 0 ? [] : [layerCard(program, index, compares ? "AB"[number] : null)];
    });
    side.replaceChildren(...cards);
  }

  return {
    id: "roofline",
    title: "Roofline",
    controls: [element("label", {}, dense, "zero weights counted, too (hollow)")],
    body: [
      element("div", { class: "plot-and-side" }, plot, side),
      element(
        "p",
        { class: "note" },
        "A layer lies above the bus roof where its weights came while layers before it computed.",
      ),
    ],
    select(name) {
      selected = name;
      draw();
    },
    draw,
  };
}

/** Position of every layer of a program; `macs` is the layer's count to go by. */
function rooflinePoints(program, macs) {
  return program.layers.map((layer, index) => {
    const work = layer[macs];
    const bytes = movedBytes(layer);
    return {
      layer,
      index,
      intensity: work && bytes ? work / bytes : null,
      bytes,
      rate: work ? work / layer.cycles : null,
    };
  });
}

function drawRoofline(figure, { withDense, selected }) {
  const width = Math.max(figure.clientWidth || 600, 300);
  const height = clamp(width * 0.56, 300, 500);
  const compares = report.programs.length > 1;
  const series = report.programs.map((program) => ({
    program,
    points: rooflinePoints(program, "nonzero_macs"),
    ghosts: withDense ? rooflinePoints(program, "macs") : [],
  }));
  const { x, y, low, ticks } = rooflineScales(series, width, height);
  const parts = [...rooflineAxes(x, y, ticks, width, height)];
  const roofs = compares && sameHardware(...report.programs) ? series.slice(0, 1) : series;
  roofs.forEach(({ program }, number) => {
    parts.push(
      ...rooflineRoof(program, { x, y, low, number, dashed: roofs.length > 1 && number === 0 }),
    );
  });
  const { right } = ROOFLINE_MARGIN;
  // The names of the roofs.
  const occupied = series.map(({ program }) => {
    const roof = y({ rate: program.hardware.multipliers });
    return { left: width - right - 110, right: width, top: roof - 18, bottom: roof };
  });
  const marks = [];
  series.forEach(({ program, points, ghosts }, number) => {
    for (const [index, ghost] of ghosts.entries()) {
      const point = points[index];
      if (ghost.rate === null || point.rate === null || ghost.rate === point.rate) continue;
      const position = { x1: x(point), y1: y(point), x2: x(ghost), y2: y(ghost) };
      parts.push(shape("line", { ...position, stroke: "var(--line)", "stroke-dasharray": "2 3" }));
      parts.push(
        shape("circle", {
          cx: x(ghost),
          cy: y(ghost),
          r: 3.5,
          fill: "none",
          stroke: "var(--muted)",
          "stroke-opacity": 0.7,
          "data-testid": "roofline-dense-point",
        }),
      );
    }
    for (const point of points) {
      const place = { x: x(point), y: y(point) };
      occupied.push({
        left: place.x - 6,
        right: place.x + 6,
        top: place.y - 6,
        bottom: place.y + 6,
      });
      marks.push({ program, number, point, place });
    }
  });
  if (compares) parts.push(...rooflineArrows(series, x, y));
  const order = [...marks].sort(
    (a, b) => (a.point.layer.name === selected) - (b.point.layer.name === selected),
  );
  for (const mark of order)
    parts.push(rooflinePoint(mark, mark.point.layer.name === selected, compares));
  const labelled = compares ? marks.filter((mark) => mark.number === 1) : marks;
  parts.push(...rooflineLabels(labelled, occupied, selected, width));
  figure.replaceChildren(
    shape(
      "svg",
      {
        width,
        height,
        viewBox: `0 0 ${width} ${height}`,
        role: "img",
        "aria-label": "Roofline plot of all layers",
      },
      ...parts,
    ),
  );
}

function sameHardware(a, b) {
  return (
    a.hardware.multipliers === b.hardware.multipliers &&
    a.hardware.bus_bytes === b.hardware.bus_bytes
  );
}

/** Logarithmic scales over whole decades or halves of them that hold all points and the ridges. */
function rooflineScales(series, width, height) {
  const intensities = [],
    rates = [];
  for (const { program, points, ghosts } of series) {
    const { multipliers, bus_bytes: busBytes } = program.hardware;
    intensities.push(multipliers / busBytes);
    rates.push(multipliers);
    for (const point of [...points, ...ghosts]) {
      if (point.intensity !== null) intensities.push(point.intensity);
      if (point.rate !== null) rates.push(point.rate);
    }
  }
  const low = [Math.min(...intensities) / 1.7, Math.min(...rates) / 1.6];
  const high = [Math.max(...intensities) * 1.7, Math.max(...rates) * 1.6];
  const { left, right, top, bottom } = ROOFLINE_MARGIN;
  const place = (value, axis) => Math.log(value / low[axis]) / Math.log(high[axis] / low[axis]);
  return {
    low,
    // A layer without MACs or bytes has no place on an axis: it goes to its end.
    x: ({ intensity, bytes }) => {
      const at = intensity ?? (bytes ? low[0] : high[0]);
      return left + clamp(place(at, 0), 0, 1) * (width - left - right);
    },
    y: ({ rate }) =>
      height - bottom - clamp(place(rate ?? low[1], 1), 0, 1) * (height - top - bottom),
    ticks: [logTicks(low[0], high[0]), logTicks(low[1], high[1])],
  };
}

function logTicks(low, high) {
  const factors = high / low > 1e3 ? [1] : [1, 2, 5];
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
    for (const factor of factors) {
      const value = factor * 10 ** power;
      if (value >= low && value <= high) ticks.push(value);
    }
  }
  return ticks;
}

function rooflineAxes(x, y, [xTicks, yTicks], width, height) {
  const { left, right, top, bottom } = ROOFLINE_MARGIN;
  const parts = [];
  let previous = -Infinity;
  for (const intensity of xTicks) {
    const at = x({ intensity });
    parts.push(
      shape("line", { x1: at, x2: at, y1: top, y2: height - bottom, stroke: "var(--line)" }),
    );
    if (at - previous < 34) continue;
    previous = at;
    parts.push(
      shape(
        "text",
        { x: at, y: height - bottom + 16, "text-anchor": "middle" },
        formatTick(intensity),
      ),
    );
  }
  for (const rate of yTicks) {
    const at = y({ rate });
    parts.push(
      shape("line", { x1: left, x2: width - right, y1: at, y2: at, stroke: "var(--line)" }),
    );
    parts.push(shape("text", { x: left - 8, y: at + 4, "text-anchor": "end" }, formatTick(rate)));
  }
  const middle = (left + width - right) / 2;
  parts.push(
    shape(
      "text",
      { x: middle, y: height - 8, "text-anchor": "middle" },
      "non-zero MACs per byte over the bus",
    ),
  );
  const turned = `translate(13 ${(top + height - bottom) / 2}) rotate(-90)`;
  parts.push(shape("text", { transform: turned, "text-anchor": "middle" }, "MACs per cycle"));
  return parts;
}

function rooflineRoof(program, { x, y, low, number, dashed }) {
  const { multipliers, bus_bytes: busBytes } = program.hardware;
  const begin = Math.max(low[0], low[1] / busBytes);
  const corners = [
    { intensity: begin, rate: begin * busBytes },
    { intensity: multipliers / busBytes, rate: multipliers },
    { intensity: Infinity, rate: multipliers },
  ].map((corner) => ({ x: x(corner), y: y(corner) }));
  const line = corners.map((corner) => `${corner.x} ${corner.y}`).join(" L ");
  const style = {
    fill: "none",
    stroke: "var(--muted)",
    "stroke-width": 1.5,
    "stroke-dasharray": dashed ? "5 4" : null,
  };
  const [foot, ridge, edge] = corners;
  // Along the bus roof, beside its lower end.
  const slope = (Math.atan2(ridge.y - foot.y, ridge.x - foot.x) * 180) / Math.PI;
  const beside = { x: foot.x + 0.3 * (ridge.x - foot.x), y: foot.y + 0.3 * (ridge.y - foot.y) };
  const along = `translate(${beside.x} ${beside.y}) rotate(${slope})`;
  const visibility = Math.hypot(ridge.x - foot.x, ridge.y - foot.y) < 300 ? "hidden" : null;
  return [
    shape("path", { d: `M ${line}`, ...style }),
    shape(
      "text",
      { x: edge.x - 4, y: edge.y - 6, "text-anchor": "end" },
      `${formatCount(multipliers)} multipliers`,
    ),
    shape(
      "text",
      { transform: along, y: -7 - 12 * number, "text-anchor": "middle", visibility },
      `bus: ${busBytes} bytes per cycle`,
    ),
  ];
}

function rooflineArrows([before, after], x, y) {
  const parts = [
    shape(
      "defs",
      {},
      shape(
        "marker",
        {
          id: "arrow-head",
          viewBox: "0 0 8 8",
          refX: 7,
          refY: 4,
          markerWidth: 7,
          markerHeight: 7,
          orient: "auto",
        },
        shape("path", { d: "M 0 0.8 L 7.5 4 L 0 7.2 z", fill: "var(--muted)" }),
      ),
    ),
  ];
  for (const pair of report.pairs) {
    if (pair.before === null || pair.after === null) continue;
    const [from, to] = [before.points[pair.before], after.points[pair.after]];
    const [dx, dy] = [x(to) - x(from), y(to) - y(from)];
    const length = Math.hypot(dx, dy);
    // Between the rims of the two points.
    if (length < 16) continue;
    parts.push(
      shape("line", {
        x1: x(from) + (6 * dx) / length,
        y1: y(from) + (6 * dy) / length,
        x2: x(to) - (7 * dx) / length,
        y2: y(to) - (7 * dy) / length,
        stroke: "var(--muted)",
        "stroke-opacity": 0.55,
        "marker-end": "url(#arrow-head)",
        "data-testid": "roofline-arrow",
      }),
    );
  }
  return parts;
}

function rooflinePoint({ program, number, point, place }, selected, compares) {
  const tint = layerColour(point.index, program.layers.length);
  const hollow = compares && number === 0;
  const node = shape("circle", {
    class: "point",
    cx: place.x,
    cy: place.y,
    r: selected ? 7 : 5,
    tabindex: 0,
    fill: hollow ? "var(--panel)" : tint,
    stroke: selected ? "var(--ink)" : hollow ? tint : "var(--panel)",
    "stroke-width": selected || hollow ? 2 : 1,
    "data-testid": "roofline-point",
    "data-layer": point.layer.name,
    "aria-label": point.layer.name,
  });
  const content = () => {
    const shown = layerTooltip(program, point.index);
    shown.rows.push(["MACs per byte", point.intensity === null ? "–" : point.intensity.toFixed(1)]);
    if (compares) shown.lines = [number === 0 ? `A: ${program.origin}` : `B: ${program.origin}`];
    return shown;
  };
  node.addEventListener("click", () => page.select(point.layer.name));
  node.addEventListener(
    "keydown",
    (event) => event.key === "Enter" && page.select(point.layer.name),
  );
  node.addEventListener("focus", () => {
    const box = node.getBoundingClientRect();
    tooltip.show(box.right, box.bottom, content());
  });
  node.addEventListener("blur", () => tooltip.hide());
  return tooltip.attach(node, content);
}

/** Names of as many points as there is room for; the selected one's first. */
function rooflineLabels(marks, occupied, selected, width) {
  const taken = [...occupied];
  const parts = [];
  const ordered = [...marks].sort(
    (a, b) => (b.point.layer.name === selected) - (a.point.layer.name === selected),
  );
  for (const { point, place } of ordered) {
    const { name } = point.layer;
    const wide = 6.1 * name.length;
    const spots = [
      { left: place.x + 9, top: place.y - 6 },
      { left: place.x - 9 - wide, top: place.y - 6 },
      { left: place.x - wide / 2, top: place.y + 8 },
      { left: place.x - wide / 2, top: place.y - 20 },
      { left: place.x + 6, top: place.y + 8 },
      { left: place.x - 6 - wide, top: place.y + 8 },
    ];
    const spot = spots
      .map(({ left, top }) => ({ left, top, right: left + wide, bottom: top + 12 }))
      .find(
        (box) =>
          box.left > ROOFLINE_MARGIN.left &&
          box.right < width - 4 &&
          box.top > 4 &&
          !taken.some((other) => overlaps(box, other)),
      );
    if (!spot) continue;
    taken.push(spot);
    const style = name === selected ? "fill:var(--ink);font-weight:600" : null;
    parts.push(shape("text", { class: "halo", x: spot.left, y: spot.top + 10, style }, name));
  }
  return parts;
}

function overlaps(a, b) {
  return a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
}
