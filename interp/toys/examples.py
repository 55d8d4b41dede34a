"""A finite set of examples, seen again and again: what a toy memorises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.errors import is_whole, require
from interp.toys.batch import Batch
from interp.toys.draws import Stream, as_seeds, words
from interp.toys.features import SparseFeatures

_DRAWN = 64  # examples at a time


@dataclass(frozen=True, kw_only=True)
class FiniteExamples:
    """The same examples at every step, as many in each instance as is asked.

    Henighan et al. (2023), Superposition, Memorization, and Double Descent, “Setup”.

    Attributes:
        x: Examples; rows beyond an instance's size are zero and never seen.
        target: What the outputs are compared with.
        sizes: How many examples each instance has.
        seeds: Of the choice of examples for a batch.
    """

    x: Float[Tensor, "instance example feature"]
    target: Float[Tensor, "instance example out"]
    sizes: Int[Tensor, "instance"]
    seeds: Int[Tensor, "instance"]

    @classmethod
    def of(cls, source: SparseFeatures, sizes: int | Sequence[int]) -> Self:
        """The first examples that features would have given.

        Instances of one seed and different sizes share the examples that both have.

        Args:
            source: What the examples are drawn from.
            sizes: How many, of all instances or of each.

        Raises:
            InputError: If a size is not a positive number, or there is not one for each instance.
        """
        device = source.seeds.device
        given = [sizes] * source.n_instances if isinstance(sizes, int) else list(sizes)
        require(
            len(given) == source.n_instances and all(is_whole(size, 1) for size in given),
            f"sizes must be positive, one for each of {source.n_instances} instances. "
            f"Received {given}",
        )
        # A batch depends on its size, so that of any set is a whole number of equal ones.
        parts = [source.batch(step, _DRAWN) for step in range(-(-max(given) // _DRAWN))]
        x, target = (
            torch.cat([getattr(part, name) for part in parts], 1)[:, : max(given)]
            for name in ("x", "target")
        )
        size = torch.tensor(given, dtype=torch.int64, device=device)
        kept = _among(size, max(given))[..., None]
        return cls(x=x * kept, target=target * kept, sizes=size, seeds=source.seeds)

    def __post_init__(self) -> None:
        n_instances, n_examples = self.x.shape[:2]
        require(
            self.target.shape[:2] == (n_instances, n_examples),
            "x and target must have the same instances and examples. Received shapes "
            f"{list(self.x.shape)} and {list(self.target.shape)}",
        )
        require(
            self.sizes.shape == self.seeds.shape == (n_instances,),
            f"sizes and seeds must be one for each of {n_instances} instances. Received shapes "
            f"{list(self.sizes.shape)} and {list(self.seeds.shape)}",
        )
        require(
            bool(((self.sizes >= 1) & (self.sizes <= n_examples)).all()),
            f"sizes must lie in 1 … {n_examples}. Received {self.sizes.tolist()}",
        )
        as_seeds(self.seeds, n_instances, self.seeds.device)  # checks them
        for name, values in (("x", self.x), ("target", self.target)):
            require(bool(values.isfinite().all()), f"{name} must be finite")

    @property
    def n_instances(self) -> int:
        """Models that the examples are for."""
        return self.x.shape[0]

    @property
    def n_features(self) -> int:
        """Features of each example."""
        return self.x.shape[2]

    @property
    def seen(self) -> Bool[Tensor, "instance example"]:
        """Which rows of `x` are examples."""
        return _among(self.sizes, self.x.shape[1])

    def batch(self, step: Int[Tensor, ""] | int, batch_size: int | None) -> Batch:
        """All examples if `batch_size` is None, else so many drawn with replacement."""
        if batch_size is None:
            weight = self.seen / self.sizes[:, None].to(self.x.dtype)
            return Batch(self.x, self.target, weight)
        drawn = words(self.seeds, step, Stream.CHOICE, (batch_size,))
        chosen = ((drawn * self.sizes[:, None]) >> 32)[..., None]
        return Batch(
            self.x.gather(1, chosen.expand(-1, -1, self.x.shape[2])),
            self.target.gather(1, chosen.expand(-1, -1, self.target.shape[2])),
        )

    def select(self, instances: Int[Tensor, "chosen"]) -> Self:
        """The examples of some instances alone, no more rows than they have."""
        sizes = self.sizes[instances]
        rows = int(sizes.max())
        return replace(
            self,
            x=self.x[instances, :rows],
            target=self.target[instances, :rows],
            sizes=sizes,
            seeds=self.seeds[instances],
        )

    def fields(self) -> dict[str, object]:
        """All that the batches depend on, by name."""
        return {name: getattr(self, name) for name in ("x", "target", "sizes", "seeds")}


def _among(sizes: Int[Tensor, "instance"], rows: int) -> Bool[Tensor, "instance example"]:
    return torch.arange(rows, device=sizes.device) < sizes[:, None]
