"""Sparse features without end: independent, or correlated within groups."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Self, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import require, require_one_of, require_whole
from interp.toys.batch import Batch, per_instance, require_dtype
from interp.toys.draws import WORDS, Stream, as_seeds, words

Values = Literal["uniform", "signed", "binary"]
Target = Literal["identity", "absolute"]

_TARGETS: dict[str, Callable[[Tensor], Tensor]] = {"identity": lambda x: x, "absolute": torch.abs}


@dataclass(frozen=True, kw_only=True)
class SparseFeatures:
    """Features that are mostly zero, drawn anew for every step.

    Elhage et al. (2022), Toy Models of Superposition, “Demonstrating Superposition”, Setup, and
    “The Geometry of Superposition”, Correlated and anticorrelated features.

    Made by `SparseFeatures.of(...)`, which broadcasts and checks.

    Attributes:
        density: How likely each feature is not zero: 1 - S in the paper.
        correlation: Of the features of a group. With c in 0 … 1 a group is drawn as one with
            probability c (its features present together), else each feature by itself, which
            makes c the correlation of their presence where their densities are equal. With c in
            -1 … 0 the features exclude one another with probability -c.
        group_size: Features 0 … k - 1 are the first group, and so on. 1: all are independent.
        values: A feature that is present is uniform in (0, 1], uniform in (-1, 1] or 1.
        unit_norm: Whether each input with a feature present is divided by its length.
        target: What the output is compared with: the input, or its absolute value.
        seeds: Instances with one seed and the same settings see the same data.
        dtype: Of the batches: `float32` or `float64`.
    """

    density: Float[Tensor, "instance feature"]
    correlation: Float[Tensor, "instance"]
    seeds: Int[Tensor, "instance"]
    group_size: int = 1
    values: Values = "uniform"
    unit_norm: bool = False
    target: Target = "identity"
    dtype: torch.dtype = torch.float32
    _limit: Int[Tensor, "instance feature"] = field(init=False, repr=False, compare=False)
    _lower: Int[Tensor, "instance feature"] = field(init=False, repr=False, compare=False)
    _together: Int[Tensor, "instance"] = field(init=False, repr=False, compare=False)

    @classmethod
    def of(
        cls,
        n_instances: int,
        n_features: int,
        density: float | Float[Tensor, "... #feature"] = 1.0,
        *,
        correlation: float | Float[Tensor, "*#instance"] = 0.0,
        group_size: int = 1,
        values: Values = "uniform",
        unit_norm: bool = False,
        target: Target = "identity",
        seeds: int | Sequence[int] | Int[Tensor, "instance"] = 0,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Self:
        """Features for this many instances.

        Args:
            n_instances: Models to be trained on them.
            n_features: Of each.
            density: Broadcast to `[instance, feature]`: `[feature]` or `[instance, 1]` will do.
            correlation: Broadcast to `[instance]`.
            group_size: See the class, as for all that follow.
            values: How a feature that is present is distributed.
            unit_norm: Whether inputs have length 1.
            target: What the output is compared with.
            seeds: One for each instance, or the first of so many numbers in a row.
            dtype: Of the batches.
            device: Where batches are drawn.

        Raises:
            InputError: If a value breaks its rule, a group is not full, or features that exclude
                one another have densities of a sum above 1.
        """
        require_whole("n_instances", n_instances, 1)
        require_whole("n_features", n_features, 1)
        device = torch.device(device)
        shape = (n_instances, n_features)
        return cls(
            density=per_instance("density", density, shape, torch.float64, device),
            correlation=per_instance(
                "correlation", correlation, (n_instances,), torch.float64, device
            ),
            seeds=as_seeds(seeds, n_instances, device),
            group_size=group_size,
            values=values,
            unit_norm=unit_norm,
            target=target,
            dtype=dtype,
        )

    def __post_init__(self) -> None:
        require_one_of("values", self.values, get_args(Values))
        require_one_of("target", self.target, get_args(Target))
        require_whole("group_size", self.group_size, 1)
        require_dtype(self.dtype)
        lowest, highest = float(self.density.min()), float(self.density.max())
        require(
            lowest >= 0 and highest <= 1,
            f"density must lie in 0 … 1. Received {lowest} … {highest}",
        )
        require(
            bool((self.correlation.abs() <= 1).all()),
            f"correlation must lie in -1 … 1. Received {self.correlation.tolist()}",
        )
        require(
            self.n_features % self.group_size == 0,
            f"n_features must be a multiple of group_size ({self.group_size}). "
            f"Received {self.n_features}",
        )
        require(
            self.group_size > 1 or not bool(self.correlation.any()),
            "correlated features need a group_size of at least 2. Received 1",
        )
        # Presence is decided in whole numbers: the same on every device and in every dtype.
        limit = _in_words(self.density)
        before = self._by_group(limit).cumsum(-1) - self._by_group(limit)
        excluding = (self.correlation < 0)[:, None, None]
        totals = self._by_group(self.density).sum(-1, keepdim=True)
        most = float(totals.where(excluding, totals.new_zeros(())).max())
        require(
            most <= 1 + 1e-6,
            "densities of features that exclude one another must sum to at most 1 in a group. "
            f"Received {most}",
        )
        object.__setattr__(self, "_limit", limit)
        object.__setattr__(self, "_lower", (before * excluding).reshape(limit.shape))
        object.__setattr__(self, "_together", _in_words(self.correlation.abs()))

    @property
    def n_instances(self) -> int:
        """Models that the features are for."""
        return self.density.shape[0]

    @property
    def n_features(self) -> int:
        """Features of each."""
        return self.density.shape[1]

    def batch(self, step: Int[Tensor, ""] | int, batch_size: int | None) -> Batch:
        """The examples of one step.

        Args:
            step: From 0; a tensor if the program is compiled or captured.
            batch_size: Examples of each instance.

        Returns:
            A batch with `x [instance, batch, feature]`.

        Raises:
            InputError: If `batch_size` is None: these features have no end.
        """
        require(batch_size is not None, "these features have no end: give a batch_size")
        assert batch_size is not None
        draw = self._alone if self.group_size == 1 else self._grouped
        x = draw(step, batch_size)
        if self.unit_norm:
            length = x.norm(dim=-1, keepdim=True)
            x = x / length.where(length > 0, 1.0)
        return Batch(x, _TARGETS[self.target](x))

    def _alone(self, step: Int[Tensor, ""] | int, batch_size: int) -> Tensor:
        # One number says both whether a feature is present and, if so, its value.
        drawn = words(self.seeds, step, Stream.FEATURES, (batch_size, self.n_features))
        limit = self._limit[:, None]
        present = drawn < limit
        return present * self._value(drawn + 1, limit.clamp(min=1))

    def _grouped(self, step: Int[Tensor, ""] | int, batch_size: int) -> Tensor:
        groups = (batch_size, self.n_features // self.group_size)
        drawn = words(self.seeds, step, Stream.FEATURES, (batch_size, self.n_features))
        shared = self._to_features(words(self.seeds, step, Stream.GROUPS, groups))
        mixture = self._to_features(words(self.seeds, step, Stream.MIXTURE, groups))
        together = mixture < self._together[:, None, None]
        limit, lower = self._limit[:, None], self._lower[:, None]
        alone = drawn < limit
        with_group = (shared >= lower) & (shared < lower + limit)
        # Within a group's draw, the feature's own number is free to be the value.
        whole = torch.where(together, WORDS, limit.clamp(min=1))
        return torch.where(together, with_group, alone) * self._value(drawn + 1, whole)

    def _value(self, drawn: Tensor, whole: Tensor) -> Tensor:
        if self.values == "binary":
            return torch.ones((), dtype=self.dtype, device=drawn.device)
        value = drawn.to(self.dtype) / whole.to(self.dtype)
        return value if self.values == "uniform" else 2 * value - 1

    def _by_group(self, by_feature: Tensor) -> Tensor:
        return by_feature.unflatten(-1, (-1, self.group_size))

    def _to_features(self, by_group: Tensor) -> Tensor:
        return by_group.repeat_interleave(self.group_size, dim=-1)

    def select(self, instances: Int[Tensor, "chosen"]) -> Self:
        """The features of some instances alone."""
        return replace(
            self,
            density=self.density[instances],
            correlation=self.correlation[instances],
            seeds=self.seeds[instances],
        )

    def fields(self) -> dict[str, object]:
        """All that the batches depend on, by name."""
        made = (each for each in dataclasses.fields(self) if each.init)
        return {each.name: getattr(self, each.name) for each in made}


def _in_words(probability: Tensor) -> Int[Tensor, "..."]:
    return (probability * WORDS).round().to(torch.int64)
