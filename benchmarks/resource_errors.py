"""Hold the resource model against the recorded synthesis runs: the tables of docs/exploration.md.

For every run the model is fitted to all the others (leave one out), so no prediction knows what it
is compared with.
"""

from __future__ import annotations

from coprune_hw.contract import AcceleratorConfig
from coprune_sim.resources import (
    LogicModel,
    SynthesisRun,
    estimate_resources,
    leave_one_out,
    read_runs,
)
from coprune_sim.resources.logic import FEATURES

COUNTED = {"MULT18X18D": "multipliers", "DP16KD": "block_rams", "TRELLIS_DPR16X4": "lut_rams"}


def main() -> None:
    runs = read_runs()
    print_errors(runs)
    print()
    print_coefficients(LogicModel.fit(runs))


def print_errors(runs: tuple[SynthesisRun, ...]) -> None:
    """A row for every run; a last one with the mean and the largest error."""
    print(f"| configuration | {' | '.join([*COUNTED, *FEATURES])} |")
    print("| --- |" + " --- |" * (len(COUNTED) + len(FEATURES)))
    errors = {cell: [] for cell in FEATURES}
    for run, predicted in zip(runs, leave_one_out(runs), strict=True):
        counted = estimate_resources(run.config)
        row = [describe(run.config)]
        for cell, name in COUNTED.items():
            measured, count = run.cells[cell], getattr(counted, name)
            row.append(f"{measured}" if measured == count else f"{measured}, counted {count}")
        for cell in FEATURES:
            error = predicted[cell] / run.cells[cell] - 1
            errors[cell].append(abs(error))
            row.append(f"{run.cells[cell]:,}, {predicted[cell]:,} ({error:+.1%})")
        print(f"| {' | '.join(row)} |")
    means = [f"mean {sum(each) / len(each):.1%}, most {max(each):.1%}" for each in errors.values()]
    print(f"| errors | {' | '.join(['none'] * len(COUNTED) + means)} |")


def print_coefficients(model: LogicModel) -> None:
    """What each feature costs."""
    for cell, features in FEATURES.items():
        terms = [
            f"{value:.4g} x {feature}"
            for feature, value in zip(features, model.coefficients[cell], strict=True)
        ]
        print(f"{cell} = {' + '.join(terms)}")


def describe(config: AcceleratorConfig) -> str:
    """Lanes x columns, and the fields that are not as they are by default."""
    usual = AcceleratorConfig().to_dict()
    fields = {
        name: value
        for name, value in config.to_dict().items()
        if value != usual[name] and name not in ("lanes", "columns")
    }
    return ", ".join([config.name, *(f"{name} {value}" for name, value in fields.items())])


if __name__ == "__main__":
    main()
