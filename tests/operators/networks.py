"""Small random networks around an operator."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from hypothesis import strategies as st
from torch import nn

SIZES = st.integers(1, 9)
CHANNELS = st.integers(1, 10)


class Network(nn.Module):
    """A function of the network and its input, with modules and parameters that it uses."""

    def __init__(self, function: Callable, members: dict[str, nn.Module | torch.Tensor]) -> None:
        super().__init__()
        self.function = function
        for name, member in members.items():
            if isinstance(member, torch.Tensor):
                self.register_buffer(name, member)
            else:
                self.add_module(name, member)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self, x)


@dataclass
class Image:
    """The input of an operator under test, and what computes it.

    Parameters
    ----------
    shape : tuple of int
        Of the network's input, without the batch.
    seed : int
        Of all weights.
    before, after : str
        What comes before the operator, ``""``, ``"sum"`` or ``"stored"``, and whether a layer
        comes after it, ``"layer"``.
    """

    shape: tuple[int, ...]
    seed: int
    before: str
    after: str
    generator: torch.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.generator = torch.Generator().manual_seed(self.seed)

    def random(self, *shape: int) -> torch.Tensor:
        """Normally distributed numbers."""
        return torch.randn(shape, generator=self.generator)

    def seeded(self, module: nn.Module) -> nn.Module:
        """The module with random parameters and buffers."""
        for value in [*module.parameters(), *module.buffers()]:
            if value.is_floating_point():
                value.data = self.random(*value.shape).abs() + 0.1
                value.data *= torch.sign(self.random(*value.shape)) if value.dim() > 1 else 1
        return module

    def network(self, function: Callable, **members: nn.Module | torch.Tensor) -> nn.Module:
        """The operator with what comes before and after it, in evaluation mode."""
        channels, rank = self.shape[0], len(self.shape)
        layers = {1: nn.Linear, 2: nn.Conv1d, 3: nn.Conv2d}
        window = () if rank == 1 else (1,)
        if self.before:
            members["before"] = self.seeded(layers[rank](channels, channels, *window))

        def forward(m: Network, x: torch.Tensor) -> torch.Tensor:
            if self.before:
                x = m.before(x)
            if self.before == "stored":
                x = torch.relu(x)
            y = function(m, x)
            return m.after(y) if hasattr(m, "after") else y

        network = Network(forward, members).eval()
        if self.after:
            with torch.no_grad():
                output = network(torch.zeros(2, *self.shape))
            if output.dim() == rank + 1 > 2:
                weights = layers[output.dim() - 1](output.shape[1], 3, 1)
                network.after = self.seeded(weights).eval()
        return network


@st.composite
def images(
    draw: st.DrawFn,
    *,
    ranks: tuple[int, ...] = (3,),
    channels: st.SearchStrategy[int] = CHANNELS,
    sizes: st.SearchStrategy[int] = SIZES,
) -> Image:
    """Images of some ranks, without the batch; a list of numbers has rank 1."""
    rank = draw(st.sampled_from(ranks))
    return Image(
        shape=(draw(channels), *(draw(sizes) for _ in range(rank - 1))),
        seed=draw(st.integers(0, 1 << 16)),
        before=draw(st.sampled_from(("", "sum", "stored"))),
        after=draw(st.sampled_from(("", "layer"))),
    )
