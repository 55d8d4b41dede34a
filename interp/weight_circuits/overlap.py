"""Whether what is written in one place lies in the dimensions of another, whatever the bases.

A set of directions fills the residual stream as its second moment M = Σ W Wᵀ says. For two sets
tr(M_a M_b) = Σ_ij (W_i·W_j)², the sum over all pairs, so that

    overlap = tr(M_a M_b) / √(tr M_a² · tr M_b²)

is the cosine of the two moments: 1 where both fill the same dimensions alike, 0 where none is
shared, and for a head the same in every basis of its d_head dimensions. Turned against each other
at random, tr(M_a M_b) is tr M_a · tr M_b / width on average, exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import require
from interp.weight_circuits.composition import pair_norms
from interp.weight_circuits.directions import Directions


@dataclass(frozen=True, slots=True)
class HeadOverlap:
    """How the heads of one layer share the dimensions that they write to.

    Attributes:
        norms: ‖W_V W_O‖_F of each head.
        effective_dimensions: (tr M)² / tr M² of each: how many dimensions it writes to evenly.
        overlap: Of each pair, in 0 … 1, with 1 on the diagonal. 0 for a head that writes nothing.
        random: What it is on average once the two heads are turned at random.
    """

    norms: Float[Tensor, "head"]
    effective_dimensions: Float[Tensor, "head"]
    overlap: Float[Tensor, "head head"]
    random: Float[Tensor, "head head"]


@torch.no_grad()
def head_overlap(directions: Directions) -> HeadOverlap:
    """The overlap of all pairs of heads of a layer.

    Args:
        directions: Of the kind `OV` or `cross OV`.

    Raises:
        InputError: for directions of another kind.
    """
    require(
        directions.of_heads and directions.per_group is not None,
        f"overlaps are between heads. Received directions of {directions.kind}",
    )
    assert directions.per_group is not None
    frames = directions.vectors.view(-1, directions.per_group, directions.vectors.shape[-1])
    common = pair_norms(frames, frames.mT).square()  # tr(M_a M_b)
    traces = frames.square().sum((1, 2))
    squares = common.diagonal()  # ‖M‖²_F
    sizes = squares.sqrt()
    both = sizes[:, None] * sizes
    writes = both > 0
    safe = torch.where(writes, both, 1.0)
    return HeadOverlap(
        norms=traces.sqrt(),
        effective_dimensions=torch.where(
            squares > 0, traces.square() / torch.where(squares > 0, squares, 1.0), 0.0
        ),
        overlap=torch.where(writes, common / safe, 0.0).clamp(max=1.0),
        random=torch.where(writes, traces[:, None] * traces / (directions.width * safe), 0.0).clamp(
            max=1.0
        ),
    )


def alignment(
    written: Float[Tensor, "d_model d_model"], read: Float[Tensor, "d_model d_model"], width: int
) -> Float[Tensor, ""]:
    """tr(M_a M_b) · width / (tr M_a · tr M_b): 1 for sets turned against each other at random.

    It is the mean squared cosine of all pairs, weighted by both squared norms, in units of that of
    random directions. 0 where either set is all zeros.

    Args:
        written: Second moment of what is written.
        read: Of what reads it.
        width: The dimensions that are open to both.
    """
    common = torch.dot(written.flatten(), read.flatten())
    sizes = written.diagonal().sum() * read.diagonal().sum()
    return torch.where(sizes > 0, common * width / torch.where(sizes > 0, sizes, 1.0), 0.0)
