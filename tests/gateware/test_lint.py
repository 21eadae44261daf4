"""The Verilog passes Verilator's lint, but for the habits of generated code."""

import os
import subprocess

import pytest

from coprune_hw.gateware.accelerator import TOP_NAME
from coprune_sim.cosim.runner import accelerator_verilog
from coprune_sim.cosim.toolchain import find_toolchain

from ..end_to_end.configurations import SMALL, WIDE_BUS

GENERATED = (
    "CASEINCOMPLETE",  # A default is assigned before the case.
    "CMPCONST",  # A size that no value of the bits exceeds is checked all the same.
    "DECLFILENAME",  # All modules are in one file.
    "PROCASSINIT",  # Registers have initial values.
    "SYMRSVDWORD",  # The pin `interrupt`.
    "UNUSEDSIGNAL",  # Bits of wider sums; parts of records.
    "VARHIDDEN",  # Instances and signals have names of their own in each module.
    "WIDTHEXPAND",  # Operands are extended as Verilog does,
    "WIDTHTRUNC",  # and sums are cut off.
)


def lint(verilog, folder):
    path = folder / "accelerator.v"
    path.write_text(verilog)
    toolchain = find_toolchain()
    return subprocess.run(
        [
            *(toolchain.executable, "--lint-only", "-Wall", "--top-module", TOP_NAME),
            *(f"-Wno-{name}" for name in GENERATED),
            path,
        ],
        env={**os.environ, **toolchain.environment()},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("config", [SMALL, WIDE_BUS], ids=["small", "wide_bus"])
def test_verilog_is_clean(tmp_path, config):
    linted = lint(accelerator_verilog(config), tmp_path)
    assert linted.returncode == 0, linted.stderr[:2000]


def test_a_wire_that_nothing_drives_is_noticed(tmp_path):
    verilog = accelerator_verilog(SMALL)
    end = verilog.rindex("endmodule", 0, verilog.index("endmodule") + 9)
    linted = lint(f"{verilog[:end]}wire undriven, read = undriven;\n{verilog[end:]}", tmp_path)
    assert linted.returncode != 0
    assert "UNDRIVEN" in linted.stderr
