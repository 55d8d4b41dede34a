"""Interventions that put other numbers where activations were."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.errors import InputError, require, require_number, require_whole
from interp.interventions.base import AtPlace, Binding, Needs, as_reference
from interp.interventions.parts import finite
from interp.interventions.places import BoundPlace, Place
from interp.interventions.reference import Recorded, Reference, TokenRows
from interp.patching.axes import HookAxes, as_index
from interp.precision import wide

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

Editor = Callable[[Float[Tensor, "batch ..."]], Float[Tensor, "batch ..."]]
_SCORES = ("hook_attn_scores",)


@dataclass(frozen=True, eq=False)
class Zero(AtPlace, kind="zero"):
    """Zero ablation: zeros at a place.

    Attributes:
        place: A `Place`, or a hook's name for all of it.
    """

    refused: ClassVar[tuple[str, ...]] = ("hook_attn_scores", "hook_scale")

    place: Place | str

    def editor(self, at: BoundPlace, to: Binding) -> Editor:
        """Zeros."""
        return lambda x: at.write(x, 0.0)

    def describe(self) -> str:
        """What is zeroed."""
        return f"zero ablation of {self.where.describe()}"


@dataclass(frozen=True, eq=False)
class Scale(AtPlace, kind="scale"):
    """Activations times a number.

    Attributes:
        place: A `Place`, or a hook's name for all of it.
        factor: The number.
    """

    refused: ClassVar[tuple[str, ...]] = _SCORES

    place: Place | str
    factor: float

    def __post_init__(self) -> None:
        super().__post_init__()
        self.put("factor", finite("factor", self.factor))

    def editor(self, at: BoundPlace, to: Binding) -> Editor:
        """The product."""
        return lambda x: at.write(x, x * self.factor)

    def describe(self) -> str:
        """What is scaled, and by how much."""
        return f"{self.where.describe()} times {self.factor:g}"


class FromReference(AtPlace):
    """An intervention that puts in what it finds in a reference.

    Attributes:
        reference: The reference, or rows of its tokens.
    """

    reference: Reference | TokenRows

    def __post_init__(self) -> None:
        super().__post_init__()
        self.put("reference", as_reference(self.reference, "reference"))

    @property
    def source(self) -> Reference:
        """`reference`, which is one once the intervention is made."""
        assert isinstance(self.reference, Reference)
        return self.reference

    def needs(self, model: HookedTransformer) -> Needs:
        """Its hooks, of its reference."""
        return [(self.source, self.hooks(model))]


@dataclass(frozen=True, eq=False)
class Mean(FromReference, kind="mean"):
    """Mean ablation: the mean over a reference set, of real tokens alone.

    Attributes:
        place: A `Place`, or a hook's name for all of it.
        reference: The set. It must be as long as the run, unless pooled.
        pooled: One mean over all positions; otherwise one for each position, over the prompts that
            reach it.
    """

    refused: ClassVar[tuple[str, ...]] = _SCORES

    place: Place | str
    reference: Reference | TokenRows
    pooled: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            isinstance(self.pooled, bool), f"pooled must be True or False. Received {self.pooled!r}"
        )

    def hooks(self, model: HookedTransformer) -> tuple[str, ...]:
        """Full names of the hooks that it changes.

        Raises:
            InputError: for a pattern whose mean is to be pooled over positions, and as `Place`.
        """
        names = super().hooks(model)
        for name in names:
            require(
                not (self.pooled and name.endswith(("hook_pattern", "hook_pos_bias"))),
                f"a mean cannot be pooled over positions at {name}: its sources are other ones for "
                "every position",
            )
        return names

    def editor(self, at: BoundPlace, to: Binding) -> Editor:
        """The mean."""
        recorded = to.of(self.source)
        mean = mean_of(recorded.activations[at.hook], recorded, at.axes, self.pooled)
        if self.pooled:
            return lambda x: at.write(x, mean)
        flat = Recorded({}, None, None)
        return lambda x: at.write(x, at.aligned(mean, flat, x))

    def describe(self) -> str:
        """What is replaced, and which mean."""
        how = "pooled over positions" if self.pooled else "at each position"
        return f"mean ablation of {self.where.describe()}, {self.source.describe()}, {how}"


@dataclass(frozen=True, eq=False)
class Patch(FromReference, kind="patch"):
    """Activation patching: what another run has at the same positions.

    Every place by itself: `interp.patching.sweep`. In each row of a compiled model another place:
    `interp.Patch`.

    Attributes:
        place: A `Place`, or a hook's name for all of it.
        reference: That run: one prompt, or one for each row of the run, as long as those.
    """

    place: Place | str
    reference: Reference | TokenRows

    def editor(self, at: BoundPlace, to: Binding) -> Editor:
        """The other run's activations."""
        recorded = to.of(self.source)
        found = recorded.activations[at.hook]
        return lambda x: at.write(x, at.aligned(found, recorded, x))

    def describe(self) -> str:
        """What is replaced, and by what."""
        return f"{self.where.describe()} patched in from {self.source.describe()}"


