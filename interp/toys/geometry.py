"""Which polytopes the features of a toy have arranged themselves in.

Features that are represented are joined where their directions are not orthogonal; the connected
parts of that graph lie in subspaces orthogonal to one another (a tegum product, Elhage et al. 2022,
"The geometry of superposition"). Each part is named by its angles: a shape is recognised where some
order of its vertices has every angle between two features right to within a tolerance. Angles do
not know of rotations, and the order is searched for, so neither matters.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from interp.errors import require, require_number
from interp.toys import polytopes
from interp.toys.matching import deviation_from_polygon, smallest_deviation
from interp.toys.measures import feature_dimensionality, feature_norms

MONOSEMANTIC = "monosemantic"
_POLYGONS = {5: "pentagon", 6: "hexagon", 7: "heptagon", 8: "octagon"}
_SIMPLICES = {2: "digon", 3: "triangle", 4: "tetrahedron"}
_SOLIDS: dict[tuple[int, int], dict[str, Callable[[], Tensor]]] = {
    (8, 3): {"square antiprism": polytopes.square_antiprism, "cube": polytopes.cube},
    (12, 3): {"icosahedron": polytopes.icosahedron},
}
_PRODUCTS = {
    ("digon", "digon"): "square",
    ("digon", "digon", "digon"): "octahedron",
    ("digon", "triangle"): "triangular bipyramid",
    ("digon", "pentagon"): "pentagonal bipyramid",
}


@dataclass(frozen=True)
class Part:
    """Features whose directions hang together.

    Attributes:
        features: Their indices, rising.
        rank: How many dimensions they span.
        name: Of the shape: `monosemantic` for a lone feature, `digon`, `triangle`, `tetrahedron`,
            `simplex of 5`, `pentagon`, `9-gon`, `square antiprism`, `cube`, `icosahedron`, or
            `unnamed`.
        deviation: The largest difference of an angle between two features from the shape's, in
            degrees, in the best order; NaN where the part is unnamed.
        norms: ‖W_i‖ of each feature.
        dimensionalities: D_i of each feature, among all features of the model.
    """

    features: tuple[int, ...]
    rank: int
    name: str
    deviation: float
    norms: tuple[float, ...]
    dimensionalities: tuple[float, ...]

    @property
    def is_named(self) -> bool:
        """Whether the shape was recognised."""
        return self.name != "unnamed"

    @property
    def dimensionality(self) -> float:
        """The mean of D_i; rank / number of features in a tight frame."""
        return sum(self.dimensionalities) / len(self.features)

    def __str__(self) -> str:
        if self.is_named:
            return self.name
        n = len(self.features)
        return f"unnamed part ({n} features in {self.rank} dimension{'s' * (self.rank > 1)})"


@dataclass(frozen=True)
class Geometry:
    """The parts of one model.

    Attributes:
        parts: Named ones and others, those with most features first.
        absent: Features that are not represented.
        d_hidden: Rows of W.
        slant: By how much the directions of two features of different parts differ from a right
            angle at most, in degrees (0 where there is but one part).
    """

    parts: tuple[Part, ...]
    absent: tuple[int, ...]
    d_hidden: int
    slant: float

    @property
    def counts(self) -> dict[str, int]:
        """How many parts there are of each kind, as their text says it."""
        return dict(Counter(map(str, self.parts)))

    @property
    def summary(self) -> str:
        """The tegum product in words: `2 digons × pentagon`; `nothing` without a feature."""
        words = [_several(text, n) for text, n in self.counts.items()]
        return " × ".join(words) or "nothing"

    @property
    def solid(self) -> str | None:
        """What the whole arrangement is called, where it has a name: `octahedron`, `pentagon`."""
        names = tuple(sorted(part.name for part in self.parts))
        if len(names) == 1:
            return names[0] if self.parts[0].is_named else None
        if set(names) == {"digon"} and len(names) > 3:
            return f"orthoplex of {len(names)} dimensions"
        return _PRODUCTS.get(names)

    def rows(self) -> list[dict[str, object]]:
        """A row for each part, for a table."""
        return [
            {
                "part": k,
                "shape": str(part),
                "n_features": len(part.features),
                "rank": part.rank,
                "dimensionality": part.dimensionality,
                "deviation_degrees": part.deviation,
                "features": " ".join(map(str, part.features)),
            }
            for k, part in enumerate(self.parts)
        ]


def recognise(
    W: Float[Tensor, "d_hidden feature"],
    tolerance: float = 5.0,
    represented: float = 0.25,
    join: float | None = None,
) -> Geometry:
    """Name the arrangement of one model's features.

    Args:
        W: Its directions.
        tolerance: In degrees: by how much an angle of a part may differ from the shape's, and (in
            root mean square) by how much directions may leave the space that they span.
        represented: A feature is there whose norm is at least this part of the largest one's.
        join: Two features are joined whose directions differ from a right angle by more, in
            degrees. Default: the tolerance.

    Returns:
        Its parts.

    Raises:
        InputError: for a W that is no matrix of finite numbers or arguments out of bounds.
    """
    require(W.ndim == 2, f"W must be [d_hidden, feature]. Received shape {list(W.shape)}")
    return recognise_each(W.unsqueeze(0), tolerance, represented, join)[0]


def recognise_each(
    W: Float[Tensor, "instance d_hidden feature"],
    tolerance: float = 5.0,
    represented: float = 0.25,
    join: float | None = None,
) -> list[Geometry]:
    """`recognise` for each of many models.

    Raises:
        InputError: as there.
    """
    require(
        W.ndim == 3 and bool(W.isfinite().all()),
        f"W must be finite numbers [instance, d_hidden, feature]. Received shape {list(W.shape)}",
    )
    join = tolerance if join is None else join
    _require_degrees("tolerance", tolerance)
    _require_degrees("join", join)
    require_number("represented", represented)
    require(represented <= 1, f"represented must be at most 1. Received {represented}")
    W = W.detach().double()
    found = zip(
        W.cpu().numpy(),
        feature_norms(W).cpu().numpy(),
        feature_dimensionality(W).cpu().numpy(),
        strict=True,
    )
    return [_recognise(*one, tolerance, represented, join) for one in found]


def shape_of(
    W: Float[Tensor, "d_hidden feature"], tolerance: float = 5.0
) -> tuple[str, float] | None:
    """The name and deviation (degrees) of all columns as one part; None where no shape fits.

    Raises:
        InputError: for a W that is no matrix of finite numbers, a column of zeros, or a tolerance
            out of bounds.
    """
    require(
        W.ndim == 2 and bool(W.isfinite().all()),
        f"W must be finite numbers [d_hidden, feature]. Received shape {list(W.shape)}",
    )
    _require_degrees("tolerance", tolerance)
    unit = W.detach().double()
    norms = feature_norms(unit)
    require(bool((norms > 0).all()), "shape_of takes no column of zeros")
    unit = unit / norms
    cosines = (unit.mT @ unit).cpu().numpy()
    return _name(cosines, _rank(cosines, tolerance), tolerance)


def _require_degrees(name: str, degrees: float) -> None:
    require_number(name, degrees)
    require(degrees < 30, f"{name} must be below 30 degrees. Received {degrees}")


def _recognise(
    W: NDArray[np.float64],
    norms: NDArray[np.float64],
    dimensionalities: NDArray[np.float64],
    tolerance: float,
    represented: float,
    join: float,
) -> Geometry:
    is_there = (norms > 0) & (norms >= represented * norms.max())
    there = np.flatnonzero(is_there)
    unit = W[:, there] / norms[there]
    cosines = unit.T @ unit
    limit = math.sin(math.radians(join))
    parts, slant = [], 0.0
    for members in _connected(np.abs(cosines) > limit):
        inside = cosines[np.ix_(members, members)]
        rest = np.delete(cosines[members], members, axis=1)
        slant = max(slant, float(np.abs(rest).max(initial=0.0)))
        rank = _rank(inside, tolerance)
        name, deviation = _name(inside, rank, tolerance) or ("unnamed", math.nan)
        features = there[members]
        parts.append(
            Part(
                features=tuple(features.tolist()),
                rank=rank,
                name=name,
                deviation=deviation,
                norms=tuple(norms[features].tolist()),
                dimensionalities=tuple(dimensionalities[features].tolist()),
            )
        )
    parts.sort(key=lambda part: (-len(part.features), part.rank, part.name, part.features))
    absent = tuple(np.flatnonzero(~is_there).tolist())
    return Geometry(tuple(parts), absent, W.shape[0], math.degrees(math.asin(min(1.0, slant))))


def _connected(is_joined: NDArray[np.bool_]) -> list[NDArray[np.intp]]:
    """The connected parts of a graph, each as rising indices."""
    left = np.ones(len(is_joined), dtype=bool)
    parts = []
    while left.any():
        part = np.zeros_like(left)
        part[int(left.argmax())] = True
        edge = part
        while edge.any():
            edge = is_joined[edge].any(0) & ~part
            part = part | edge
        left &= ~part
        parts.append(np.flatnonzero(part))
    return parts


def _rank(cosines: NDArray[np.float64], tolerance: float) -> int:
    """Dimensions that unit vectors span, but for a part of their squares that the tolerance allows.

    The squared parts outside the best subspace of r dimensions are the sum of the Gram matrix's
    eigenvalues but the r largest.
    """
    eigenvalues = np.linalg.eigvalsh(cosines).clip(0.0)
    allowed = len(cosines) * math.sin(math.radians(tolerance)) ** 2
    return max(1, int((eigenvalues.cumsum() > allowed).sum()))


def _name(cosines: NDArray[np.float64], rank: int, tolerance: float) -> tuple[str, float] | None:
    """The shape whose angles are nearest to these, if all are within the tolerance."""
    if len(cosines) == 1:
        return MONOSEMANTIC, 0.0
    n, angles = len(cosines), _angles(cosines)
    if rank == 2 and n > 4:  # three are a simplex, a square is two digons
        around = deviation_from_polygon(angles, tolerance)
        return None if around is None else (_POLYGONS.get(n, f"{n}-gon"), around)
    found = []
    for name, shape in _shapes(n, rank):
        deviation = smallest_deviation(angles, shape, tolerance)
        if deviation is not None:
            found.append((deviation, name))
    if not found:
        return None
    deviation, name = min(found)
    return name, deviation


@cache
def _shapes(n_features: int, rank: int) -> Sequence[tuple[str, NDArray[np.float64]]]:
    """Names and angles of the shapes with so many vertices in so many dimensions, but polygons."""
    made: dict[str, Tensor] = {}
    if rank == n_features - 1:
        name = _SIMPLICES.get(n_features, f"simplex of {n_features}")
        made[name] = polytopes.simplex(n_features)
    made |= {name: make() for name, make in _SOLIDS.get((n_features, rank), {}).items()}
    return [(name, _angles((W.T @ W).numpy())) for name, W in made.items()]


def _angles(cosines: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.degrees(np.arccos(cosines.clip(-1.0, 1.0)))


def _several(text: str, n: int) -> str:
    if n == 1:
        return text
    plurals = {
        MONOSEMANTIC: "monosemantic features",
        "tetrahedron": "tetrahedra",
        "icosahedron": "icosahedra",
    }
    if text in plurals:
        return f"{n} {plurals[text]}"
    if text.startswith("simplex"):
        return f"{n} simplices{text.removeprefix('simplex')}"
    if text.startswith("unnamed part"):
        return f"{n} unnamed parts{text.removeprefix('unnamed part')}"
    return f"{n} {text}s"
