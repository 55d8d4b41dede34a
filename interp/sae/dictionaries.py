"""Dictionaries beside one another: cosines, which unit stands for which feature, duplicates.

A dictionary has one direction a row, as `W_dec` `[d_sae, d_in]` has; a toy's `W`
`[d_hidden, feature]` is a dictionary when it is transposed. Cosines keep their sign: activations
are not negative, so a unit that points the other way is another unit.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.errors import require
from interp.sae.assignment import best_assignment

_ROWS_AT_ONCE = 2048  # of a large dictionary, whose cosines to itself would not fit in memory


def cosines(
    dictionary: Float[Tensor, "unit d_in"], true: Float[Tensor, "feature d_in"]
) -> Float[Tensor, "unit feature"]:
    """Cosine of each unit with each feature; 0 for rows of zeros.

    Raises:
        InputError: unless both are matrices with rows of the same size.
    """
    require(
        dictionary.ndim == true.ndim == 2 and dictionary.shape[1] == true.shape[1],
        "dictionaries must be [unit, d_in] and [feature, d_in]. "
        f"Received {tuple(dictionary.shape)} and {tuple(true.shape)}",
    )
    return _unit(dictionary) @ _unit(true).T


class MeanMaxCosine(NamedTuple):
    """Mean max cosine similarity in both directions (Sharkey et al. 2022).

    Attributes:
        of_features: Mean over features of the cosine of the most similar unit: 1 if every feature
            is in the dictionary, whatever else is in it.
        of_units: Mean over units of the cosine of the most similar feature: 1 if the dictionary
            has nothing but features, however few.
    """

    of_features: Float[Tensor, ""]
    of_units: Float[Tensor, ""]


def mean_max_cosine(
    dictionary: Float[Tensor, "unit d_in"], true: Float[Tensor, "feature d_in"]
) -> MeanMaxCosine:
    """How much of one dictionary is in the other, in both directions.

    Raises:
        InputError: as `cosines`, or if one has no rows.
    """
    require(
        len(dictionary) > 0 and len(true) > 0,
        f"dictionaries must have rows. Received {len(dictionary)} and {len(true)}",
    )
    similarity = cosines(dictionary, true)
    return MeanMaxCosine(similarity.amax(0).mean(), similarity.amax(1).mean())


class Matching(NamedTuple):
    """Units and features one to one.

    Attributes:
        unit: By feature, or −1 where there were too few units.
        cosine: By feature; 0 without a unit.
    """

    unit: Int[Tensor, "feature"]
    cosine: Float[Tensor, "feature"]


def match_units(
    dictionary: Float[Tensor, "unit d_in"], true: Float[Tensor, "feature d_in"]
) -> Matching:
    """Give features units of their own such that the sum of cosines is largest.

    Unlike the most similar unit of each feature, no unit serves two. It is computed on the CPU, in
    O(n² m) for the n of what there are fewer of and the m of the others.

    Raises:
        InputError: as `cosines`.
    """
    similarity = cosines(dictionary, true)
    units, features = best_assignment(similarity.detach().double().cpu().numpy())
    unit = torch.full((len(true),), -1, dtype=torch.int64, device=similarity.device)
    cosine = similarity.new_zeros(len(true))
    at = torch.as_tensor(features, device=unit.device)
    unit[at] = torch.as_tensor(units, device=unit.device)
    cosine[at] = similarity[unit[at], at]
    return Matching(unit, cosine)


def duplicates(
    dictionary: Float[Tensor, "unit d_in"], threshold: float = 0.9
) -> Bool[Tensor, "unit"]:
    """Units that an earlier unit makes superfluous: their cosine to it is above `threshold`.

    So of a pair of equal units one is a duplicate, and of n equal ones n − 1.
    """
    found = []
    for start in range(0, max(len(dictionary), 1), _ROWS_AT_ONCE):
        rows = dictionary[start : start + _ROWS_AT_ONCE]
        similarity = cosines(rows, dictionary[: start + len(rows)])
        found.append((similarity > threshold).tril(start - 1).any(1))
    return torch.cat(found)


def _unit(rows: Float[Tensor, "row d_in"]) -> Float[Tensor, "row d_in"]:
    size = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    return torch.where(size > 0, rows / size, torch.zeros_like(rows))
