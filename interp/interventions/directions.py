"""Interventions along directions and subspaces of activations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import InputError, require
from interp.interventions.base import AtPlace, Binding
from interp.interventions.parts import finite, floating
from interp.interventions.places import BoundPlace, Place
from interp.interventions.reference import Reference, TokenRows
from interp.interventions.replacements import Editor, FromReference

_OF_PAIRS = ("hook_attn_scores", "hook_pattern", "hook_pos_bias")


@dataclass(frozen=True, eq=False)
class Steer(AtPlace, kind="steer"):
    """A multiple of a direction added to activations (Turner et al. 2023, activation addition).

    Attributes:
        place: A `Place` with all dims, or a hook's name for all of it.
        direction: `[d]`, as long as the hook's last axis.
        coefficient: What it is multiplied by.
        relative: The direction is first given, at every position, the norm of the activation there:
            a coefficient of 0.5 adds half of that.
    """

    refused: ClassVar[tuple[str, ...]] = _OF_PAIRS

    place: Place | str
    direction: Float[Tensor, "d"]
    coefficient: float = 1.0
    relative: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _whole_dims(self.where)
        self.put("direction", floating("direction", self.direction, 1))
        self.put("coefficient", finite("coefficient", self.coefficient))
        require(
            isinstance(self.relative, bool),
            f"relative must be True or False. Received {self.relative!r}",
        )
        require(bool(self.direction.norm() > 0), "a direction must not be zero")

    def editor(self, at: BoundPlace, to: Binding) -> Editor:
        """The sum with the direction."""
        step = self.coefficient * self.direction.double()
        if self.relative:
            step = step / self.direction.double().norm()
        held: dict[tuple[torch.device, torch.dtype], Tensor] = {}

        def edit(x: Tensor) -> Tensor:
            _fits("direction", at.hook, step.shape[-1], x.shape[-1])
            key = (x.device, x.dtype)
            if key not in held:
                held[key] = step.to(x)
            added = held[key]
            return at.write(
                x, x + (added * x.norm(dim=-1, keepdim=True) if self.relative else added)
            )

        return edit

    def describe(self) -> str:
        """What is added, and where."""
        size = f"{self.coefficient:g} times " + (
            "the activation's norm along a direction"
            if self.relative
            else f"a direction of norm {float(self.direction.norm()):.3g}"
        )
        return f"steering of {self.where.describe()} by {size}"


@dataclass(frozen=True, eq=False)
class SwapSubspace(FromReference, kind="swap-subspace"):
    """The component in a subspace taken from another run: x + B Bᵀ(x_other - x).

    Attributes:
        place: A `Place` with all dims, or a hook's name for all of it.
        basis: `[k, d]`: what spans the subspace; it is made orthonormal (the columns of B).
        reference: The other run: one prompt, or one for each row, as long as those.

    Raises:
        InputError: for vectors that depend on one another.
    """

    refused: ClassVar[tuple[str, ...]] = _OF_PAIRS

    place: Place | str
    basis: Float[Tensor, "k d"]
    reference: Reference | TokenRows

    def __post_init__(self) -> None:
        super().__post_init__()
        _whole_dims(self.where)
        self.put("basis", _independent(self.basis))

    def orthonormal(self) -> Float[Tensor, "k d"]:
        """An orthonormal basis of the same subspace, in fp64."""
        return _orthonormal(self.basis)

    def editor(self, at: BoundPlace, to: Binding) -> Editor:
        """The activation with the other run's component."""
        recorded = to.of(self.source)
        found, basis = recorded.activations[at.hook], self.orthonormal()
        held: dict[tuple[torch.device, torch.dtype], Tensor] = {}

        def edit(x: Tensor) -> Tensor:
            _fits("basis", at.hook, basis.shape[-1], x.shape[-1])
            key = (x.device, x.dtype)
            if key not in held:
                held[key] = basis.to(x)
            B = held[key]
            change = (at.aligned(found, recorded, x) - x) @ B.T @ B
            return at.write(x, x + change)

        return edit

    def describe(self) -> str:
        """Which part is swapped, where, and with what."""
        return (
            f"{self.where.describe()}: the component in a subspace of {self.basis.shape[0]} of "
            f"{self.basis.shape[1]} dimensions taken from {self.source.describe()}"
        )


@dataclass(frozen=True, eq=False)
class RemoveSubspace(AtPlace, kind="remove-subspace"):
    """The component in a subspace replaced by that of one vector: x + B Bᵀ(mean - x).

    Whatever the run, all that is left along the subspace is the same at every position: what it
    told of tokens and of positions is gone, and what is at right angles to it stays.

    Attributes:
        place: A `Place` with all dims, or a hook's name for all of it.
        basis: `[k, d]`: what spans the subspace; it is made orthonormal (the columns of B).
        mean: `[d]`: mostly the mean activation there. None: zeros, which takes the component out.

    Raises:
        InputError: for vectors that depend on one another.
    """

    refused: ClassVar[tuple[str, ...]] = _OF_PAIRS

    place: Place | str
    basis: Float[Tensor, "k d"]
    mean: Float[Tensor, "d"] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _whole_dims(self.where)
        self.put("basis", _independent(self.basis))
        if self.mean is not None:
            self.put("mean", floating("mean", self.mean, 1))
            assert self.mean is not None
            d, found = self.basis.shape[1], len(self.mean)
            require(found == d, f"mean must have as many dims as the basis: {d}. Received {found}")

    def editor(self, at: BoundPlace, to: Binding) -> Editor:
        """The activation with that vector's component."""
        basis = _orthonormal(self.basis)
        mean = torch.zeros_like(basis[0]) if self.mean is None else self.mean.to(basis)
        held: dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor]] = {}

        def edit(x: Tensor) -> Tensor:
            _fits("basis", at.hook, basis.shape[-1], x.shape[-1])
            key = (x.device, x.dtype)
            if key not in held:
                held[key] = basis.to(x), mean.to(x)
            B, centre = held[key]
            return at.write(x, x + (centre - x) @ B.T @ B)

        return edit

    def describe(self) -> str:
        """Which part is taken out, where, and what is put in its place."""
        k, d = self.basis.shape
        instead = "zeros" if self.mean is None else "that of one vector"
        return (
            f"{self.where.describe()}: the component in a subspace of {k} of {d} dimensions "
            f"replaced by {instead}"
        )


def _independent(given: object) -> Float[Tensor, "k d"]:
    basis = floating("basis", given, 2)
    k, d = basis.shape
    rank = int(torch.linalg.matrix_rank(basis.double().cpu()))
    require(rank == k, f"a basis must have independent vectors. These {k} span {rank} of {d} axes")
    return basis


def _orthonormal(basis: Float[Tensor, "k d"]) -> Float[Tensor, "k d"]:
    """An orthonormal basis of the same subspace, in fp64."""
    return torch.linalg.qr(basis.double().T).Q.T


def _whole_dims(place: Place) -> None:
    require(
        place.dims is None,
        f"a direction is one of all dims: choose none. Received {place.dims}",
    )


def _fits(what: str, hook: str, length: int, d: int) -> None:
    if length != d:
        raise InputError(f"a {what} at {hook} must have {d} dims. Received {length}.")
