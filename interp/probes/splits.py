"""Which samples a probe is fitted on, chosen by and scored on: whole sequences, never tokens.

Tokens of one sequence are near copies of one another in the residual stream, so a split by token
would let a probe be scored on what it was fitted on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from interp.errors import require, require_whole

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """Three sets of samples such that no group has samples in two of them.

    Attributes:
        train: Samples that weights are fitted on, ascending.
        validation: Samples that the regularisation is chosen by.
        test: Samples that scores are of.
        groups: Of every sample, the group (sequence) it belongs to; those of no part count too.

    Raises:
        InputError: for a part that is empty, that names a sample twice or one that is not there,
            or a group with samples in two parts.
    """

    train: Int[Tensor, "train"]
    validation: Int[Tensor, "validation"]
    test: Int[Tensor, "test"]
    groups: Int[Tensor, "sample"]

    def __post_init__(self) -> None:
        n = _checked_groups(self.groups).numel()
        seen: dict[int, str] = {}
        for name in PARTS:
            rows: Tensor = getattr(self, name)
            whole = not rows.is_floating_point() and rows.dtype != torch.bool
            require(
                rows.ndim == 1 and rows.numel() > 0 and whole,
                f"{name} must be sample numbers [n], at least one. Received {rows.dtype} "
                f"{list(rows.shape)}",
            )
            low, high = int(rows.min()), int(rows.max())
            require(
                low >= 0 and high < n,
                f"{name} must hold samples in 0 … {n - 1}. Received {low} … {high}",
            )
            require(rows.unique().numel() == rows.numel(), f"{name} names a sample twice")
            for group in self.groups[rows.to(self.groups.device)].unique().tolist():
                other = seen.setdefault(group, name)
                require(
                    other == name,
                    f"no group may be in two parts. Received group {group} in {other} and {name}",
                )

    @property
    def n_samples(self) -> int:
        """How many samples there are, those of no part included."""
        return self.groups.numel()

    def rows(self, part: str, device: torch.device) -> Int[Tensor, "n"]:
        """The samples of a part, on a device."""
        found: Tensor = getattr(self, part)
        return found.to(device)


def split_by_group(
    groups: Int[Tensor, "sample"],
    fractions: Sequence[float] = (0.6, 0.2, 0.2),
    seed: int = 0,
) -> Split:
    """Deal whole groups out to training, validation and test.

    Each part gets its fraction of the groups (not of the samples), rounded, and at least one; the
    first part takes what rounding leaves. The same groups and seed give the same split on every
    device.

    Args:
        groups: Which sequence each sample is of.
        fractions: Of train, validation and test; positive, with the sum 1.
        seed: Of the shuffle of the groups.

    Raises:
        InputError: for fractions that are not three positive ones with the sum 1, or fewer than
            three groups.
    """
    require_whole("seed", seed, 0)
    fits = len(fractions) == 3 and all(f > 0 for f in fractions)
    require(
        fits and abs(sum(fractions) - 1) < 1e-6,
        f"fractions must be three positive numbers with the sum 1. Received {tuple(fractions)!r}",
    )
    at = _checked_groups(groups)
    _, member = at.cpu().unique(return_inverse=True)
    n_groups = int(member.max()) + 1
    require(
        n_groups >= 3,
        "a split by sequence needs at least three sequences, one for each part. "
        f"Received {n_groups}",
    )
    n_test = min(max(round(fractions[2] * n_groups), 1), n_groups - 2)
    n_validation = min(max(round(fractions[1] * n_groups), 1), n_groups - 1 - n_test)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(n_groups, generator=generator)
    part_of = torch.zeros(n_groups, dtype=torch.long)
    part_of[order[:n_validation]] = 1
    part_of[order[n_validation : n_validation + n_test]] = 2
    part = part_of[member]
    found = [(part == i).nonzero()[:, 0].to(groups.device) for i in range(3)]
    train, validation, test = found
    return Split(train, validation, test, groups)


def _checked_groups(groups: Tensor) -> Tensor:
    whole = not groups.is_floating_point() and groups.dtype != torch.bool
    require(
        groups.ndim == 1 and groups.numel() > 0 and whole,
        f"groups must be whole numbers [sample], at least one. Received {groups.dtype} "
        f"{list(groups.shape)}",
    )
    return groups
