const palette = new Map();

/** The value of a custom property of the style sheet, which differs between light and dark. */
function colour(name) {
  if (!palette.has(name)) {
    palette.set(
      name,
      getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim(),
    );
  }
  return palette.get(name);
}

/** Hues run through the network; neighbours differ in lightness, too. */
function layerColour(index, layers) {
  const hue = 205 + (150 * index) / Math.max(layers - 1, 1);
  const lightness = parseFloat(colour("layer-lightness")) + (index % 2 ? 9 : 0);
  return `hsl(${hue.toFixed(0)} 48% ${lightness}%)`;
}

/** Colours of the parts of a layer's cycles: slots, then every cause of a wait. */
function cyclePart(name) {
  return name === "slots" ? "var(--slots)" : `var(--wait-${name})`;
}

const PART_COLOURS = ["slots", "parameters", "execute", "wait-input", "pixels", "store"];

/** The colour of the n-th part of something that is divided. */
function partColour(index) {
  return `var(--${PART_COLOURS[index % PART_COLOURS.length]})`;
}

/** A canvas as large as its box in the display's own pixels; returns its context. */
function prepareCanvas(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}

const hatchings = new Map();

/** A canvas pattern of slanted lines. */
function hatching(context, tint) {
  if (!hatchings.has(tint)) hatchings.set(tint, drawHatching(tint));
  return context.createPattern(hatchings.get(tint), "repeat");
}

function drawHatching(tint) {
  const size = 6;
  const tile = element("canvas", { width: size, height: size });
  const pen = tile.getContext("2d");
  pen.strokeStyle = tint;
  pen.globalAlpha = 0.6;
  pen.lineWidth = 1.2;
  pen.beginPath();
  for (const shift of [-size, 0, size]) {
    pen.moveTo(shift, size);
    pen.lineTo(shift + size, 0);
  }
  pen.stroke();
  return tile;
}
