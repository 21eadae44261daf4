"""Pruning while an optimizer trains: masks that are chosen on schedule and then hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn

from coprune.prune.pattern import apply_masks
from coprune.prune.schedule import Choose, OneShot, Schedule, StraightThrough


class SparseTraining:
    """Prunes a network while any optimizer trains it, in a loop of one's own.

    ::

        sparse = SparseTraining(model, choose=choose, optimizer=optimizer, schedule=Gradual(5),
                                steps_per_epoch=len(loader))
        for images, labels in loader:
            sparse.before_forward()
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()
            optimizer.zero_grad()
        masks = sparse.finish()

    The rest happens in hooks on ``optimizer.step``: afterwards pruned weights are exactly zero,
    whatever momentum, weight decay or moving averages did to them. Several backward passes may come
    before one step; each needs its `before_forward`.

    Parameters
    ----------
    model
        Changed in place. It may be an exported one, which holds its parameters by the same names.
    choose
        Chooses masks, such as `pattern_choice` or `fixed_choice`.
    optimizer
        Any that trains the weights of ``model``.
    schedule
        One of `coprune.prune.schedule`.
    steps_per_epoch
        Of the optimizer; the unit of the schedule's epochs.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        choose: Choose,
        optimizer: torch.optim.Optimizer,
        schedule: Schedule | None = None,
        steps_per_epoch: int = 1,
    ):
        self._model = model
        self._choose = choose
        self._schedule = OneShot() if schedule is None else schedule
        self._steps_per_epoch = steps_per_epoch
        self._step = 0
        self._share: float | None = None
        # In straight-through training masks are chosen for one step only.
        self._masks_move = False
        self._masks: dict[str, torch.Tensor] = {}
        self._dense: dict[str, torch.Tensor] = {}
        self._hooks = (
            optimizer.register_step_pre_hook(lambda *_: self._before_step()),
            optimizer.register_step_post_hook(lambda *_: self._after_step()),
        )

    @property
    def masks(self) -> dict[str, torch.Tensor]:
        """Of the last choice, by module name; empty before the first one."""
        return self._masks

    @property
    def kept(self) -> float:
        """Part of the weights of masked layers that is kept; 1 before the first choice."""
        weights = sum(mask.numel() for mask in self._masks.values())
        return sum(int(mask.sum()) for mask in self._masks.values()) / weights if weights else 1.0

    def before_forward(self) -> None:
        """Choose masks if it is time to, and let the forward pass see pruned weights."""
        if self._is_straight():
            if not self._dense:
                self._choose_masks(share=1.0)
                self._masks_move = True
                self._hide_dense()
            return
        share = self._schedule.share_at(self._step, steps_per_epoch=self._steps_per_epoch)
        if share != self._share or self._masks_move:
            self._choose_masks(share=share)
            self._masks_move = False
            apply_masks(self._model, masks=self._masks)

    def finish(self) -> dict[str, torch.Tensor]:
        """Fix the masks, let go of the optimizer, and return them."""
        self._show_dense()
        if self._share != 1.0 or self._masks_move:
            self._choose_masks(share=1.0)
        apply_masks(self._model, masks=self._masks)
        for hook in self._hooks:
            hook.remove()
        return self._masks

    @contextmanager
    def pruned(self) -> Iterator[None]:
        """Inside, the network is as pruned as it was in the last forward pass of training."""
        if self._masks_move:
            self._choose_masks(share=1.0)
            self._hide_dense()
        try:
            yield
        finally:
            self._show_dense()

    def state_dict(self) -> dict:
        """Return what `load_state_dict` takes, between two steps."""
        return {
            "step": self._step,
            "share": self._share,
            "masks": self._masks,
            "masks_move": self._masks_move,
        }

    def load_state_dict(self, state: Mapping) -> None:
        """Go on as the training that gave ``state``; the weights are loaded elsewhere."""
        self._step, self._share = state["step"], state["share"]
        self._masks_move = state["masks_move"]
        device = next(self._model.parameters()).device
        self._masks = {name: mask.to(device) for name, mask in state["masks"].items()}

    def _is_straight(self) -> bool:
        return isinstance(self._schedule, StraightThrough) and self._schedule.is_straight_at(
            self._step, steps_per_epoch=self._steps_per_epoch
        )

    def _choose_masks(self, *, share: float) -> None:
        self._masks = dict(self._choose(self._model, share))
        self._share = share

    def _weights(self) -> Iterator[tuple[nn.Parameter, torch.Tensor]]:
        for name, mask in self._masks.items():
            yield self._model.get_submodule(name).weight, mask

    def _hide_dense(self) -> None:
        self._dense = {
            name: self._model.get_submodule(name).weight.detach().clone() for name in self._masks
        }
        apply_masks(self._model, masks=self._masks)

    @torch.no_grad()
    def _show_dense(self) -> None:
        for name, dense in self._dense.items():
            self._model.get_submodule(name).weight.copy_(dense)
        self._dense = {}

    @torch.no_grad()
    def _before_step(self) -> None:
        if not self._is_straight():
            return
        self._show_dense()
        for weight, mask in self._weights():
            if weight.grad is not None:
                weight.grad.add_(weight.masked_fill(mask, 0.0), alpha=self._schedule.decay)

    def _after_step(self) -> None:
        if not self._is_straight():
            apply_masks(self._model, masks=self._masks)
        self._step += 1
