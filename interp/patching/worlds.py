"""Worlds: runs that are the base run but for the activation at one hook."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import InputError, require
from interp.patching.axes import HookAxes, Window, as_index
from interp.patching.setters import PatchSetter


class Worlds(ABC):
    """Some worlds, each with one changed activation.

    Attributes:
        hooks: The hooks that are changed in any of them.
        axes: What the tensors at these hooks look like.
        hook_of: `[world]`: which of `hooks` is changed.
        first: `[world]`: the first position that is changed there.
        only: `[world]`: the one position that is changed; -1 where it may be several.
    """

    hooks: tuple[str, ...]
    axes: HookAxes
    hook_of: np.ndarray
    first: np.ndarray
    only: np.ndarray

    def __len__(self) -> int:
        return len(self.hook_of)

    @abstractmethod
    def write(
        self,
        hook: str,
        x: Float[Tensor, "world batch *axes"],
        worlds: np.ndarray,
        window: Window,
    ) -> None:
        """Make the base's activation that of these worlds, in place; x covers `window`."""


class GridWorlds(Worlds):
    """Parts of activations replaced by those of another run, or by a number.

    Args:
        hooks: The hooks.
        axes: Their axes.
        hook_of: `[world]`: which hook.
        coordinates: Axis name → `[world]`: which entry is replaced. Of an axis without: all of it.
        values: What is put in: a tensor of the whole activation `[batch or 1, …]` for each hook,
            or a number.
    """

    def __init__(
        self,
        hooks: Sequence[str],
        axes: HookAxes,
        hook_of: np.ndarray,
        coordinates: dict[str, np.ndarray],
        values: Sequence[Float[Tensor, "batch_or_1 ..."]] | float,
    ) -> None:
        self.hooks, self.axes, self.hook_of = tuple(hooks), axes, hook_of
        self.coordinates, self.values = coordinates, values
        nowhere = np.zeros(len(hook_of), dtype=np.int64)
        self.first = coordinates.get("pos", nowhere)
        self.only = coordinates.get("pos", nowhere - 1)

    def write(
        self,
        hook: str,
        x: Float[Tensor, "world batch *axes"],
        worlds: np.ndarray,
        window: Window,
    ) -> None:
        """Put the source's entries in."""
        index: list[slice | Tensor] = [slice(None)]  # of the batch
        for name in self.axes.names:
            if name not in self.coordinates:
                index.append(slice(None))
                continue
            here = self.coordinates[name][worlds]
            index.append(as_index(window.places(here) if name == "pos" else here, x.device))
        each = torch.arange(len(worlds), device=x.device)
        if isinstance(self.values, int | float):
            x[(each, *index)] = self.values
            return
        source = self._source(hook, x, window)
        x[(each, *index)] = source[None][(torch.zeros_like(each), *index)]

    def _source(self, hook: str, x: Tensor, window: Window) -> Tensor:
        """What the source has where x is."""
        assert not isinstance(self.values, int | float)
        source = self.values[self.hooks.index(hook)].to(x.device, x.dtype)
        for axis, name in enumerate(self.axes.names, start=1):
            if name == "pos":
                source = window.cut(source, axis)
            elif name == "src_pos":
                source = source.narrow(axis, 0, x.shape[axis + 1])
        require(
            source.shape[1:] == x.shape[2:],
            f"the source's {hook} must have the base's shape. They have {tuple(source.shape)} and "
            f"{tuple(x.shape[1:])} at these positions",
        )
        return source.expand(x.shape[1:])


class TensorWorlds(Worlds):
    """Whole activations put in, one for each world.

    Args:
        hooks: The hooks.
        axes: Their axes.
        hook_of: `[world]`: which hook.
        bases: For each hook, the base's activation `[batch, …]`.
        patched: For each world, what is put in.
    """

    def __init__(
        self,
        hooks: Sequence[str],
        axes: HookAxes,
        hook_of: np.ndarray,
        bases: Sequence[Float[Tensor, "batch ..."]],
        patched: Sequence[Float[Tensor, "batch ..."]],
    ) -> None:
        self.hooks, self.axes, self.hook_of = tuple(hooks), axes, hook_of
        self.patched = patched
        self.first = np.zeros(len(hook_of), dtype=np.int64)
        self.only = self.first - 1
        if "pos" in axes.names and patched:
            axis = 1 + axes.names.index("pos")
            found = [_changed(new, bases[i], axis) for new, i in zip(patched, hook_of, strict=True)]
            changed = torch.stack(found).cpu().numpy()  # [world, pos]
            somewhere = changed.any(1)
            self.first = np.where(somewhere, changed.argmax(1), changed.shape[1])
            self.only = np.where(changed.sum(1) == 1, self.first, -1)

    def write(
        self,
        hook: str,
        x: Float[Tensor, "world batch *axes"],
        worlds: np.ndarray,
        window: Window,
    ) -> None:
        """Put the whole activations in."""
        patched = torch.stack([self.patched[world] for world in worlds])
        for axis, name in enumerate(self.axes.names, start=2):
            if name == "pos":
                patched = window.cut(patched, axis)
            elif name == "src_pos":
                patched = patched.narrow(axis, 0, x.shape[axis])
        x.copy_(patched)


