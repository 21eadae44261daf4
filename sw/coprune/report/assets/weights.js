const DIAGONAL = 0x80;
const PICTURE_HEIGHT = 520;

/** Which weights of the selected layer are zero, and how many slots its blocks take. */
function weightsSection(program) {
  const picker = element(
    "select",
    {
      "aria-label": "Layer",
      "data-testid": "weights-layer",
      onchange: () => page.select(picker.value),
    },
    ...program.layers.map((layer) => element("option", { value: layer.name }, layer.name)),
  );
  const previous = element(
    "button",
    { type: "button", "aria-label": "Previous layer", onclick: () => step(-1) },
    "‹",
  );
  const next = element(
    "button",
    { type: "button", "aria-label": "Next layer", onclick: () => step(1) },
    "›",
  );
  const pictures = element("div", { class: "picture" });
  const side = element("div", { class: "side" });
  const { lanes } = program.hardware;
  let shown = 0;

  function step(direction) {
    page.select(program.layers[clamp(shown + direction, 0, program.layers.length - 1)].name);
  }

  function draw() {
    const pattern = new WeightPattern(program, shown);
    const width = pictures.clientWidth || 600;
    pictures.replaceChildren(...pattern.pictures(width));
    side.replaceChildren(pattern.facts(), ...pattern.histogram());
  }

  return {
    id: "weights",
    title: "Weights",
    controls: [element("label", {}, "layer", picker), previous, next],
    body: [
      element(
        "p",
        { class: "note" },
        "Filled: not zero. Every panel is a tap of the kernel: output channels from top to " +
          "bottom, input channels from left to right. A cell between lines is a block of " +
          `${lanes} by ${lanes} channels: it takes as many slots as its busiest output channel ` +
          "has weights.",
      ),
      element("div", { class: "weights" }, pictures, side),
    ],
    select(name) {
      const index = program.layers.findIndex((layer) => layer.name === name);
      if (index < 0) return;
      shown = index;
      picker.value = name;
      draw();
    },
    draw,
  };
}

class WeightPattern {
  constructor(program, index) {
    const pattern = program.patterns[index];
    this.lanes = program.hardware.lanes;
    this.layer = program.layers[index];
    this.slots = pattern.slots && decodeBase64(pattern.slots);
    let firstBlock = 0;
    this.sources = pattern.sources.map((source) => {
      const [outputs, inputs, rows, columns] = source.shape;
      const groups = Math.ceil((inputs * source.groups) / this.lanes);
      const described = {
        ...source,
        outputs,
        inputs,
        rows,
        columns,
        firstBlock,
        channelGroups: groups,
        bits: source.bits && decodeBase64(source.bits),
        densities: source.densities && decodeBase64(source.densities),
      };
      firstBlock += rows * columns * groups;
      return described;
    });
    this.blocks = firstBlock;
  }

  pictures(width) {
    return this.sources.map((source) => {
      const { tensor, groups, stride } = source;
      const grouped = groups > 1 ? `, ${groups} groups` : "";
      const strided = stride > 1 ? `, stride ${stride}` : "";
      const kernel = `${source.rows} × ${source.columns}`;
      return element(
        "figure",
        {},
        element(
          "figcaption",
          {},
          `${tensor}: ${source.inputs * groups} → ${source.outputs}, ${kernel}${strided}${grouped}`,
        ),
        this.draw(source, width),
      );
    });
  }

  /** Size of a panel in weights, or in blocks where there are only densities. */
  panelSize(source) {
    if (source.densities) {
      return [Math.ceil(source.outputs / this.lanes), Math.ceil(source.inputs / this.lanes)];
    }
    // Where every output has one input, words of output channels make better panels than a column.
    if (source.inputs === 1) return [Math.ceil(source.outputs / this.lanes), this.lanes];
    return [source.outputs, source.inputs];
  }

