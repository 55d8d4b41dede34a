"""Which tensors a compiled run gives, each once, and how names find theirs among them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Shaped
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from interp.run.recording import once


class Geometry(NamedTuple):
    """Where a tensor lies in another's memory; the offset counts from that one's beginning."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor is after a run.

    Attributes:
        source: Among what the run gave, what it was given, or what was there before it.
        index: Which of those.
        geometry: What part of it; None: all of it, as it is.
        layout: The strides that the source must have for that.
    """

    source: Literal["output", "input", "constant"]
    index: int
    geometry: Geometry | None = None
    layout: tuple[int, ...] = ()


class Outputs:
    """The distinct tensors behind the names of a traced run.

    Names that share a tensor, and views that repeat or reorder one, share its memory; of a part of
    a tensor that is not wanted itself only that part is given. An input is not given again.

    Args:
        inputs: What the traced run was given.
        named: What it is to give, by any keys.

    Attributes:
        constants: Tensors that a hook has from elsewhere and gave as they are.
    """

    def __init__(
        self,
        inputs: Sequence[Shaped[Tensor, "..."]],
        named: Mapping[Hashable, Shaped[Tensor, "..."]],
    ) -> None:
        self._tensors: list[Tensor] = []
        self.constants: list[Tensor] = []
        self._places: dict[Hashable, Place] = {}
        given = {_storage(x): i for i, x in enumerate(inputs)}
        by_storage: dict[tuple[int, torch.dtype], list[Hashable]] = {}
        for name, x in named.items():
            storage = _storage(x)
            if not isinstance(x, FakeTensor):
                # A hook put a tensor of its own in place of what it was given.
                self._places[name] = Place("constant", len(self.constants))
                self.constants.append(x)
            elif storage in given:
                source = inputs[given[storage]]
                self._places[name] = Place(
                    "input", given[storage], _geometry(x, source), source.stride()
                )
            else:
                by_storage.setdefault((storage, x.dtype), []).append(name)
        for names in by_storage.values():
            self._share({name: named[name] for name in names})
        self._order = tuple(named)

    def take(self) -> list[Shaped[Tensor, "..."]]:
        """What the traced run has to give; not kept here any longer."""
        tensors, self._tensors = self._tensors, []
        return tensors

    def _share(self, views: dict[Hashable, Tensor]) -> None:
        """Give what these views of one memory need."""
        whole = next((x for x in map(once, views.values()) if _fills_its_storage(x)), None)
        if whole is not None:
            for name, x in views.items():
                self._places[name] = self._place(x, whole)
            self._tensors.append(whole)
            return
        parts: dict[Geometry, tuple[Tensor, Place]] = {}
        for name, x in views.items():
            geometry = _geometry(x, x)._replace(offset=int(x.storage_offset()))
            if geometry not in parts:
                part = once(x).clone()
                parts[geometry] = part, self._place(part.expand(x.shape), part)
                self._tensors.append(part)
            self._places[name] = parts[geometry][1]

    def _place(self, x: Tensor, whole: Tensor) -> Place:
        """Where `x` is found in the next tensor to be given."""
        same = x.shape == whole.shape and x.stride() == whole.stride()
        geometry = None if same else _geometry(x, whole)
        return Place("output", len(self._tensors), geometry, whole.stride())

    def find(
        self, given: Sequence[Shaped[Tensor, "..."]], made: Sequence[Shaped[Tensor, "..."]]
    ) -> dict[Hashable, Shaped[Tensor, "..."]]:
        """The named tensors of a run that was given these inputs and made these outputs."""
        sources = {"input": list(given), "output": list(made), "constant": self.constants}
        found = {}
        for name in self._order:
            place = self._places[name]
            source = sources[place.source][place.index]
            if place.geometry is None:
                found[name] = source.detach() if place.source == "constant" else source
                continue
            if source.stride() != place.layout:
                # The compiler chose another order of axes in memory: as the run has it, once.
                new = torch.empty_strided(
                    source.shape, place.layout, dtype=source.dtype, device=source.device
                )
                sources[place.source][place.index] = source = new.copy_(source)
            size, stride, offset = place.geometry
            found[name] = source.as_strided(size, stride, int(source.storage_offset()) + offset)
        return found


def _storage(x: Tensor) -> int:
    return x.untyped_storage()._cdata


def _geometry(x: Tensor, whole: Tensor) -> Geometry:
    offset = int(x.storage_offset()) - int(whole.storage_offset())
    return Geometry(tuple(x.shape), x.stride(), offset)


def _fills_its_storage(x: Tensor) -> bool:
    """Whether every entry of its memory is one entry of it."""
    length = 1
    for stride, size in sorted(zip(x.stride(), x.shape, strict=True)):
        if size != 1:
            if stride != length:
                return False
            length *= size
    return length * x.element_size() == x.untyped_storage().nbytes()
