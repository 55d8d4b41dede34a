"""Which entries of which activations an intervention touches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.errors import require
from interp.interventions.parts import Part, listed, whole_numbers
from interp.interventions.reference import Recorded, Sequences
from interp.patching.axes import HookAxes, as_index, axes_of
from interp.patching.grids import entries_within, sites
from interp.root import is_glob

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

Numbers = int | Sequence[int]


@dataclass(frozen=True, eq=False)
class Place(Part, kind="place"):
    """Entries of the activations at one or several hooks; those of an axis that is None: all.

    Positions count the real tokens of each row, where the hooks are bound to an input that is
    padded, and the positions of the tensor elsewhere. Padding is never touched. Negative numbers
    count from the end, everywhere.

    Attributes:
        hook: A hook in every layer, by its short name (`z`, `pattern`, `resid_pre`) or by that
            inside a block (`mlp.hook_post`), in an encoder's layers with `encoder.` before it; a
            full name; or a glob.
        layers: Of the hooks so named, those in these layers.
        heads: Of a hook with heads (key/value heads, where it has those).
        positions: Destinations in scores and patterns, positions elsewhere.
        sources: Source positions in scores and patterns.
        dims: Entries along the last axis of others: neurons, dimensions.

    Raises:
        InputError: for anything but names and whole numbers.
    """

    hook: str
    layers: Numbers | None = None
    heads: Numbers | None = None
    positions: Numbers | None = None
    sources: Numbers | None = None
    dims: Numbers | None = None

    def __post_init__(self) -> None:
        require(
            isinstance(self.hook, str) and bool(self.hook),
            f"a place's hook must be a name. Received {self.hook!r}",
        )
        for name in ("layers", "heads", "positions", "sources", "dims"):
            self.put(name, whole_numbers(name, getattr(self, name)))

    def hooks(self, model: HookedTransformer) -> tuple[str, ...]:
        """Full names of the hooks that it means in a model.

        Raises:
            InputError: for a name, layer or head that is not there, an axis that a hook lacks, and
                `hook_tokens`, which holds no activation.
        """
        if is_glob(self.hook):
            names = tuple(model.match_hooks(self.hook))
            if self.layers is not None:
                names = self._in_layers(model, names)
        else:
            # A layer's hook is its own axis here; `sites` says what a name may mean.
            names = sites(model, self.hook, self.layers).hooks
        require(bool(names), f"{self.hook!r} must mean a hook. In these layers it means none")
        for name in names:
            self._check(name, axes_of(model, name))
        return names

    def _in_layers(self, model: HookedTransformer, names: Sequence[str]) -> tuple[str, ...]:
        assert isinstance(self.layers, tuple)
        cfg = model.cfg
        kept = []
        for name in names:
            if "blocks." not in name:
                continue
            encodes = name.startswith("encoder.")
            n_layers = (cfg.n_encoder_layers or 0) if encodes else cfg.n_layers
            if model.hook_dict[name].layer() in entries_within("layers", self.layers, n_layers):
                kept.append(name)
        return tuple(kept)

    def _check(self, hook: str, axes: HookAxes) -> None:
        require(
            not hook.endswith("hook_tokens"),
            f"an intervention needs a hook of numbers. {hook} holds token ids",
        )
        of_pairs = "src_pos" in axes.names
        for name, given, there in (
            ("heads", self.heads, "head" in axes.names),
            ("positions", self.positions, "pos" in axes.names),
            ("sources", self.sources, of_pairs),
            ("dims", self.dims, not of_pairs),
        ):
            require(
                given is None or there,
                f"{name} cannot be chosen at {hook}, which has no such axis. Received {given}",
            )
        if self.heads is not None:
            entries_within(f"heads of {hook}", self.heads, axes.n_heads)  # type: ignore[arg-type]

    def describe(self) -> str:
        """The hook and what is chosen of it."""
        chosen = [
            f"{name} {listed(getattr(self, name))}"
            for name in ("layers", "heads", "positions", "sources", "dims")
            if getattr(self, name) is not None
        ]
        if self.positions is None:
            chosen.append("all positions")
        return f"{self.hook} ({'; '.join(chosen)})"


@dataclass(frozen=True)
class Layout:
    """How the rows of the run that is to be changed lie in its tensors; None: nothing is padded.

    Attributes:
        main: Of the stack that gives the logits.
        source: Of an encoder–decoder's encoder.
    """

    main: Sequences | None = None
    source: Sequences | None = None

    def of_positions(self, axes: HookAxes) -> Sequences | None:
        """What a hook's `pos` axis runs over."""
        return self.source if axes.of_source else self.main

    def of_sources(self, axes: HookAxes) -> Sequences | None:
        """What its `src_pos` axis runs over."""
        return self.source if axes.reads_source else self.main