@dataclass(frozen=True, eq=False)
class Resample(FromReference, kind="resample"):
    """Resample ablation: what other prompts of a reference set have at the same positions.

    Row i of a run gets the activations of prompt σ(i mod n) of the n in the set, where σ is a
    random cycle through all of them: if the set is the run's own batch, no row gets its own. (Here
    alone a row of a batch is not what it is alone: which prompt it gets depends on its number.)

    Attributes:
        place: A `Place`, or a hook's name for all of it.
        reference: The set; its prompts are as long as the run.
        seed: Of the cycle.
    """

    place: Place | str
    reference: Reference | TokenRows
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_whole("seed", self.seed, 0)

    def editor(self, at: BoundPlace, to: Binding) -> Editor:
        """The activations of the prompts that it draws."""
        recorded = to.of(self.source)
        found = recorded.activations[at.hook]
        drawn = _cycle(found.shape[0], self.seed)

        def edit(x: Tensor) -> Tensor:
            which = drawn[np.arange(x.shape[0]) % len(drawn)]
            return at.write(x, at.aligned(*_rows_of(found, recorded, which), x))

        return edit

    def describe(self) -> str:
        """What is replaced, and from where."""
        return (
            f"resample ablation of {self.where.describe()}, {self.source.describe()}, "
            f"seed {self.seed}"
        )


@dataclass(frozen=True, eq=False)
class Noise(AtPlace, kind="noise"):
    """Gaussian noise added to activations (as Meng et al. 2022, ROME, corrupt embeddings).

    The noise is a function of the seed, the hook and the place in its row, so it is the same in
    every row, however rows are padded and batched, and on every device.

    Attributes:
        place: A `Place` without scores or patterns, or a hook's name for all of it.
        std: Standard deviation; with `relative_to` in units of that of the activations themselves.
        relative_to: A reference whose activations give the unit: over all its prompts, positions
            and dimensions, of each head on its own where there are heads.
        seed: Of the noise.
    """

    refused: ClassVar[tuple[str, ...]] = ("hook_attn_scores", "hook_pattern", "hook_pos_bias")

    place: Place | str
    std: float
    relative_to: Reference | TokenRows | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("std", self.std)
        require_whole("seed", self.seed, 0)
        self.put("std", float(self.std))
        if self.relative_to is not None:
            self.put("relative_to", as_reference(self.relative_to, "relative_to"))

    def needs(self, model: HookedTransformer) -> Needs:
        """What gives the unit, if anything does."""
        hooks = self.hooks(model)
        return [(self._unit, hooks)] if self._unit is not None else []

    @property
    def _unit(self) -> Reference | None:
        assert self.relative_to is None or isinstance(self.relative_to, Reference)
        return self.relative_to

    def editor(self, at: BoundPlace, to: Binding) -> Editor:
        """The sum with noise."""
        std: float | Tensor = self.std
        if self._unit is not None:
            recorded = to.of(self._unit)
            std = self.std * _deviation(recorded.activations[at.hook], recorded, at)
        seed = (self.seed, zlib.crc32(at.hook.encode()))
        made: dict[tuple[torch.Size, torch.device, torch.dtype], Tensor] = {}

        def edit(x: Tensor) -> Tensor:
            key = (x.shape[1:], x.device, x.dtype)
            if key not in made:
                # numpy draws number after number: more positions go on where fewer end.
                drawn = np.random.default_rng(seed).standard_normal(tuple(x.shape[1:]))
                made[key] = torch.from_numpy(drawn).to(x)[None] * std
            noise = at.aligned(made[key].to(x.dtype), Recorded({}, None, None), x)
            return at.write(x, x + noise)

        return edit

    def describe(self) -> str:
        """How much noise, and where."""
        unit = self._unit
        size = f"{self.std:g}" if unit is None else f"{self.std:g} of that of {unit.describe()}"
        return (
            f"Gaussian noise on {self.where.describe()}, standard deviation {size}, "
            f"seed {self.seed}"
        )


