"""The SDRAM model finds every rule that is broken, and none that is kept."""

import json
import re
from functools import cache
from pathlib import Path

import pytest

from coprune_sim.cosim.sdram import SDRAM_MODEL
from coprune_sim.cosim.toolchain import Model, build_model

from .sdram_rules import broken_rules

# In cycles of 10 ns, every time one that the others do not hide.
TIMES = {"RCD": 3, "RP": 4, "RAS": 8, "RC": 14, "RRD": 2, "RFC": 9, "WR": 3, "POWER_UP": 20}
REFRESH_CYCLES = 200
BURST = 4
ROOT = Path(__file__).parents[2]
CAS_LATENCY = 2
PRECHARGE_ALL = 1 << 10
MODE = 2 | CAS_LATENCY << 4


@cache
def build() -> Model:
    ports = re.findall(r"(\w+)[,\n]", SDRAM_MODEL.read_text().partition(");\n")[0])
    public = "".join(f'public_flat_rw -module "sdram_model" -var "{port}"\n' for port in ports)
    times = {f"{name}_PS": 10_000 * cycles for name, cycles in TIMES.items()}
    return build_model(
        [],
        top="sdram_model",
        verilog=f"`verilator_config\n{public}`verilog\n{SDRAM_MODEL.read_text()}",
        parameters={**times, "REFRESH_PS": 10_000 * REFRESH_CYCLES, "ROW_BITS": 4},
    )


def step(command: str, **pins) -> dict:
    return {"command": command, **pins}


def wait(cycles: int) -> list[dict]:
    """Cycles without a command, `cycles` less one: what follows comes `cycles` after what was."""
    return [step("nop")] * (cycles - 1)


def initialization(*, power_up=25, refreshes=8, refresh=9, precharge=4, mode=2) -> list[dict]:
    steps = [*wait(power_up), step("precharge", address=PRECHARGE_ALL), *wait(precharge)]
    for _ in range(refreshes):
        steps += [step("refresh"), *wait(refresh)]
    return [*steps, step("mode", address=MODE), *wait(mode)]


def written(word: int, *, masks=0) -> dict:
    return step("nop", data=word, masks=masks)


ACTIVATE, READ, WRITE = step("activate", address=5), step("read"), step("write", data=1)
CLOSE, OTHER = step("precharge"), step("activate", bank=1)
WRITES = [WRITE, *[written(word) for word in (2, 3, 4)]]
REFRESH = step("refresh")

KEPT = {
    "a read": [ACTIVATE, *wait(3), READ, *wait(5), CLOSE, *wait(8), ACTIVATE],
    "a write": [ACTIVATE, *wait(5), *WRITES, *wait(3), CLOSE, *wait(4), ACTIVATE],
    "reads back to back": [ACTIVATE, *wait(3), READ, *wait(4), READ, *wait(4), READ],
    "a read after a write": [ACTIVATE, *wait(3), *WRITES, READ, *wait(4), READ],
    "a write after a read": [ACTIVATE, *wait(3), READ, *wait(7), *WRITES],
    "two banks": [ACTIVATE, *wait(2), OTHER, *wait(3), READ, *wait(4), step("read", bank=1)],
    "a refresh": [REFRESH, *wait(9), ACTIVATE, *wait(14), CLOSE, *wait(4), REFRESH],
    "a mask for a word that is not driven": [
        *(ACTIVATE, *wait(3), step("write", data=1), written(2), written(3)),
        step("nop", masks=3),
    ],
}
BROKEN = {
    "RCD": [ACTIVATE, *wait(2), READ],
    "RP": [ACTIVATE, *wait(11), CLOSE, *wait(3), ACTIVATE],
    "RAS": [ACTIVATE, *wait(7), CLOSE],
    "RC": [ACTIVATE, *wait(8), CLOSE, *wait(5), ACTIVATE],
    "RRD": [ACTIVATE, OTHER],
    "RFC": [REFRESH, *wait(8), ACTIVATE],
    "WR": [ACTIVATE, *wait(5), *WRITES, *wait(2), CLOSE],
    "ROW_OPEN": [ACTIVATE, *wait(20), ACTIVATE],
    "ROW_CLOSED": [READ],
    "BURST": [ACTIVATE, *wait(3), READ, *wait(3), READ],
    "CONTENTION": [ACTIVATE, *wait(3), READ, *wait(6), *WRITES],
    "UNDRIVEN": [ACTIVATE, *wait(3), WRITE, *wait(5)],
    "MODE": [ACTIVATE, *wait(3), step("read", address=PRECHARGE_ALL)],
    "CLOCK_ENABLE": [step("nop", clock_enable=0)],
}
READS = {"masked bytes": step("read", address=2), "masked words": READ}
READ_BACK = {
    "masked bytes": [
        *(ACTIVATE, *wait(3), *WRITES),
        *(WRITE, written(0x0302, masks=2), written(3), written(4)),
        READS["masked bytes"],
    ],
    "masked words": [
        *(ACTIVATE, *wait(3), *WRITES),
        *(READS["masked words"], step("nop", masks=3)),
    ],
}
BEGUN = {
    "POWER_UP": initialization(power_up=15),
    "INITIALIZATION": [*initialization(refreshes=7), ACTIVATE],
    "RFC": initialization(refresh=8),
    "RP": initialization(precharge=3),
    "MRD": [*initialization(mode=1), ACTIVATE],
    "REFRESH": [*initialization(), *wait(2 * REFRESH_CYCLES + 1)],
}


