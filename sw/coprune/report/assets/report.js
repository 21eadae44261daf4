/** The page: which program's details are shown, which layer is selected, and the sections. */
const page = {
  shown: 0,
  selected: null,
  sections: [],

  get program() {
    return report.programs[this.shown];
  },

  /** Select a layer by its name, in every section that shows layers. */
  select(name) {
    this.selected = name;
    this.sections.forEach((section) => section.select?.(name));
  },

  /** Show the details of another program. */
  show(index) {
    this.shown = index;
    this.build();
  },

  build() {
    const compares = report.programs.length > 1;
    this.sections = [
      summarySection(),
      ...(compares ? [changesSection()] : []),
      rooflineSection(),
      timelineSection(),
      layersSection(this.program),
      weightsSection(this.program),
      memorySection(this.program),
      energySection(this.program),
    ];
    if (!compares) {
      // With one program, its table comes first.
      this.sections.splice(1, 0, ...this.sections.splice(3, 1));
    }
    const detailed = new Set(["layers", "weights", "memory", "energy"]);
    const nodes = this.sections.map((section) => {
      const origin = `${"AB"[this.shown]}: ${this.program.origin}`;
      return frameSection(section, compares && detailed.has(section.id) ? origin : null);
    });
    document.getElementById("main").replaceChildren(...nodes);
    document
      .getElementById("navigation")
      .replaceChildren(
        ...this.sections.map(({ id, title, short }) =>
          element("a", { href: `#${id}` }, short ?? title),
        ),
      );
    this.drawChooser();
    this.draw();
    this.select(this.selected ?? this.longestLayer());
  },

  /** Name of the layer that takes the most cycles: the first to look at. */
  longestLayer() {
    const cycles = this.program.layers.map((layer) => layer.cycles);
    return this.program.layers[cycles.indexOf(Math.max(...cycles))].name;
  },

  /** Draw again what depends on the width of the window or on light and dark. */
  draw() {
    palette.clear();
    this.sections.forEach((section) => section.draw?.());
  },

  drawChooser() {
    const chooser = document.getElementById("chooser");
    chooser.hidden = report.programs.length === 1;
    chooser.replaceChildren(
      ...report.programs.map((program, index) =>
        element(
          "button",
          {
            type: "button",
            "aria-pressed": String(index === this.shown),
            title: `Show the details of ${program.origin}`,
            onclick: () => this.show(index),
          },
          `${"AB"[index]}: ${program.origin}`,
        ),
      ),
    );
  },
};

function frameSection({ id, title, level = "h2", body, controls }, origin) {
  const heading = element("div", { class: "heading" }, element(level, {}, title));
  if (origin) heading.append(element("span", { class: "faint" }, origin));
  if (controls) heading.append(element("div", { class: "controls" }, ...controls));
  return element("section", { id }, heading, ...body);
}

function summarySection() {
  const compares = report.programs.length > 1;
  const articles = report.programs.map((program, index) =>
    element(
      "article",
      {},
      element(
        "h3",
        {},
        ...(compares
          ? [element("span", { class: "badge" }, "AB"[index]), `${program.network}, `]
          : []),
        `${program.origin} for ${program.hardware.name}`,
      ),
      element("p", { class: "summary" }, typeset(program.summary)),
    ),
  );
  const clock = element("input", {
    type: "number",
    min: 1,
    max: 10000,
    step: 1,
    value: report.clock_hz / 1e6,
    "aria-label": "Clock in MHz",
    oninput: () => showRate(),
  });
  const valueClass = compares ? "value pair" : "value";
  const rate = element("div", { class: valueClass, "data-testid": "images-per-second" });

  function showRate() {
    const hertz = Math.max(Number(clock.value) || 0, 0) * 1e6;
    rate.textContent = both((program) => formatRate(hertz / program.total.cycles));
  }

  showRate();
  const tile = (label, value, detail) =>
    element(
      "div",
      { class: "tile" },
      element("div", { class: "label" }, label),
      value instanceof Node ? value : element("div", { class: valueClass }, value),
      element("div", { class: "detail" }, ...[detail].flat()),
    );
  const energy = (program) => sum(program.layers.map((_, index) => layerEnergy(program, index)));
  const detail = (text) =>
    compares ? comparison(text.key, text.less) : text.single(report.programs[0]);
  return {
    id: "summary",
    title: compares ? "Two programs side by side" : report.programs[0].network,
    short: "Summary",
    level: "h1",
    body: [
      element("div", { class: compares ? "subjects" : "" }, ...articles),
      element(
        "div",
        { class: "tiles" },
        tile(
          "cycles per image",
          both(({ total }) => formatCount(total.cycles)),
          detail({
            key: ({ total }) => total.cycles,
            single: ({ total }) => `${formatFloorRatio(total)} × the floor`,
          }),
        ),
        tile("images per second", rate, ["at ", clock, " MHz"]),
        tile(
          "multipliers used",
          both(({ total }) => formatPercent(total.multiplier_use)),
          compares
            ? "by non-zero MACs"
            : `of ${formatCount(report.programs[0].hardware.multipliers)}`,
        ),
        tile(
          "non-zero MACs",
          both(({ total }) => formatShort(total.nonzero_macs)),
          detail({
            key: ({ total }) => total.nonzero_macs,
            single: ({ total }) => `${formatDensity(total)} of ${formatShort(total.macs)}`,
          }),
        ),
        tile(
          "bytes moved",
          both((program) => formatBytes(sum(program.layers, movedBytes))),
          detail({
            key: (program) => sum(program.layers, movedBytes),
            single: ({ hardware }) => `${hardware.bus_bits}-bit bus`,
          }),
        ),
        tile(
          "weights",
          both(({ total }) => formatBytes(total.weight_bytes)),
          detail({
            key: ({ total }) => total.weight_bytes,
            single: ({ total }) =>
              `${formatRatio(total.float32_bytes, total.weight_bytes)} less than float32`,
          }),
        ),
        tile(
          "energy, estimated",
          both((program) => formatEnergy(energy(program))),
          detail({
            key: energy,
            single: () => "per image",
          }),
        ),
      ),
    ],
  };
}

/** What `text` says of the program, or of both. */
function both(text) {
  return report.programs.map(text).join(" → ");
}

/** How many times less B needs than A. */
function comparison(value) {
  const [before, after] = report.programs.map(value);
  return ["A / B: ", changeNode(before, after)];
}

let drawnWidth = 0;
new ResizeObserver(([entry]) => {
  const width = Math.round(entry.contentRect.width);
  if (width === drawnWidth) return;
  drawnWidth = width;
  page.draw();
}).observe(document.getElementById("main"));
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => page.draw());
page.build();
