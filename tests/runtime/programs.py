"""Small programs, and images for them."""

import numpy as np
import torch

from coprune.program import compile_graph

from ..end_to_end.configurations import SMALL
from ..graphs import GRAPHS


def small_program(name="odd", config=SMALL):
    return compile_graph(GRAPHS[name](), config, network=name)


def draw_images(program, *, count=3):
    rng = np.random.default_rng(0)
    tensor = program.graph.input
    return torch.from_numpy(
        rng.uniform(-128, 127, (count, *tensor.shape)).astype(np.float32) * tensor.scale
    )