def simulate(uses: dict[str, list[dict]], *, folder: Path) -> dict[str, tuple[set, list]]:
    """Play the steps of each use; the rules that it broke, and the words at the pins."""
    (folder / "uses.json").write_text(json.dumps(uses))
    build().run_cocotb(
        "tests.system.chip_bench",
        folder=folder,
        timeout_seconds=100,
        plusargs=["+sdram_tolerant"],
    )
    return {
        name: (broken_rules(broken), words)
        for name, (broken, words) in json.loads((folder / "figures.json").read_text()).items()
    }


@pytest.fixture(scope="module")
def played(tmp_path_factory) -> dict[str, tuple[set, list]]:
    """Every use of an initialized chip, one after the other, each of a chip that is idle."""
    idle = [*wait(20), step("precharge", address=PRECHARGE_ALL), *wait(4)]
    for _ in range(4):
        idle += [REFRESH, *wait(14)]
    uses = {"initialization": initialization()}
    for name, steps in {**KEPT, **BROKEN, **READ_BACK}.items():
        uses[f"before {name}"] = idle
        uses[name] = [*steps, *wait(12)]
    folder = tmp_path_factory.mktemp("sdram_model")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT)
        return simulate(uses, folder=folder)


@pytest.mark.parametrize("use", ["initialization", *KEPT])
def test_finds_no_rule_broken(played, use):
    assert played[use][0] == set()


@pytest.mark.parametrize("rule", BROKEN)
def test_finds_a_rule_broken(played, rule):
    assert played[rule][0] == {rule}


@pytest.mark.parametrize("rule", BEGUN)
def test_finds_a_rule_of_the_beginning_broken(tmp_path, monkeypatch, rule):
    monkeypatch.syspath_prepend(ROOT)
    assert simulate({rule: BEGUN[rule]}, folder=tmp_path)[rule][0] == {rule}


def test_reads_what_was_written_but_for_masked_bytes(played):
    # From the column that was asked for on, around the burst.
    assert words_read(played, "masked bytes") == [3, 4, 1, 0x0002]


def test_masks_what_is_read_two_cycles_later(played):
    first, masked, third, fourth = words_read(played, "masked words")
    assert [first, third, fourth] == [1, 3, 4]
    assert masked != 2


def words_read(played, use: str) -> list[int]:
    """The words of the only read of a use."""
    begin = READ_BACK[use].index(READS[use]) + CAS_LATENCY
    return played[use][1][begin : begin + BURST]


def test_a_violation_ends_the_simulation(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    (tmp_path / "uses.json").write_text(json.dumps({"": [*initialization(), READ, *wait(5)]}))
    with pytest.raises(RuntimeError, match="column of a closed row"):
        build().run_cocotb("tests.system.chip_bench", folder=tmp_path, timeout_seconds=100)