  draw(source, available) {
    const [high, wide] = this.panelSize(source);
    const gap = source.rows * source.columns > 1 ? 6 : 0;
    const room = Math.min((available - gap * (source.columns - 1)) / (wide * source.columns), 10);
    const tall = (PICTURE_HEIGHT - gap * (source.rows - 1)) / (high * source.rows);
    const exact = Math.min(room, tall);
    const scale = exact >= 1 ? Math.floor(exact) : exact;
    const [panelWidth, panelHeight] = [wide * scale, high * scale];
    const width = Math.ceil(source.columns * (panelWidth + gap) - gap);
    const height = Math.ceil(source.rows * (panelHeight + gap) - gap);
    const canvas = element("canvas", {
      role: "img",
      "aria-label": `Zero pattern of ${this.layer.name} over ${source.tensor}`,
      "data-testid": "weights-picture",
    });
    const context = prepareCanvas(canvas, width, height);
    context.imageSmoothingEnabled = scale < 1;
    for (let row = 0; row < source.rows; row += 1) {
      for (let column = 0; column < source.columns; column += 1) {
        const [left, top] = [column * (panelWidth + gap), row * (panelHeight + gap)];
        context.drawImage(this.panel(source, row, column), left, top, panelWidth, panelHeight);
        if (!source.densities && scale >= 2)
          this.drawLines(context, left, top, wide, high, scale, source);
      }
    }
    canvas.addEventListener("pointerleave", () => tooltip.hide());
    canvas.addEventListener("pointermove", (event) => {
      const column = Math.floor(event.offsetX / (panelWidth + gap));
      const row = Math.floor(event.offsetY / (panelHeight + gap));
      const x = Math.floor((event.offsetX - column * (panelWidth + gap)) / scale);
      const y = Math.floor((event.offsetY - row * (panelHeight + gap)) / scale);
      const inside =
        x >= 0 && y >= 0 && x < wide && y < high && row < source.rows && column < source.columns;
      if (inside)
        tooltip.show(event.clientX, event.clientY, this.describe(source, { row, column, x, y }));
      else tooltip.hide();
    });
    return canvas;
  }

  /** One tap of a source, a pixel for each weight. */
  panel(source, row, column) {
    const [high, wide] = this.panelSize(source);
    const canvas = element("canvas", { width: wide, height: high });
    const context = canvas.getContext("2d");
    const image = context.createImageData(wide, high);
    const [zero, nonzero] = [parseColour("no-weight"), parseColour("weight")];
    for (let y = 0; y < high; y += 1) {
      for (let x = 0; x < wide; x += 1) {
        const share = this.shareAt(source, row, column, x, y);
        const at = 4 * (y * wide + x);
        for (let part = 0; part < 3; part += 1) {
          image.data[at + part] = zero[part] + share * (nonzero[part] - zero[part]);
        }
        image.data[at + 3] = share === null ? 0 : 255;
      }
    }
    context.putImageData(image, 0, 0);
    return canvas;
  }

  /** Output and input channel at a place of a panel; null where there is none. */
  channelsAt(source, x, y) {
    if (source.inputs > 1) return { output: y, input: x };
    const output = y * this.lanes + x;
    return output < source.outputs ? { output, input: 0 } : null;
  }

  /** 1 where the weight is not zero, 0 where it is; the part of those that are not, of a block. */
  shareAt(source, row, column, x, y) {
    const { inputs, rows, columns } = source;
    if (source.densities) {
      const wide = Math.ceil(inputs / this.lanes);
      return source.densities[((y * wide + x) * rows + row) * columns + column] / 255;
    }
    const channels = this.channelsAt(source, x, y);
    return channels && Number(this.isNonzero(source, channels.output, channels.input, row, column));
  }

  isNonzero(source, output, input, row, column) {
    const at = ((output * source.inputs + input) * source.rows + row) * source.columns + column;
    return (source.bits[at >> 3] >> (7 - (at & 7))) & 1;
  }

  drawLines(context, left, top, wide, high, scale, source) {
    context.fillStyle = colour("block-line");
    const stepY = source.inputs > 1 ? this.lanes : 1;
    for (let x = this.lanes; x < wide; x += this.lanes)
      context.fillRect(left + x * scale - 0.5, top, 1, high * scale);
    for (let y = stepY; y < high; y += stepY)
      context.fillRect(left, top + y * scale - 0.5, wide * scale, 1);
  }

  describe(source, { row, column, x, y }) {
    const { lanes } = this;
    const outputGroup = (channel) => Math.floor(channel / lanes);
    let tile, input;
    if (source.densities) {
      [tile, input] = [y, x * lanes];
    } else {
      const channels = this.channelsAt(source, x, y);
      if (!channels) return { title: "no output channel" };
      const perGroup = source.outputs / source.groups;
      tile = outputGroup(channels.output);
      input = channels.input + Math.floor(channels.output / perGroup) * source.inputs;
    }
    const group = Math.floor(input / lanes);
    const range = (index, end) => `${index * lanes} to ${Math.min((index + 1) * lanes, end) - 1}`;
    const rows = [
      ["tap", `${row}, ${column}`],
      ["outputs", range(tile, source.outputs)],
      ["inputs", range(group, source.inputs * source.groups)],
    ];
    const title = source.densities
      ? `${formatPercent(this.shareAt(source, row, column, x, y))} not zero`
      : this.weightTitle(source, row, column, x, y);
    if (this.slots) {
      const block =
        source.firstBlock + (row * source.columns + column) * source.channelGroups + group;
      rows.push(["the block takes", slotText(this.slots[tile * this.blocks + block])]);
    }
    return { title, rows };
  }

