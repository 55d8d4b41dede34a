"""What is asked of toys that see a finite number of examples: memorised, or understood?

Henighan et al. (2023), Superposition, Memorization, and Double Descent.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import require, require_number, require_whole


def effective_number(
    dimensionality: Float[Tensor, "... item"],
) -> Float[Tensor, "..."]:
    """(Σ D)² / Σ D²: how many directions share the hidden layer, if they did so evenly.

    k for k equal dimensionalities, whatever else has none: T for T examples on a polygon, 5 for
    features on a pentagon. 0 where nothing is represented.

    Args:
        dimensionality: Of features or examples; not negative.

    Raises:
        InputError: For no items or negative ones.
    """
    squares = _checked(dimensionality).square().sum(-1)
    there = torch.where(squares > 0, squares, 1.0)
    return dimensionality.sum(-1).square() / there


def typical_dimensionality(
    dimensionality: Float[Tensor, "... item"],
) -> Float[Tensor, "..."]:
    """Σ D² / Σ D: the mean of D in which each item counts as much as the space that it has.

    What lies on a polygon of k has 2 / k each; the many features or examples that are not
    represented, with D of about 0, change nothing. 0 where nothing is represented.

    Args:
        dimensionality: Of features or examples; not negative.

    Raises:
        InputError: For no items or negative ones.
    """
    total = _checked(dimensionality).sum(-1)
    there = torch.where(total > 0, total, 1.0)
    return dimensionality.square().sum(-1) / there


def polygon_gaps(hidden: Float[Tensor, "... item 2"]) -> Float[Tensor, "... item"]:
    """Angles from each vector of the plane to the next one round the origin, in degrees.

    360 / T each for T corners of a regular polygon about the origin; they sum to 360. A vector of
    zeros counts as lying at angle 0.

    Args:
        hidden: At least two vectors of two dimensions.

    Returns:
        Gaps in the order of the vectors' angles, from -180 degrees on.

    Raises:
        InputError: For other shapes.
    """
    require(
        hidden.ndim >= 2 and hidden.shape[-1] == 2 and hidden.shape[-2] >= 2,
        f"vectors must be [... item, 2], at least two. Received shape {list(hidden.shape)}",
    )
    angles = torch.atan2(hidden[..., 1], hidden[..., 0]).rad2deg().sort(-1).values
    return torch.cat([angles[..., 1:], angles[..., :1] + 360], -1) - angles


def size_classes(sizes: Sequence[int], spread: float = 2.5, smallest: int = 128) -> list[list[int]]:
    """Sizes of sets, each once, in classes that may well be trained in one stack.

    A stack is as wide as its largest set, so that a set of 3 beside one of 3,000 costs a thousand
    times what it needs, while small ones cost little however they are padded.

    Args:
        sizes: Numbers of examples.
        spread: In a class of larger sizes the largest is at most so many times the least.
        smallest: Sizes up to this one are small: one class, whatever they are.

    Returns:
        Classes, small sizes first, each from its largest size down.

    Raises:
        InputError: If a size or an argument is out of bounds.
    """
    require(len(sizes) > 0, "sizes must be at least one. Received none")
    for size in sizes:
        require_whole("a size", size, 1)
    require_number("spread", spread)
    require(spread >= 1, f"spread must be at least 1. Received {spread}")
    require_whole("smallest", smallest, 0)
    rising = sorted(set(sizes))
    small = [size for size in rising if size <= smallest]
    classes = [small] if small else []
    least = 0.0
    for size in rising[len(small) :]:
        if size > spread * least:
            classes.append([])
            least = size
        classes[-1].append(size)
    return [found[::-1] for found in classes]


def _checked(dimensionality: Tensor) -> Tensor:
    require(
        dimensionality.ndim >= 1 and dimensionality.shape[-1] > 0,
        f"dimensionalities must be [... item]. Received shape {list(dimensionality.shape)}",
    )
    require(
        bool((dimensionality >= 0).all()),
        f"dimensionalities must not be negative. Received {float(dimensionality.min())}",
    )
    return dimensionality
