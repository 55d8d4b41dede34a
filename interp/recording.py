"""What keeps the tensors that pass through hook points."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from interp.errors import InputError
from interp.slicing import Slice, SliceInput

_SCORE_HOOKS = ("hook_attn_scores", "hook_pattern", "hook_pos_bias")
# What a decoder reads of another sequence, whose positions are not its own.
_OF_SOURCE = (".cross_attn.hook_k", ".cross_attn.hook_v", ".cross_attn.k_norm.")


def position_axis(name: str, tensor: Tensor) -> int | None:
    """Which axis of a recorded tensor (with a batch axis) is the destination position.

    None where there is none, or where positions are those of an encoder–decoder's source.
    """
    last = name.rsplit(".", 1)[-1]
    if name.startswith("encoder.") or any(part in name for part in _OF_SOURCE):
        return None
    if last in _SCORE_HOOKS:
        return 2
    of_sequence = name.startswith(("pooler.", "unembed.")) and tensor.ndim == 2
    return 1 if tensor.ndim > 1 and not of_sequence else None


def once(tensor: Tensor) -> Tensor:
    """The tensor with length 1 along every axis that only repeats one entry."""
    for axis, (size, stride) in enumerate(zip(tensor.shape, tensor.stride(), strict=True)):
        if stride == 0 and size > 1:
            tensor = tensor.narrow(axis, 0, 1)
    return tensor


class CacheRecorder:
    """Keeps detached tensors by hook name.

    Names for the same tensor share memory: tensors are kept as they are, and where a part of one or
    a copy on another device is wanted, it is made once.

    Args:
        device: Where to keep them. None: where they are.
        remove_batch_dim: Keep them without their batch axis, which must have length 1.
        records_gradients: Keep gradients too, under `<name>_grad`.
        pos_slice: Keep only these (destination) positions; a single one keeps its axis.

    Attributes:
        cache: Hook name → tensor.
        run_depth: The run that it belongs to, counted as in `Watchers`.
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
        self.run_depth = 1
        self._made = WeakTensorKeyDictionary()

    def record(self, name: str, tensor: Tensor) -> None:
        """Keep a tensor under its hook's name."""
        self.cache[name] = self._part(name, tensor)

    def record_gradient(self, name: str, gradient: Tensor) -> None:
        """Keep a gradient under its hook's name and `_grad`."""
        self.cache[name + "_grad"] = self._part(name, gradient)

    def _part(self, name: str, tensor: Tensor) -> Tensor:
        kept = tensor.detach()
        if self.device is not None or not self.pos_slice.is_everything:
            kept = self._copy_of_part(tensor, position_axis(name, kept))
        if self.remove_batch_dim:
            if kept.shape[0] != 1:
                raise InputError(
                    f"remove_batch_dim needs a batch of one. {name} has {tuple(tensor.shape)}."
                )
            kept = kept[0]
        return kept

    def _copy_of_part(self, tensor: Tensor, axis: int | None) -> Tensor:
        """The wanted positions on the wanted device, copied once for all views of a tensor."""
        single = once(tensor.detach())
        part = single if axis is None else self.pos_slice.apply(single, axis)
        if axis is not None and part.ndim < single.ndim:
            part = part.unsqueeze(axis)  # a single position keeps its axis
        squeezed = single.squeeze()
        place = (axis, squeezed.storage_offset(), squeezed.shape, squeezed.stride())
        owner = tensor if tensor._base is None else tensor._base
        made = self._made.setdefault(owner, {})
        if place not in made:
            # A copy even on the same device: a view would keep what was left out in memory.
            stays = part is single and self.device in (None, part.device)
            made[place] = part if stays else part.to(self.device or part.device, copy=True)
        shape = list(tensor.shape)
        if axis is not None:
            shape[axis] = part.shape[axis]
        return made[place].view(part.shape).expand(shape)
