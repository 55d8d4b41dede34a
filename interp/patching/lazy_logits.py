"""Logits that are computed where somebody reads them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._pytree import tree_map_only

LogitsAt = Callable[[tuple[int, ...]], Float[Tensor, "batch read d_vocab"]]

# Getters of attributes, and methods, that need no number of the tensor.
_KNOWN_WITHOUT = {
    getattr(Tensor, name).__get__
    for name in ("shape", "dtype", "device", "ndim", "requires_grad", "layout")
} | {Tensor.is_floating_point, Tensor.size, Tensor.dim, Tensor.numel, Tensor.__len__}


class LazyLogits(Tensor):
    """`[batch, pos, d_vocab]` for functions that read a few positions of it, as `logits[:, -1]`.

    To anything but an index of positions it is the whole tensor, which is then computed. What is
    written into a part is in all that is read later, as it is in a tensor; only once the whole was
    computed, parts taken before that no longer belong to it.
    """

    _at: LogitsAt
    _whole: Tensor | None
    _parts: dict[tuple[int, ...], Tensor]

    @staticmethod
    def make(at: LogitsAt, shape: Sequence[int], like: Float[Tensor, "..."]) -> LazyLogits:
        """Logits of this shape; `at` computes them for some positions."""
        lazy: LazyLogits = Tensor._make_wrapper_subclass(
            LazyLogits, tuple(shape), dtype=like.dtype, device=like.device
        )
        lazy._at, lazy._whole, lazy._parts = at, None, {}
        return lazy

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute what the function needs, and let it have that."""
        if func in _KNOWN_WITHOUT:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **(kwargs or {}))
        if func is Tensor.__getitem__ and isinstance(args[0], LazyLogits):
            found = args[0]._indexed(args[1])
            if found is not None:
                return found
        args, kwargs = tree_map_only(LazyLogits, LazyLogits.computed, (args, kwargs or {}))
        return func(*args, **kwargs)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """The same for what goes past `__torch_function__`."""
        args, kwargs = tree_map_only(LazyLogits, LazyLogits.computed, (args, kwargs or {}))
        return func(*args, **kwargs)

    def computed(self) -> Float[Tensor, "batch pos d_vocab"]:
        """The whole tensor."""
        if self._whole is None:
            self._whole = self._at(tuple(range(self.shape[1])))
            for positions, part in self._parts.items():  # the function may have written into them
                self._whole[:, list(positions)] = part
        return self._whole

    def _part(self, positions: tuple[int, ...]) -> Tensor | None:
        """Those at these positions; None where some of them are in another part already."""
        if positions not in self._parts:
            if any(not set(positions).isdisjoint(others) for others in self._parts):
                return None
            self._parts[positions] = self._at(positions)
        return self._parts[positions]

    def _indexed(self, index: Any) -> Tensor | None:
        """What an index gives, if it says which positions; None otherwise."""
        if self._whole is not None:
            return None
        parts = _per_axis(index, self.ndim)
        if parts is None or len(parts) < 2:
            return None
        asked = parts[1]
        n_pos = self.shape[1]
        positions: tuple[int, ...]
        within: Any  # what stands for the positions in an index of the part that has them
        if isinstance(asked, slice):
            if asked.step is not None and asked.step < 0:
                return None  # torch refuses
            positions, within = tuple(range(n_pos)[asked]), slice(None)
        elif isinstance(asked, int):
            if not -n_pos <= asked < n_pos:
                raise IndexError(f"position {asked} is out of range for {n_pos} positions")
            positions, within = (asked % n_pos,), 0
        else:
            found = self._listed(asked)
            if found is None:
                return None
            positions, within = found
        part = self._part(positions) if positions else None
        return None if part is None else part[(parts[0], within, *parts[2:])]

    def _listed(self, asked: Any) -> tuple[tuple[int, ...], Tensor] | None:
        """The positions among these, and where in them each one asked for is."""
        n_pos = self.shape[1]
        wanted = torch.as_tensor(asked)
        if wanted.dtype == torch.bool or wanted.is_floating_point() or wanted.numel() == 0:
            return None
        places = [p % n_pos if -n_pos <= p < n_pos else n_pos for p in wanted.flatten().tolist()]
        if n_pos in places:
            return None  # the whole tensor says what is wrong
        some = sorted(set(places))
        at = torch.tensor([some.index(p) for p in places], device=self.device)
        return tuple(some), at.view(wanted.shape)


def _per_axis(index: Any, ndim: int) -> list[Any] | None:
    """One part for each axis that an index speaks of; None where it is not so simple."""
    parts = list(index) if isinstance(index, tuple) else [index]
    if any(p is None or isinstance(p, bool) for p in parts):
        return None
    if any(map(_is_mask, parts)):
        return None
    dots = [i for i, p in enumerate(parts) if p is Ellipsis]
    if len(dots) > 1:
        return None
    if dots:
        filled = [slice(None)] * (ndim - len(parts) + 1)
        parts[dots[0] : dots[0] + 1] = filled
    return [list(p) if isinstance(p, range) else p for p in parts]


def _is_mask(part: Any) -> bool:
    """Whether a part of an index says of each entry whether it is taken."""
    if part is Ellipsis or isinstance(part, slice | int | range):
        return False
    return torch.as_tensor(part).dtype in (torch.bool, torch.uint8)