  weightTitle(source, row, column, x, y) {
    const { output, input } = this.channelsAt(source, x, y);
    const verdict = this.isNonzero(source, output, input, row, column) ? "not zero" : "zero";
    return `output ${output}, input ${input}: ${verdict}`;
  }

  facts() {
    const weights = sum(this.sources, (source) =>
      source.shape.reduce((product, size) => product * size, 1),
    );
    const nonzero = sum(this.sources, (source) => source.nonzero);
    const rows = [
      ["layer", `${this.layer.name} (${this.layer.op})`],
      ["output", formatShape(this.layer.output)],
      ["weights", formatCount(weights)],
      ["not zero", `${formatCount(nonzero)} (${formatPercent(nonzero / weights)})`],
    ];
    if (this.slots) {
      const counts = [...this.slots].filter(Boolean).map((slots) => slots & ~DIAGONAL);
      const total = sum(counts);
      rows.push(["blocks in the stream", formatCount(counts.length)]);
      rows.push(["slots of all channel tiles", formatCount(total)]);
      rows.push(["weights per slot", `${(nonzero / total).toFixed(1)} of ${this.lanes}`]);
    }
    if (this.sources.some((source) => source.densities)) {
      rows.push(["picture", "a pixel is a block: the network is large"]);
    }
    return element(
      "dl",
      { "data-testid": "weights-facts" },
      ...rows.flatMap(([term, value]) => [element("dt", {}, term), element("dd", {}, value)]),
    );
  }

  /** How many blocks take 1, 2, ... slots: N of an N:M pattern stands out. */
  histogram() {
    if (!this.slots) return [];
    const counts = new Array(this.lanes + 1).fill(0);
    let longer = 0,
      diagonal = 0,
      omitted = 0;
    for (const slots of this.slots) {
      if (slots & DIAGONAL) diagonal += 1;
      else if (slots > this.lanes) longer += 1;
      else if (slots) counts[slots] += 1;
      else omitted += 1;
    }
    // Blocks beside the diagonal of a grouped convolution are no choice of the pruning.
    const grouped = this.sources.some((source) => source.groups > 1 || source.selects);
    const bars = counts.slice(1).map((count, slots) => [String(slots + 1), count, "slots"]);
    if (!grouped) bars.unshift(["0", omitted, "instructions"]);
    if (longer) bars.push([`${this.lanes + 1}+`, longer, "slots"]);
    if (diagonal) bars.push(["diag", diagonal, "pixels"]);
    const width = 300,
      height = 130,
      bottom = 18,
      top = 14;
    const step = width / bars.length;
    const most = Math.max(...bars.map(([, count]) => count), 1);
    const parts = bars.flatMap(([label, count, colourName], index) => {
      const tall = (count / most) * (height - bottom - top);
      const middle = index * step + step / 2;
      const shown =
        count === 0
          ? []
          : [
              shape("rect", {
                x: index * step + 1.5,
                y: height - bottom - Math.max(tall, 1),
                width: step - 3,
                height: Math.max(tall, 1),
                rx: 1,
                fill: `var(--${colourName})`,
              }),
              shape(
                "text",
                {
                  x: middle,
                  y: height - bottom - tall - 4,
                  "text-anchor": "middle",
                  style: "font-size:9px",
                },
                formatShort(count),
              ),
            ];
      return [
        ...shown,
        shape(
          "text",
          { x: middle, y: height - 5, "text-anchor": "middle", style: "font-size:10px" },
          label,
        ),
      ];
    });
    parts.push(
      shape("line", {
        x1: 0,
        x2: width,
        y1: height - bottom,
        y2: height - bottom,
        stroke: "var(--line)",
      }),
    );
    return [
      element(
        "figure",
        {},
        element("figcaption", {}, "blocks by the slots they take"),
        shape(
          "svg",
          {
            viewBox: `0 0 ${width} ${height}`,
            width: "100%",
            role: "img",
            "aria-label": "Histogram of slots per block",
            "data-testid": "slot-histogram",
          },
          ...parts,
        ),
      ),
    ];
  }
}

function slotText(slots) {
  if (!slots) return "no slot: it is not in the stream";
  const count = slots & ~DIAGONAL;
  return `${count} ${slots & DIAGONAL ? "diagonal " : ""}slot${count === 1 ? "" : "s"}`;
}

/** A colour of the style sheet, which is written as #rrggbb, as numbers. */
function parseColour(name) {
  const number = parseInt(colour(name).slice(1), 16);
  return [number >> 16, (number >> 8) & 0xff, number & 0xff];
}
