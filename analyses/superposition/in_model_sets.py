"""One set of a model's directions beside random ones, boiled down to what tables need."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor

from analyses.results.checks import scaled_error
from interp.weight_circuits.direction_measures import (
    Cosines,
    DirectionMeasures,
    cosines,
    dimensionality_of_rows,
    measure_directions,
    random_like,
)
from interp.weight_circuits.directions import Directions

Weights = Literal["model", "random"]
N_BINS = 200  # of cosines, from -1 to 1
CHECKED = 64  # directions whose dimensionality is taken pair by pair as well


class Names(Protocol):
    """Texts of directions by number."""

    def __call__(self, directions: Directions, ids: Iterable[int]) -> list[str]:
        """The texts of these directions."""
        ...


Row = dict[str, str | int | float]


@dataclass(frozen=True)
class SetReading:
    """What is kept of one set once its vectors are let go.

    Attributes:
        label, layer: Of the set; layer -1 for tokens.
        order: Where its rows stand among those of tokens: all of them, less mean, distinct.
        clean: Whether tokens are in the form that figures show: without copies and shared mean.
        summary: A row for the model's directions, one for random ones.
        dimensionality: D of every direction, of either.
        cosines: How many sampled cosines lie in each bin, of either; none for a lone direction.
        extremes: The directions with the most and the least of a dimension.
        pairs: The sampled pairs with the largest and the smallest cosines.
        moment: The model's second moment; None once it is let go.
        nearest: The sampled directions, and the cosine of each with its nearest.
        from_pairs, over_rank, off_trace: Deviations of three identities.
    """

    label: str
    layer: int
    order: tuple[bool, bool, bool]
    clean: bool
    summary: list[Row]
    dimensionality: dict[Weights, npt.NDArray[np.float64]]
    cosines: dict[Weights, npt.NDArray[np.float64]]
    extremes: list[Row]
    pairs: list[Row]
    moment: Float[Tensor, "d d"] | None
    nearest: tuple[Int[Tensor, "sampled"], Float[Tensor, "sampled"]] | None
    from_pairs: float
    over_rank: float
    off_trace: float


def read_set(
    directions: Directions,
    names: Names,
    sampled: int,
    k: int,
    seed: int,
    drawn: torch.Generator,
    clean: bool = True,
) -> SetReading:
    """Measure a set, and a random one of the same shape and norms.

    Args:
        directions: The set.
        names: Texts of its directions.
        sampled: How many are compared with all others one by one.
        k: How many of each extreme are listed.
        seed: Of the choice of those that are sampled.
        drawn: Where random directions are drawn from.
        clean: Whether figures show this form of it.
    """
    rows = sample(directions, sampled, seed)
    found = measure_directions(directions.vectors)
    compared = cosines(directions.vectors, rows, N_BINS) if len(directions) > 1 else None
    part = rows[:: max(1, len(rows) // CHECKED)][:CHECKED]
    expected = dimensionality_of_rows(directions.vectors, part)
    random = random_like(directions, drawn)
    beside = measure_directions(random.vectors)
    compared_random = cosines(random.vectors, rows, N_BINS) if compared is not None else None
    both: list[tuple[Weights, DirectionMeasures, Cosines | None]] = [
        ("model", found, compared),
        ("random", beside, compared_random),
    ]
    return SetReading(
        label=directions.label,
        layer=-1 if directions.layer is None else directions.layer,
        order=(directions.kind == "W_U", directions.ids is not None, directions.less_mean),
        clean=clean,
        summary=[_summary(directions, *each) for each in both],
        dimensionality={weights: _array(each.dimensionality) for weights, each, _ in both},
        cosines={weights: _array(each.counts) for weights, _, each in both if each is not None},
        extremes=_extremes(directions, found, names, k),
        pairs=_pairs(directions, compared, names, k) if compared is not None else [],
        moment=found.moment,
        nearest=None if compared is None else (compared.rows, compared.nearest_cosine),
        from_pairs=scaled_error(found.dimensionality[part], expected),
        over_rank=max(_over_rank(directions, each) for _, each, _ in both),
        off_trace=max(_off_trace(each) for _, each, _ in both),
    )


def sample(directions: Directions, sampled: int, seed: int) -> Int[Tensor, "direction"]:
    """Which directions are compared with all others; sets of one size have the same."""
    n, device = len(directions), directions.vectors.device
    if n <= sampled:
        return torch.arange(n, device=device)
    drawn = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    return drawn[:sampled].sort().values.to(device)


def _array(tensor: Tensor) -> npt.NDArray[np.float64]:
    return tensor.double().cpu().numpy()


def _over_rank(directions: Directions, found: DirectionMeasures) -> float:
    rank = directions.largest_rank
    return max(0.0, float(found.dimensionality.double().sum()) - rank) / max(1, rank)


def _off_trace(found: DirectionMeasures) -> float:
    trace = float(found.moment.diagonal().double().sum())
    return abs(trace - found.squared_norm) / max(1.0, found.squared_norm)


def _summary(
    directions: Directions, weights: Weights, found: DirectionMeasures, compared: Cosines | None
) -> Row:
    n, width = len(directions), directions.width
    norms, D = found.norms.double(), found.dimensionality.double()
    mean_square = found.squared_norm / n
    missing = float("nan")
    interference = float(found.superposition.double().mean())
    row: Row = {
        "directions": directions.label,
        "kind": directions.kind,
        "form": directions.form,
        "layer": -1 if directions.layer is None else directions.layer,
        "weights": weights,
        "n": n,
        "width": width,
        "norm_mean": float(norms.mean()),
        "norm_std": float(norms.std(correction=0)),
        "dimensionality": float(D.mean()),
        "dimensionality_median": float(D.median()),
        "dimensionality_smallest": float(D.min()),
        "dimensionality_largest": float(D.max()),
        "at_most": directions.largest_rank / n,
        "dimensions_per_feature": width / found.effective_directions
        if found.effective_directions
        else missing,
        "effective_dimensions": found.effective_dimensions,
        "interference": interference / mean_square if mean_square else missing,
        "alignment": found.squared_cosine * width,
        "mean_share": found.mean_share,
        "nearest_cosine": missing,
        "largest_cosine": missing,
        "smallest_cosine": missing,
    }
    if compared is not None:
        row["nearest_cosine"] = float(compared.nearest_cosine.double().mean())
        row["largest_cosine"] = float(compared.nearest_cosine.max())
        row["smallest_cosine"] = float(compared.opposite_cosine.min())
    return row


def _extremes(directions: Directions, found: DirectionMeasures, names: Names, k: int) -> list[Row]:
    rows: list[Row] = []
    k = min(k, len(directions))
    for which, largest in (("most", True), ("least", False)):
        ids = found.dimensionality.topk(k, largest=largest).indices
        columns = (found.dimensionality, found.norms, found.superposition)
        values = [column[ids].double().tolist() for column in columns]
        for rank, (name, *numbers) in enumerate(
            zip(names(directions, ids.tolist()), *values, strict=True), 1
        ):
            rows.append(
                {
                    "directions": directions.label,
                    "layer": -1 if directions.layer is None else directions.layer,
                    "which": which,
                    "rank": rank,
                    "direction": name,
                    "dimensionality": numbers[0],
                    "norm": numbers[1],
                    "superposition": numbers[2],
                }
            )
    return rows


def _pairs(directions: Directions, compared: Cosines, names: Names, k: int) -> list[Row]:
    rows: list[Row] = []
    for which, others, values in (
        ("nearest", compared.nearest, compared.nearest_cosine),
        ("most opposite", compared.opposite, compared.opposite_cosine),
    ):
        order = values.argsort(descending=which == "nearest", stable=True)[: 2 * k]
        found = zip(*(x[order].tolist() for x in (compared.rows, others, values)), strict=True)
        # A pair of sampled directions may be found from both ends.
        distinct = {(min(i, j), max(i, j)): cosine for i, j, cosine in found}
        for rank, ((i, j), cosine) in enumerate([*distinct.items()][:k], 1):
            first, second = names(directions, [i, j])
            rows.append(
                {
                    "directions": directions.label,
                    "layer": -1 if directions.layer is None else directions.layer,
                    "which": which,
                    "rank": rank,
                    "first": first,
                    "second": second,
                    "cosine": cosine,
                }
            )
    return rows