@dataclass
class BoundPlace:
    """A place at one hook of a model, for runs of one layout.

    Attributes:
        hook: The full name.
        axes: What the tensor there looks like.
        place: What is touched.
        layout: Of the runs.
        spreads: It holds patterns over all sources, later ones too, so that a part of one does not
            sum to 1.
    """

    hook: str
    axes: HookAxes
    place: Place
    layout: Layout
    spreads: bool = False
    _masks: dict[tuple[torch.Size, torch.device], Tensor | None] = field(default_factory=dict)

    def axis(self, name: str) -> int | None:
        """Where a tensor with a batch axis has this axis."""
        return self.axes.names.index(name) + 1 if name in self.axes.names else None

    def write(
        self, x: Float[Tensor, "batch ..."], new: Float[Tensor, "..."] | float
    ) -> Float[Tensor, "batch ..."]:
        """`x` with `new`, of a shape that broadcasts to it, at the entries that are touched."""
        mask = self.mask(x)
        value = new if isinstance(new, Tensor) else x.new_full((), new)
        if mask is None:
            return value.to(x.dtype).expand_as(x).clone()
        return torch.where(mask, value.to(x.dtype), x)

    def mask(self, x: Float[Tensor, "batch ..."]) -> Bool[Tensor, "..."] | None:
        """True where `x` is touched, broadcast over the axes that are touched whole; None: all.

        Raises:
            InputError: for a position or entry that this tensor does not have, and a batch that is
                not the one that the place was bound to.
        """
        key = (x.shape, x.device)
        if key not in self._masks:
            found = self._chosen(x.shape)
            self._masks[key] = None if found is None else torch.as_tensor(found).to(x.device)
        return self._masks[key]

    def _chosen(self, shape: torch.Size) -> np.ndarray | None:
        place, chosen = self.place, []
        for name, numbers, sequences in (
            ("pos", place.positions, self.layout.of_positions(self.axes)),
            ("src_pos", place.sources, self.layout.of_sources(self.axes)),
        ):
            axis = self.axis(name)
            if axis is not None:
                label = "positions" if name == "pos" else "sources"
                flags = self._of_positions(label, numbers, sequences, shape[0], shape[axis])  # type: ignore[arg-type]
                if flags is not None:
                    chosen.append(_spread(flags, (0, axis), len(shape)))
        axis = self.axis("head")
        if axis is not None and place.heads is not None:
            entries = entries_within(f"heads of {self.hook}", place.heads, shape[axis])  # type: ignore[arg-type]
            chosen.append(_spread(_flags(entries, shape[axis]), (axis,), len(shape)))
        if place.dims is not None:
            entries = entries_within(f"dims of {self.hook}", place.dims, shape[-1])  # type: ignore[arg-type]
            chosen.append(_spread(_flags(entries, shape[-1]), (len(shape) - 1,), len(shape)))
        if not chosen:
            return None
        mask = chosen[0]
        for flags in chosen[1:]:
            mask = mask & flags
        return mask

    def _of_positions(
        self,
        label: str,
        numbers: tuple[int, ...] | None,
        sequences: Sequences | None,
        batch: int,
        length: int,
    ) -> np.ndarray | None:
        """`[batch or 1, length]`; None: all of them."""
        if sequences is None:
            if numbers is None:
                return None
            return _flags(entries_within(f"{label} of {self.hook}", numbers, length), length)[None]
        require(
            sequences.real.shape == (batch, length),
            f"these hooks were bound to an input of {list(sequences.real.shape)} tokens. The run's "
            f"{self.hook} has {[batch, length]}",
        )
        if numbers is None:
            return sequences.real
        rows = [
            np.isin(places, entries_within(f"{label} of {self.hook}", numbers, int(n)))
            for places, n in zip(sequences.places, sequences.lengths, strict=True)
        ]
        return np.stack(rows) & sequences.real

    def aligned(
        self,
        found: Float[Tensor, "batch_or_1 ..."],
        recorded: Recorded,
        x: Float[Tensor, "batch ..."],
    ) -> Float[Tensor, "batch_or_1 ..."]:
        """A reference's activation `[row, …]` laid out as `x` is, `[row or batch, …]`.

        Raises:
            InputError: if it does not reach as far as the run does (a pattern that looks both ways:
                not just as far), or has other rows.
        """
        batch = x.shape[0]
        require(
            found.shape[0] in (1, batch),
            f"what is put in at {self.hook} must have one row, or one for each of the run "
            f"({batch}). It has {found.shape[0]}",
        )
        if found.ndim < x.ndim and self.hook.endswith(("hook_scale", "hook_normalized")):
            # Norms carry a head axis while the inputs of heads are edited apart.
            found = found.unsqueeze(2)
        if not recorded.as_run:
            layout, axes = self.layout, self.axes
            found = self._along("pos", found, x, layout.of_positions(axes), recorded)
            found = self._along("src_pos", found, x, layout.of_sources(axes), recorded)
        fits = found.ndim == x.ndim and all(
            a in (1, b) for a, b in zip(found.shape[1:], x.shape[1:], strict=True)
        )
        require(
            fits,
            f"what is put in at {self.hook} must have shape {list(x.shape)}. "
            f"Received {list(found.shape)}",
        )
        return found

    def _along(
        self,
        name: str,
        found: Tensor,
        x: Tensor,
        sequences: Sequences | None,
        recorded: Recorded,
    ) -> Tensor:
        axis = self.axis(name)
        if axis is None or axis >= found.ndim:
            return found
        of_source = self.axes.of_source if name == "pos" else self.axes.reads_source
        lengths = recorded.source_lengths if of_source else recorded.lengths
        there = found.shape[axis] if lengths is None else int(lengths.min())
        exactly = name == "src_pos" and self.spreads
        if sequences is None:
            longest = there if lengths is None else int(lengths.max())
            self._reaches(there, x.shape[axis], longest if exactly else None)
            return found.narrow(axis, 0, x.shape[axis])
        reach = np.full(len(sequences.lengths), there)
        if lengths is not None and found.shape[0] == len(lengths) == len(reach):
            reach = lengths
        for n, needed in zip(reach, sequences.lengths, strict=True):
            self._reaches(int(n), int(needed), int(n) if exactly else None)
        index = as_index(np.minimum(sequences.places, found.shape[axis] - 1), found.device)
        shape = [1] * found.ndim
        shape[0], shape[axis] = index.shape
        found = found.expand(len(index), *found.shape[1:])
        return torch.take_along_dim(found, index.view(shape), axis)

    def _reaches(self, length: int, needed: int, longest: int | None) -> None:
        require(
            longest is None or longest <= needed,
            f"a pattern that looks both ways must be of as many tokens as the run: {needed} at "
            f"{self.hook}. The reference has {longest}",
        )
        require(
            length >= needed,
            f"a reference must be as long as the run: {needed} tokens at {self.hook}. "
            f"It has {length} (a mean may be pooled over positions)",
        )


def bound(model: HookedTransformer, place: Place, layout: Layout) -> list[BoundPlace]:
    """The place at each of its hooks.

    Raises:
        InputError: as `Place.hooks`.
    """
    found = []
    for hook in place.hooks(model):
        axes = axes_of(model, hook)
        both_ways = axes.reads_source or model.cfg.attention_dir == "bidirectional"
        spreads = both_ways and hook.endswith("hook_pattern")
        found.append(BoundPlace(hook, axes, place, layout, spreads))
    return found


def _flags(entries: Sequence[int], length: int) -> np.ndarray:
    flags = np.zeros(length, dtype=bool)
    flags[list(entries)] = True
    return flags


def _spread(flags: np.ndarray, axes: tuple[int, ...], n_axes: int) -> np.ndarray:
    """The flags with their axes where a tensor has them."""
    shape = [1] * n_axes
    for axis, length in zip(axes, flags.shape, strict=True):
        shape[axis] = length
    return flags.reshape(shape)