def _changed(new: Tensor, old: Tensor, axis: int) -> Tensor:
    """`[pos]`: whether anything differs there. What is not a number in both does not."""
    differs = (new != old) & ~((new != new) & (old != old))
    others = [a for a in range(differs.ndim) if a != axis]
    return differs.any(others)


class SetterWorlds(Worlds):
    """Worlds whose activations a function makes of the base's.

    Args:
        hooks: The hooks.
        axes: Their axes.
        hook_of: `[world]`: which hook.
        indices: `[world, number]`: what the function is given.
        setter: The function: (copy of the base's activation, index, source) → patched activation.
        sources: For each hook, the source's activation.
    """

    def __init__(
        self,
        hooks: Sequence[str],
        axes: HookAxes,
        hook_of: np.ndarray,
        indices: np.ndarray,
        setter: PatchSetter,
        sources: Sequence[Float[Tensor, "batch_or_1 ..."]],
    ) -> None:
        self.hooks, self.axes, self.hook_of = tuple(hooks), axes, hook_of
        self.indices, self.setter, self.sources = indices, setter, sources
        self.first = np.zeros(len(hook_of), dtype=np.int64)
        self.only = self.first - 1

    def made(
        self, bases: Mapping[str, Float[Tensor, "batch ..."]], max_bytes: int
    ) -> Iterator[tuple[np.ndarray, Worlds]]:
        """The same worlds with their activations, in groups of so many bytes: which, and they."""
        activations = [bases[hook] for hook in self.hooks]
        size = max((x.numel() * x.element_size() for x in activations), default=1)
        step = max(max_bytes // max(size, 1), 1)
        for begin in range(0, len(self), step):
            which = np.arange(begin, min(begin + step, len(self)))
            hook_of = self.hook_of[which]
            patched = [
                self._patched(int(world), activations[i].clone())
                for world, i in zip(which, hook_of, strict=True)
            ]
            yield which, TensorWorlds(self.hooks, self.axes, hook_of, activations, patched)

    def write(
        self,
        hook: str,
        x: Float[Tensor, "world batch *axes"],
        worlds: np.ndarray,
        window: Window,
    ) -> None:
        """Put the whole activations in; x has to cover all positions."""
        for one, world in zip(x, worlds, strict=True):
            one.copy_(self._patched(int(world), one.clone()))

    def _patched(self, world: int, base: Tensor) -> Tensor:
        found = self.setter(base, self.indices[world].tolist(), self.sources[self.hook_of[world]])
        if not isinstance(found, Tensor) or found.shape != base.shape:
            what = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise InputError(
                f"a patch setter must return a tensor {tuple(base.shape)}. Received {what}."
            )
        return found


class AddedWorlds(Worlds):
    """Something added to what one head, or one part, reads.

    Args:
        hooks: The hooks.
        axes: Their axes: positions, and heads where `heads` is given.
        hook_of: `[world]`: which hook.
        heads: `[world]`: to which head's input it is added; None: there are no heads.
        added: `[summand, batch, pos, d_model]`: what can be added.
        added_of: `[world]`: which of them it is.
    """

    def __init__(
        self,
        hooks: Sequence[str],
        axes: HookAxes,
        hook_of: np.ndarray,
        heads: np.ndarray | None,
        added: Float[Tensor, "summand batch pos d_model"],
        added_of: np.ndarray,
    ) -> None:
        self.hooks, self.axes, self.hook_of = tuple(hooks), axes, hook_of
        self.heads, self.added, self.added_of = heads, added, added_of
        self.first = np.zeros(len(hook_of), dtype=np.int64)
        self.only = self.first - 1

    def write(
        self,
        hook: str,
        x: Float[Tensor, "world batch *axes"],
        worlds: np.ndarray,
        window: Window,
    ) -> None:
        """Add it."""
        added = window.cut(self.added[as_index(self.added_of[worlds], self.added.device)], 2)
        added = added.to(x.device, x.dtype)
        if self.heads is None:
            x += added
            return
        each = torch.arange(len(worlds), device=x.device)
        x[each, :, :, as_index(self.heads[worlds], x.device)] += added
