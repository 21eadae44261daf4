const tooltip = {
  node: document.getElementById("tooltip"),

  /**
   * Show a title, lines of text, and rows of label, value and perhaps a swatch's colour.
   * (x, y) is in the window's coordinates.
   */
  show(x, y, { title, lines = [], rows = [] }) {
    const parts = [element("strong", {}, title), ...lines.map((line) => element("p", {}, line))];
    if (rows.length) {
      const cells = rows.flatMap(([label, value, colour]) => [
        element("span", {}, ...(colour ? [swatch(colour)] : []), label),
        element("span", {}, value),
      ]);
      parts.push(element("div", { class: "rows" }, ...cells));
    }
    this.node.replaceChildren(...parts);
    this.node.hidden = false;
    const { width, height } = this.node.getBoundingClientRect();
    const right = x + 14 + width > window.innerWidth - 8;
    const below = y + 16 + height > window.innerHeight - 8;
    const left = clamp(
      right ? x - width - 10 : x + 14,
      8,
      Math.max(window.innerWidth - width - 8, 8),
    );
    const top = Math.max(below ? y - height - 12 : y + 16, 8);
    this.node.style.transform = `translate(${Math.round(left)}px, ${Math.round(top)}px)`;
  },

  hide() {
    this.node.hidden = true;
  },

  /** Show what `content` returns while the pointer is over `node`. */
  attach(node, content) {
    node.addEventListener("pointermove", (event) => {
      this.show(event.clientX, event.clientY, content());
    });
    node.addEventListener("pointerleave", () => this.hide());
    return node;
  },
};

function swatch(colour) {
  return element("i", { class: "swatch", style: `background:${colour}` });
}

/** Swatches with labels; a third item is the tooltip's text. */
function legend(items) {
  return element(
    "div",
    { class: "legend" },
    ...items.map(([label, colour, meaning]) => {
      const entry = element("span", {}, swatch(colour), label);
      return meaning ? tooltip.attach(entry, () => ({ title: label, lines: [meaning] })) : entry;
    }),
  );
}

window.addEventListener("scroll", () => tooltip.hide(), { passive: true });
