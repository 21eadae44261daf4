const report = JSON.parse(document.getElementById("report-data").textContent);
const SVG_NAMESPACE = "http://www.w3.org/2000/svg";
// Between a number and its unit, where no line may end.
const SPACE = "\u00a0";

/** A number in full, with commas between thousands. */
function formatCount(number) {
  return number.toLocaleString("en-US", { maximumFractionDigits: 0 });
}

/** A number with three significant digits and the prefix of a power of 1000. */
function formatShort(number, unit = "") {
  const prefixes = ["", "k", "M", "G", "T"];
  let step = 0;
  while (Math.abs(number) >= 999.5 && step < prefixes.length - 1) {
    number /= 1000;
    step += 1;
  }
  const whole = step === 0 && Number.isInteger(number);
  const digits = whole ? 0 : Math.max(0, 2 - Math.floor(Math.log10(Math.max(Math.abs(number), 1))));
  return `${number.toFixed(digits)}${SPACE}${prefixes[step]}${unit}`.trim();
}

function formatBytes(bytes) {
  return formatShort(bytes, "B");
}

/** An energy given in picojoules. */
function formatEnergy(picojoules) {
  const units = ["pJ", "nJ", "µJ", "mJ", "J"];
  let step = 0;
  while (picojoules >= 999.5 && step < units.length - 1) {
    picojoules /= 1000;
    step += 1;
  }
  const digits = Math.max(0, 2 - Math.floor(Math.log10(Math.max(picojoules, 1))));
  return `${picojoules.toFixed(digits)}${SPACE}${units[step]}`;
}

function formatPercent(fraction) {
  return `${(100 * fraction).toFixed(fraction > 0 && fraction < 0.0995 ? 1 : 0)}%`;
}

/** A rate: in full, but for three digits at least. */
function formatRate(number) {
  return number >= 99.95 ? formatCount(number) : formatShort(number);
}

/** The number beside a tick of an axis. */
function formatTick(number) {
  return number < 1 ? String(Number(number.toPrecision(2))) : formatCount(number);
}

/** How many times `before` is as large as `after`. */
function formatRatio(before, after) {
  if (after === 0) return before === 0 ? `1.00${SPACE}×` : "∞";
  const ratio = before / after;
  return `${ratio.toFixed(ratio < 99.95 ? 2 : 0)}${SPACE}×`;
}

function formatShape(shape) {
  return shape.join(" × ");
}

/** A text with multiplication signs between its numbers. */
function typeset(text) {
  return text.replace(/(\d) x (?=\d)/g, `$1${SPACE}×${SPACE}`);
}

function formatAddress(bytes) {
  return `0x${bytes.toString(16)}`;
}

/** Make an HTML element. Text goes in as text nodes only, so names cannot become markup. */
function element(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** Make an SVG element. */
function shape(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG_NAMESPACE, tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

/** Total of `value` over `items`. */
function sum(items, value = (item) => item) {
  return items.reduce((total, item) => total + value(item), 0);
}

function clamp(value, low, high) {
  return Math.min(Math.max(value, low), high);
}

/** Round steps of about `count` to an axis from 0 to `span`. */
function niceStep(span, count) {
  const rough = Math.max(span / count, 1e-12);
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= rough * 0.999);
}

function decodeBase64(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}
