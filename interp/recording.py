"""What keeps the tensors that pass through hook points."""

from __future__ import annotations

import torch
from torch import Tensor

from interp.errors import InputError
from interp.slicing import Slice, SliceInput

_SCORE_HOOKS = ("hook_attn_scores", "hook_pattern")


def position_axis(name: str, tensor: Tensor) -> int | None:
    """Which axis of a recorded tensor (with a batch axis) is the destination position."""
    last = name.rsplit(".", 1)[-1]
    if last in _SCORE_HOOKS:
        return 2
    return 1 if tensor.ndim > 1 else None


class CacheRecorder:
    """Keeps detached tensors by hook name.

    Tensors are kept as they are: names for the same tensor share its memory.

    Args:
        device: Where to keep them. None: where they are.
        remove_batch_dim: Keep them without their batch axis, which must have length 1.
        records_gradients: Keep gradients too, under `<name>_grad`.
        pos_slice: Keep only these (destination) positions.
    """

    def __init__(
        self,
        device: torch.device | str | None = None,
        remove_batch_dim: bool = False,
        records_gradients: bool = False,
        pos_slice: SliceInput = None,
    ) -> None:
        self.cache: dict[str, Tensor] = {}
        self.device = None if device is None else torch.device(device)
        self.remove_batch_dim = remove_batch_dim
        self.records_gradients = records_gradients
        self.pos_slice = Slice.unwrap(pos_slice)
        self._held: set[int] = set()

    def holds(self, tensor: Tensor) -> bool:
        """Whether a recorded tensor shares this one's memory."""
        return tensor.untyped_storage().data_ptr() in self._held

    def record(self, name: str, tensor: Tensor) -> None:
        """Keep a tensor under its hook's name."""
        kept = self._part(name, tensor)
        self.cache[name] = kept
        self._held.add(kept.untyped_storage().data_ptr())

    def record_gradient(self, name: str, gradient: Tensor) -> None:
        """Keep a gradient under its hook's name and `_grad`."""
        self.cache[name + "_grad"] = self._part(name, gradient)

    def _part(self, name: str, tensor: Tensor) -> Tensor:
        kept = tensor.detach()
        axis = position_axis(name, kept)
        if axis is not None:
            kept = self._chosen_positions(kept, axis)
        if self.remove_batch_dim:
            if kept.shape[0] != 1:
                raise InputError(
                    f"remove_batch_dim needs a batch of one. {name} has {tuple(tensor.shape)}."
                )
            kept = kept[0]
        return kept if self.device is None else kept.to(self.device)

    def _chosen_positions(self, tensor: Tensor, axis: int) -> Tensor:
        if self.pos_slice.is_everything:
            return tensor
        # A copy, so that the positions left out do not stay in memory behind a view.
        return self.pos_slice.apply(tensor, axis).clone()
