const LANES = ["LOAD", "EXECUTE", "STORE"];
const TIMELINE = { gutter: 74, axis: 24, layers: 22, gap: 7, overview: 9, right: 10 };
// Heights of a row where a lane has few and many of them, and of a measured bar below it.
const ROW = { high: 26, low: 16, most: 2, measured: 7 };
const SMALLEST_VIEW_CYCLES = 20;

function timelineSection() {
  const compares = report.programs.length > 1;
  const longest = Math.max(...report.programs.map((program) => program.timeline.cycles));
  // One view for all timelines, so that they stay on a common scale.
  const view = { begin: 0, end: longest, longest };
  const colouring = element(
    "select",
    { "aria-label": "Colours of the timeline", onchange: () => draw() },
    element("option", { value: "layer" }, "by layer"),
    element("option", { value: "kind" }, "by kind"),
  );
  const timelines = report.programs.map(
    (program) =>
      new Timeline(program, view, { colouring: () => colouring.value, redraw: () => draw() }),
  );

  function draw() {
    timelines.forEach((timeline) => timeline.draw());
  }

  const zoom = (factor) => () => {
    zoomView(view, factor, (view.begin + view.end) / 2);
    draw();
  };
  const fit = () => {
    Object.assign(view, { begin: 0, end: longest });
    draw();
  };
  const button = (label, title, action) =>
    element("button", { type: "button", title, "aria-label": title, onclick: action }, label);
  const figures = timelines.map((timeline, number) => {
    const { program } = timeline;
    const name = compares ? `${"AB"[number]}: ${program.origin}, ` : "";
    return element(
      "figure",
      {},
      element(
        "figcaption",
        {},
        `${name}${formatCount(program.timeline.cycles)} cycles from start to interrupt`,
      ),
      timeline.node,
      ...measuredNote(program.timeline),
    );
  });
  return {
    id: "timeline",
    title: "Timeline",
    controls: [
      element("label", {}, "colours", colouring),
      button("−", "Zoom out", zoom(2)),
      button("+", "Zoom in", zoom(0.5)),
      button("Fit", "Show everything", fit),
    ],
    body: [
      element(
        "p",
        { class: "note" },
        "Hatched: a unit has an instruction and waits for tokens. Empty: it has none. Wheel or " +
          "+ and − zoom, dragging or ← and → move, ↑ and ↓ go from one instruction to the " +
          "next, a double click shows one alone.",
      ),
      legend([
        ["LOAD slots", "var(--slots)"],
        ["LOAD parameters", "var(--parameters)"],
        ["LOAD tables", "var(--tables)"],
        ["LOAD pixels", "var(--pixels)"],
        ["EXECUTE", "var(--execute)"],
        ["STORE", "var(--store)"],
      ]),
      ...figures,
    ],
    select(name) {
      timelines.forEach((timeline) => (timeline.selected = name));
      draw();
    },
    draw() {
      figures[0].parentNode.querySelector(".legend").hidden = colouring.value !== "kind";
      draw();
    },
  };
}

function measuredNote({ measured }) {
  if (!measured) return [];
  const difference = measured.largest_difference;
  const verdict =
    difference === 0
      ? "every instruction is ready, begins and ends in the cycle that the model says"
      : `an instruction differs from the model by up to ${formatCount(difference)} cycles`;
  return [
    element(
      "p",
      { class: "note", "data-testid": "measured-note", "data-largest-difference": difference },
      `Narrow bars: measured on the RTL (${measured.file}); ${verdict}.`,
    ),
  ];
}

/** Change the cycles in view by a factor around one that stays where it is. */
function zoomView(view, factor, around) {
  const span = clamp(
    (view.end - view.begin) * factor,
    Math.min(SMALLEST_VIEW_CYCLES, view.longest),
    view.longest,
  );
  const share = (around - view.begin) / (view.end - view.begin);
  placeView(view, around - share * span, span);
}

function placeView(view, begin, span) {
  view.begin = clamp(begin, 0, view.longest - span);
  view.end = view.begin + span;
}

/** LOAD, EXECUTE and STORE of one program on a canvas, with its layers above. */
class Timeline {
  constructor(program, view, { colouring, redraw }) {
    this.program = program;
    this.view = view;
    this.colouring = colouring;
    this.redraw = redraw;
    this.selected = null;
    this.focused = null;
    this.spans = this.listSpans();
    this.layers = this.listLayers();
    this.total = Math.max(
      ...this.spans.map((span) => span.end),
      ...this.layers.map((layer) => layer.end),
    );
    this.canvas = element("canvas", {
      tabindex: 0,
      role: "application",
      "aria-label": `Timeline of ${program.network}: ${formatCount(this.total)} cycles`,
    });
    this.node = element(
      "div",
      { class: "timeline", "data-testid": "timeline", "data-total-cycles": this.total },
      this.canvas,
    );
    // Where an instruction is drawn, in the window's coordinates.
    this.node.locate = (index) => this.locate(this.spans.find((span) => span.index === index));
    this.listen();
  }

