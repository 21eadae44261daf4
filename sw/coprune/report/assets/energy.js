/** An estimate of the energy of every layer, divided by what takes it. */
function energySection(program) {
  const names = Object.keys(program.energy[0].picojoules);
  const totals = program.layers.map((_, index) => layerEnergy(program, index));
  const largest = Math.max(...totals, 1e-9);
  const all = sum(totals);
  const share = (picojoules, whole) => {
    return `${formatEnergy(picojoules)} (${formatPercent(whole ? picojoules / whole : 0)})`;
  };
  const labels = [];
  const cells = program.layers.flatMap((layer, index) => {
    const parts = program.energy[index].picojoules;
    const label = element(
      "span",
      { class: "name", title: layer.name, onclick: () => page.select(layer.name) },
      layer.name,
    );
    labels.push(label);
    const bar = element(
      "div",
      { class: "bar", style: `width:${(100 * totals[index]) / largest}%` },
      ...names.map((name, part) =>
        element("i", { style: `flex:${parts[name]} 0 0;background:${partColour(part)}` }),
      ),
    );
    const track = tooltip.attach(element("div", {}, bar), () => ({
      title: `${layer.name}: ${formatEnergy(totals[index])}`,
      rows: names.map((name, part) => [name, share(parts[name], totals[index]), partColour(part)]),
    }));
    return [label, track, element("span", { class: "value" }, formatEnergy(totals[index]))];
  });
  const shares = names.map((name, part) => {
    const picojoules = sum(program.energy, (layer) => layer.picojoules[name]);
    return [`${name} ${share(picojoules, all)}`, partColour(part)];
  });
  return {
    id: "energy",
    title: "Energy",
    body: [
      element(
        "p",
        { class: "note" },
        `An estimate, not a measurement: ${formatEnergy(all)} per image. The operations and ` +
          "memory accesses of the program are counted exactly; what each takes are figures of a " +
          `45 nm chip (${report.energy_source}). Clocks, wires, registers, control and leakage ` +
          "are not counted, so compare programs by it.",
      ),
      legend(shares),
      element("div", { class: "energy-rows", "data-testid": "energy" }, ...cells),
    ],
    select(name) {
      labels.forEach((label) =>
        label.setAttribute("aria-current", String(label.textContent === name)),
      );
    },
  };
}
