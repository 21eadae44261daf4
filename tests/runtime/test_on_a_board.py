"""The driver needs NumPy and Amaranth alone, and nothing of Python that is newer than 3.10."""

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np

from .programs import draw_images, small_program

NEWER = {"LiteralString", "Never", "NotRequired", "Required", "Self", "TypeVarTuple", "Unpack"}
"""What Python 3.11 brought to `typing`."""

SCRIPT = """
import sys

ABSENT = {"cocotb", "cocotb_tools", "matplotlib", "onnx", "rich", "tomllib", "torch", "typer"}

class Absent:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in ABSENT:
            raise ImportError(f"a board has no {name}")

sys.meta_path.insert(0, Absent())
import numpy as np
import coprune
from coprune.runtime import Device, PynqBus

program = coprune.load("program.coprune")
pixels = program.quantize_input(np.load("images.npy"))
np.save("pixels.npy", pixels)
np.save("outputs.npy", program.finish_output(np.load("integers.npy"), integer=False))
for module in list(sys.modules.values()):
    if module.__name__.startswith("coprune"):
        print(module.__file__)
"""


def test_the_driver_needs_little(tmp_path):
    program = small_program()
    images = draw_images(program).numpy()
    program.save(tmp_path / "program.coprune")
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "integers.npy", program.simulate(images, integer=True))
    finished = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert np.array_equal(np.load(tmp_path / "pixels.npy"), program.quantize_input(images))
    assert np.array_equal(np.load(tmp_path / "outputs.npy"), program.simulate(images))
    sources = finished.stdout.split("\n")[:-1]
    assert any(path.endswith("pynq_bus.py") for path in sources)
    for path in sources:
        source = Path(path).read_text(encoding="utf-8")
        for node in ast.parse(source, path, feature_version=(3, 10)).body:
            if isinstance(node, ast.ImportFrom) and node.module == "typing":
                assert NEWER.isdisjoint(alias.name for alias in node.names), path