  /**
   * The instructions, each in a row of its lane in which none before it is still under way. In the
   * tail of an EXECUTE its last tile is drained while the next one computes: they share a row.
   */
  listSpans() {
    this.rows = Object.fromEntries(LANES.map((lane) => [lane, []]));
    const { instructions, measured } = this.program.timeline;
    return instructions.map((instruction, number) => {
      const ends = this.rows[instruction.unit];
      const tail = instruction.unit === "EXECUTE" ? (instruction.end - instruction.begin) / 2 : 0;
      const found = ends.findIndex((end) => end <= instruction.ready + tail);
      const row = found < 0 ? ends.length : found;
      ends[row] = instruction.end;
      return {
        ...instruction,
        row,
        measured: measured && {
          ready: measured.ready[number],
          begin: measured.begin[number],
          end: measured.end[number],
        },
      };
    });
  }

  /** The layers from mark to mark, and what there is behind the last one. */
  listLayers() {
    const { marks, cycles } = this.program.timeline;
    const layers = marks.map((end, index) => ({ index, begin: index ? marks[index - 1] : 0, end }));
    const last = layers[layers.length - 1].end;
    if (last < cycles) layers.push({ index: null, begin: last, end: cycles });
    return layers;
  }

  /** Height of the rows of a lane, without the measured bars. */
  barHeight(lane) {
    return this.rows[lane].length > ROW.most ? ROW.low : ROW.high;
  }

  /** From the top of a row to that of the next. */
  rowHeight(lane) {
    return this.barHeight(lane) + 2 + (this.program.timeline.measured ? ROW.measured + 2 : 0);
  }

  /** Top of every lane, and the height of all. */
  arrange() {
    let top = TIMELINE.axis + TIMELINE.layers + TIMELINE.gap;
    this.tops = {};
    for (const lane of LANES) {
      this.tops[lane] = top;
      top += Math.max(this.rows[lane].length, 1) * this.rowHeight(lane) + TIMELINE.gap;
    }
    return top + TIMELINE.overview + 4;
  }

  x(cycle) {
    const { begin, end } = this.view;
    return (
      TIMELINE.gutter +
      ((cycle - begin) / (end - begin)) * (this.width - TIMELINE.gutter - TIMELINE.right)
    );
  }

  cycleAt(x) {
    const { begin, end } = this.view;
    return (
      begin +
      ((x - TIMELINE.gutter) / (this.width - TIMELINE.gutter - TIMELINE.right)) * (end - begin)
    );
  }

  top(span) {
    return this.tops[span.unit] + span.row * this.rowHeight(span.unit);
  }

  tint(span) {
    if (this.colouring() === "kind") return colour(span.kind);
    return span.layer === null
      ? colour("instructions")
      : layerColour(span.layer, this.program.layers.length);
  }

  draw() {
    this.width = this.node.clientWidth || 600;
    this.height = this.arrange();
    const context = prepareCanvas(this.canvas, this.width, this.height);
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "middle";
    this.drawAxis(context);
    context.save();
    context.beginPath();
    context.rect(
      TIMELINE.gutter,
      0,
      this.width - TIMELINE.gutter - TIMELINE.right + 1,
      this.height,
    );
    context.clip();
    this.layers.forEach((layer) => this.drawLayer(context, layer));
    this.spans.forEach((span) => this.drawSpan(context, span));
    context.restore();
    this.drawOverview(context);
  }

  drawAxis(context) {
    const { begin, end } = this.view;
    context.fillStyle = colour("muted");
    context.strokeStyle = colour("line");
    context.lineWidth = 1;
    const step = Math.max(
      1,
      niceStep(end - begin, Math.max((this.width - TIMELINE.gutter) / 110, 2)),
    );
    context.textAlign = "center";
    const bottom = this.height - TIMELINE.overview - 6;
    for (let cycle = Math.ceil(begin / step) * step; cycle <= end; cycle += step) {
      const x = Math.round(this.x(cycle)) + 0.5;
      context.beginPath();
      context.moveTo(x, TIMELINE.axis - 5);
      context.lineTo(x, bottom);
      context.stroke();
      const text = formatCount(cycle);
      const half = context.measureText(text).width / 2;
      context.fillText(
        text,
        clamp(x, TIMELINE.gutter + half, this.width - half - 4),
        TIMELINE.axis / 2,
      );
    }
    context.textAlign = "left";
    context.fillText("cycles", 10, TIMELINE.axis / 2);
    context.fillText("layers", 10, TIMELINE.axis + TIMELINE.layers / 2);
    context.fillStyle = colour("ink");
    for (const lane of LANES)
      context.fillText(lane, 10, this.tops[lane] + this.barHeight(lane) / 2);
  }

