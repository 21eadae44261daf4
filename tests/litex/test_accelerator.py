"""The accelerator in a LiteX SoC, in Verilator, with the driver as its host."""

import re
from dataclasses import replace

import numpy as np
import pytest

from coprune.program import compile_graph
from coprune_hw.gateware.accelerator import TOP_NAME, list_ports
from coprune_sim.cosim.toolchain import build_model

from ..end_to_end.configurations import SMALL
from ..graphs import GRAPHS

pytest.importorskip("litex", reason="needs LiteX: pip install 'coprune[litex]'")
from .soc import TOP, write_soc

PUBLIC = f"""`verilator_config
public_flat_rw -module "{TOP}" -var "sys_*"
public_flat_rw -module "{TOP}" -var "host_*"
"""


def test_a_soc_connects_every_pin_but_those_for_verification(tmp_path):
    top, core = write_soc(SMALL, folder=tmp_path, bus_standard="wishbone")
    (instance,) = re.findall(rf"^{TOP_NAME} {TOP_NAME}\((.*?)^\);", top.read_text(), re.M | re.S)
    connected = set(re.findall(r"\.(\w+) *\(\w", instance))
    assert connected == {
        port["name"] for port in list_ports(SMALL) if not port["name"].startswith("observe_")
    }
    assert f"module {TOP_NAME}(" in core.read_text()


@pytest.mark.slow
@pytest.mark.parametrize(("bus_standard", "bus_bits"), [("wishbone", 32), ("wishbone", 64)])
def test_a_soc_computes_what_the_program_does(tmp_path, bus_standard, bus_bits):
    config = replace(SMALL, bus_bits=bus_bits)
    program = compile_graph(GRAPHS["odd"](), config, network="odd")
    rng = np.random.default_rng(0)
    tensor = program.graph.input
    images = rng.uniform(-128, 127, (2, *tensor.shape)).astype(np.float32) * tensor.scale
    np.save(tmp_path / "images.npy", images)
    program.save(tmp_path / "program.coprune")
    public = tmp_path / "soc.vlt"
    public.write_text(PUBLIC)
    sources = write_soc(config, folder=tmp_path, bus_standard=bus_standard)
    model = build_model([public, *sources], top=TOP, folder=tmp_path / "build")
    model.run_cocotb("tests.litex.bench", folder=tmp_path, timeout_seconds=600)
    expected = program.simulate(images, integer=True)
    assert np.array_equal(np.load(tmp_path / "outputs.npy"), expected)