def real_tokens(
    found: Float[Tensor, "row ..."], recorded: Recorded, axes: HookAxes
) -> Bool[Tensor, "row ..."] | None:
    """`[row, …, pos, …]`, broadcast over the other axes: True for real tokens; None: all are."""
    lengths = recorded.source_lengths if axes.of_source else recorded.lengths
    if lengths is None or "pos" not in axes.names:
        return None
    axis = axes.names.index("pos") + 1
    real = torch.as_tensor(np.arange(found.shape[axis]) < lengths[:, None]).to(found.device)
    shape = [1] * found.ndim
    shape[0], shape[axis] = real.shape
    return real.view(shape)


def mean_of(
    found: Float[Tensor, "row ..."], recorded: Recorded, axes: HookAxes, pooled: bool
) -> Float[Tensor, "1 ..."]:
    """The mean over real tokens, `[1, …]`; pooled, its `pos` axis has length 1."""
    values = wide(found)
    over = [0]
    if pooled and "pos" in axes.names:
        over.append(axes.names.index("pos") + 1)
    real = real_tokens(found, recorded, axes)
    if real is None:
        mean = values.mean(over, keepdim=True)
    else:
        total = torch.where(real, values, 0.0).sum(over, keepdim=True)
        mean = total / real.sum(over, keepdim=True)
    return mean.to(found.dtype)


def _deviation(found: Tensor, recorded: Recorded, at: BoundPlace) -> Tensor | float:
    """The standard deviation over rows, positions and dimensions; `[1, 1, head, 1]` with heads."""
    values = wide(found)
    axis = at.axis("head")
    over = [i for i in range(found.ndim) if i != axis]
    real = real_tokens(found, recorded, at.axes)
    if real is None:
        std = values.var(over, keepdim=True, correction=0).sqrt()
    else:
        counted = real.expand_as(values)
        n = counted.sum(over, keepdim=True)
        mean = torch.where(counted, values, 0.0).sum(over, keepdim=True) / n
        square = torch.where(counted, values - mean, 0.0).square()
        std = (square.sum(over, keepdim=True) / n).sqrt()
    return std.to(found.dtype)


def _rows_of(found: Tensor, recorded: Recorded, which: np.ndarray) -> tuple[Tensor, Recorded]:
    """These rows of what was recorded."""
    own, source = recorded.lengths, recorded.source_lengths
    return found[as_index(which, found.device)], replace(
        recorded,
        lengths=None if own is None else own[which],
        source_lengths=None if source is None else source[which],
    )


def _cycle(n: int, seed: int) -> np.ndarray:
    """A random cycle through n places: where each leads to."""
    order = np.random.default_rng(seed).permutation(n)
    leads = np.empty(n, dtype=np.int64)
    leads[order] = np.roll(order, 1)
    return leads


REPLACEMENTS = ("zero", "mean", "resample", "patch")


def replacement(
    by: str, place: Place, reference: Reference | None, pooled: bool, seed: int
) -> Zero | Mean | Resample | Patch:
    """The replacement of that kind.

    Raises:
        InputError: if it needs a reference and has none, or has one that it does not need.
    """
    if by not in REPLACEMENTS:
        raise InputError(f"by must be one of {', '.join(REPLACEMENTS)}. Received {by!r}.")
    require(
        (reference is not None) == (by != "zero"),
        f"a reference belongs to 'mean', 'resample' and 'patch', and to these alone. by={by!r} "
        + ("came without one" if reference is None else "came with one"),
    )
    require(by == "mean" or not pooled, f"only a mean is pooled. Received by={by!r}")
    require(by == "resample" or seed == 0, f"only 'resample' has a seed. Received by={by!r}")
    if reference is None:
        return Zero(place)
    if by == "mean":
        return Mean(place, reference, pooled)
    return Resample(place, reference, seed) if by == "resample" else Patch(place, reference)