  drawLayer(context, layer) {
    const [left, right] = [this.x(layer.begin), this.x(layer.end)];
    if (right < TIMELINE.gutter || left > this.width) return;
    const selected =
      layer.index !== null && this.program.layers[layer.index].name === this.selected;
    const tint =
      layer.index === null
        ? colour("padding")
        : layerColour(layer.index, this.program.layers.length);
    context.globalAlpha = selected ? 1 : 0.28;
    context.fillStyle = tint;
    context.fillRect(left, TIMELINE.axis, Math.max(right - left - 1, 1), TIMELINE.layers);
    context.globalAlpha = 1;
    if (layer.index === null) return;
    context.fillStyle = selected ? colour("span-ink") : colour("ink");
    this.drawLabel(
      context,
      this.program.layers[layer.index].name,
      left,
      right,
      TIMELINE.axis + TIMELINE.layers / 2,
    );
  }

  /** Text within a span, where it fits. */
  drawLabel(context, text, left, right, middle) {
    const from = Math.max(left, TIMELINE.gutter) + 4;
    const to = Math.min(right, this.width - TIMELINE.right) - 4;
    if (to - from < 18) return;
    if (context.measureText(text).width <= to - from) {
      context.textAlign = "left";
      context.fillText(text, from, middle + 0.5);
    }
  }

  drawSpan(context, span) {
    const [ready, begin, end] = [this.x(span.ready), this.x(span.begin), this.x(span.end)];
    if (end < TIMELINE.gutter || ready > this.width) return;
    const top = this.top(span);
    const height = this.barHeight(span.unit);
    const tint = this.tint(span);
    const others =
      this.selected !== null && this.selectedIndex !== -1 && span.layer !== this.selectedIndex;
    context.globalAlpha = others ? 0.7 : 1;
    if (span.begin > span.ready) {
      context.fillStyle = hatching(context, tint);
      context.fillRect(ready, top, Math.max(begin - ready, 0.5), height);
    }
    // A sliver of background before each one, as long as it is wide enough.
    if (end - begin > 4) {
      context.fillStyle = colour("panel");
      context.fillRect(begin - 1, top, 1, height);
    }
    context.fillStyle = tint;
    context.fillRect(begin, top, Math.max(end - begin, 0.75), height);
    context.globalAlpha = 1;
    if (end - begin > 30) {
      context.fillStyle = colour("span-ink");
      const text = span.layer === null ? span.kind : this.program.layers[span.layer].name;
      this.drawLabel(
        context,
        span.unit === "LOAD" ? `${span.kind} ${text}` : text,
        begin,
        end,
        top + height / 2,
      );
    }
    if (span === this.focused) {
      context.strokeStyle = colour("ink");
      context.lineWidth = 2;
      context.strokeRect(ready + 1, top + 1, Math.max(end - ready - 2, 2), height - 2);
    }
    if (span.measured) this.drawMeasured(context, span, top + height + 1, tint);
  }

  drawMeasured(context, { measured }, top, tint) {
    const [ready, begin, end] = [measured.ready, measured.begin, measured.end].map((cycle) =>
      this.x(cycle),
    );
    if (measured.begin > measured.ready) {
      context.fillStyle = hatching(context, tint);
      context.fillRect(ready, top, Math.max(begin - ready, 0.5), ROW.measured);
    }
    if (end - begin > 4) {
      context.fillStyle = colour("panel");
      context.fillRect(begin - 1, top, 1, ROW.measured);
    }
    context.fillStyle = tint;
    context.globalAlpha = 0.7;
    context.fillRect(begin, top, Math.max(end - begin, 0.75), ROW.measured);
    context.globalAlpha = 1;
  }

  /** Which part of the program is in view. */
  drawOverview(context) {
    const { begin, end, longest } = this.view;
    const width = this.width - TIMELINE.gutter - TIMELINE.right;
    const top = this.height - TIMELINE.overview - 2;
    context.fillStyle = colour("soft");
    context.fillRect(TIMELINE.gutter, top, width, TIMELINE.overview - 3);
    context.fillStyle = colour(end - begin < longest ? "accent" : "line");
    const left = TIMELINE.gutter + (begin / longest) * width;
    context.fillRect(
      left,
      top,
      Math.max(((end - begin) / longest) * width, 2),
      TIMELINE.overview - 3,
    );
  }

  get selectedIndex() {
    return this.program.layers.findIndex((layer) => layer.name === this.selected);
  }

  /** What is at a place of the canvas: a span, a layer, a lane without either, or nothing. */
  find(x, y) {
    if (x < TIMELINE.gutter) return {};
    const cycle = this.cycleAt(x);
    const slack = (this.view.end - this.view.begin) / (this.width - TIMELINE.gutter);
    if (y >= TIMELINE.axis && y < TIMELINE.axis + TIMELINE.layers) {
      return { layer: this.layers.find(({ begin, end }) => begin <= cycle && cycle < end) };
    }
    const hits = this.spans.filter((span) => {
      const top = this.top(span);
      return (
        y >= top &&
        y < top + this.rowHeight(span.unit) &&
        span.ready - slack <= cycle &&
        cycle < span.end + slack
      );
    });
    // The one that is drawn last lies on top.
    const exact = hits.findLast((span) => span.ready <= cycle && cycle < span.end);
    return { span: exact ?? hits[0] };
  }

  listen() {
    const { canvas, view } = this;
    let drag = null;
    canvas.addEventListener(
      "wheel",
      (event) => {
        const sideways = event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY);
        const all = view.end - view.begin >= view.longest;
        // At full view the page scrolls on.
        if (all && (sideways || event.deltaY > 0)) return;
        event.preventDefault();
        if (sideways) this.move((event.deltaX || event.deltaY) / 600);
        else zoomView(view, 1.0016 ** clamp(event.deltaY, -300, 300), this.cycleAt(event.offsetX));
        tooltip.hide();
        this.redraw();
      },
      { passive: false },
    );
    canvas.addEventListener("pointerdown", (event) => {
      drag = { x: event.clientX, begin: view.begin, moved: false };
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!drag) return this.hover(event);
      const shift = event.clientX - drag.x;
      if (!drag.moved && Math.abs(shift) < 4) return undefined;
      drag.moved = true;
      canvas.classList.add("dragging");
      const perPixel = (view.end - view.begin) / (this.width - TIMELINE.gutter - TIMELINE.right);
      placeView(view, drag.begin - shift * perPixel, view.end - view.begin);
      tooltip.hide();
      return this.redraw();
    });
    canvas.addEventListener("pointerup", (event) => {
      if (drag && !drag.moved) this.pick(event);
      drag = null;
      canvas.classList.remove("dragging");
    });
    canvas.addEventListener("pointercancel", () => (drag = null));
    canvas.addEventListener("pointerleave", () => tooltip.hide());
    canvas.addEventListener("dblclick", (event) => {
      const { span, layer } = this.find(event.offsetX, event.offsetY);
      const shown = span ? { begin: span.ready, end: span.end } : layer;
      if (!shown) return;
      const room = Math.max(1.3 * (shown.end - shown.begin), SMALLEST_VIEW_CYCLES);
      placeView(view, (shown.begin + shown.end - room) / 2, Math.min(room, view.longest));
      this.redraw();
    });
    canvas.addEventListener("keydown", (event) => this.press(event));
    canvas.addEventListener("blur", () => {
      this.focused = null;
      tooltip.hide();
      this.draw();
    });
  }

  move(share) {
    const span = this.view.end - this.view.begin;
    placeView(this.view, this.view.begin + share * span, span);
  }

  hover(event) {
    const { span, layer } = this.find(event.offsetX, event.offsetY);
    if (span) tooltip.show(event.clientX, event.clientY, this.describe(span));
    else if (layer) tooltip.show(event.clientX, event.clientY, this.describeLayer(layer));
    else tooltip.hide();
    this.canvas.style.cursor = span || layer ? "pointer" : "";
  }

  pick(event) {
    const { span, layer } = this.find(event.offsetX, event.offsetY);
    const index = span ? span.layer : layer?.index;
    if (index !== null && index !== undefined) page.select(this.program.layers[index].name);
  }

  press(event) {
    const middle = (this.view.begin + this.view.end) / 2;
    const actions = {
      ArrowLeft: () => this.move(-0.15),
      ArrowRight: () => this.move(0.15),
      "+": () => zoomView(this.view, 0.6, middle),
      "=": () => zoomView(this.view, 0.6, middle),
      "-": () => zoomView(this.view, 1 / 0.6, middle),
      Home: () => Object.assign(this.view, { begin: 0, end: this.view.longest }),
      0: () => Object.assign(this.view, { begin: 0, end: this.view.longest }),
      ArrowDown: () => this.step(1),
      ArrowUp: () => this.step(-1),
      Escape: () => (this.focused = null),
    };
    if (!actions[event.key] || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    tooltip.hide();
    actions[event.key]();
    this.redraw();
    if (this.focused) {
      const { x, y } = this.locate(this.focused);
      tooltip.show(x, y, this.describe(this.focused));
    }
  }

  /** Go to the next instruction in the order in which they begin. */
  step(direction) {
    const ordered = [...this.spans].sort((a, b) => a.begin - b.begin || a.index - b.index);
    const first = ordered.findIndex((span) => span.end > this.view.begin);
    const at = this.focused ? ordered.indexOf(this.focused) + direction : first;
    this.focused = ordered[clamp(at, 0, ordered.length - 1)];
    const { begin, end } = this.focused;
    if (begin < this.view.begin || end > this.view.end) {
      const span = this.view.end - this.view.begin;
      placeView(this.view, (begin + end - span) / 2, span);
    }
  }

  locate(span) {
    const box = this.canvas.getBoundingClientRect();
    const left = Math.max(this.x(span.begin), TIMELINE.gutter);
    const right = Math.min(this.x(span.end), this.width - TIMELINE.right);
    return {
      x: box.left + (left + right) / 2,
      y: box.top + this.top(span) + this.barHeight(span.unit) / 2,
    };
  }

  name(span) {
    const layer = span.layer === null ? "" : ` · ${this.program.layers[span.layer].name}`;
    const kind = span.unit === "LOAD" ? ` ${span.kind}` : "";
    return `#${span.index} ${span.unit}${kind}${layer}`;
  }

  describe(span) {
    const duration = span.end - span.begin;
    const rows = [
      [
        "cycles",
        `${formatCount(span.begin)} to ${formatCount(span.end)}: ${formatCount(duration)}`,
      ],
    ];
    if (span.slots)
      rows.push(["slots", `${formatCount(span.slots)} (${formatPercent(span.slots / duration)})`]);
    if (span.bytes)
      rows.push([
        "bytes",
        `${formatCount(span.bytes)} (${(span.bytes / duration).toFixed(2)} per cycle)`,
      ]);
    const wait = span.begin - span.ready;
    rows.push(["stall", wait ? `${formatCount(wait)} cycles` : "none"]);
    if (span.measured) {
      const { ready, begin, end } = span.measured;
      const off = Math.max(
        Math.abs(ready - span.ready),
        Math.abs(begin - span.begin),
        Math.abs(end - span.end),
      );
      rows.push([
        "measured",
        `${formatCount(begin)} to ${formatCount(end)}: ${formatCount(end - begin)}`,
      ]);
      rows.push(["largest difference", `${formatCount(off)} cycles`]);
    }
    return {
      title: this.name(span),
      lines: [typeset(span.text), ...this.explainStall(span, wait)],
      rows,
    };
  }

  /** Why an instruction waited: for the tokens of which other ones. */
  explainStall(span, wait) {
    const lines = [];
    if (wait) {
      const senders = this.spans.filter(
        (other) => span.senders.includes(other.index) && other.end > span.ready,
      );
      const what = {
        LOAD: "until the memory that it fills is free",
        EXECUTE: "",
        STORE: "until its words are there",
      };
      const names = senders.map(
        (sender) => `${this.name(sender)}, which ended at ${formatCount(sender.end)}`,
      );
      const reason = names.length ? `for ${names.join(", and ")}` : what[span.unit];
      lines.push(`Waited from ${formatCount(span.ready)} on ${reason}.`.replace("  ", " "));
    }
    if (span.barrier)
      lines.push("Its first slot waits until all earlier words are in the activation memory.");
    return lines;
  }

  describeLayer(layer) {
    const range = `${formatCount(layer.begin)} to ${formatCount(layer.end)}`;
    if (layer.index === null) {
      return { title: "end of the program", rows: [["cycles", range]] };
    }
    const numbers = this.program.layers[layer.index];
    const parts = cycleParts(numbers).filter(([, cycles]) => cycles > 0);
    return {
      title: `${numbers.name}: ${formatCount(numbers.cycles)} cycles`,
      lines: [`cycles ${range}`],
      rows: parts.map(([name, cycles]) => [
        name === "slots" ? "slots" : `waits: ${name}`,
        `${formatCount(cycles)} (${formatPercent(cycles / numbers.cycles)})`,
        cyclePart(name),
      ]),
    };
  }
}
