"""How a matrix of feature directions shares its dimensions: the measures of superposition.

`W [... d_hidden, feature]` holds one direction a feature, as in Elhage et al. 2022 (*Toy Models of
Superposition*): column i, W_i, is where feature i is written in the hidden layer, and Ŵ_i is that
column made one long. Every leading axis (`instance`, snapshots, …) is kept.

Sums over all pairs of features, Σ_j (Ŵ_i·W_j)², are Ŵ_iᵀ (W Wᵀ) Ŵ_i. Of the two squares W Wᵀ and
WᵀW only the smaller one is made, so that 2,000 instances of 400 features in 30 dimensions never
need their 2,000 Gram matrices, and a vocabulary of directions needs no more than itself.

All measures can be differentiated. A column of zeros counts as a feature that is not there: its
norm, superposition and dimensionality are 0 and so are their gradients. Half precision is computed,
and returned, in fp32.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.errors import require, require_number


def feature_norms(W: Float[Tensor, "... d_hidden feature"]) -> Float[Tensor, "... feature"]:
    """‖W_i‖: how strongly each feature is represented, about 1 or about 0 in a trained toy.

    Raises:
        InputError: for a W without a matrix or without floating-point numbers.
    """
    return torch.linalg.vector_norm(_directions(W), dim=-2)


def are_represented(
    norms: Float[Tensor, "... feature"], represented: float
) -> Bool[Tensor, "... feature"]:
    """Which features have a norm of at least this part of the largest one's, and above 0.

    Args:
        norms: Of each model's features, as `feature_norms` gives them.
        represented: The part, at most 1.

    Raises:
        InputError: for a `represented` that is no number, or above 1.
    """
    require_number("represented", represented)
    require(represented <= 1, f"represented must be at most 1. Received {represented}")
    return (norms > 0) & (norms >= represented * norms.amax(-1, keepdim=True))


def superposition(W: Float[Tensor, "... d_hidden feature"]) -> Float[Tensor, "... feature"]:
    """Σ_{j≠i} (Ŵ_i·W_j)²: how much the other features write onto this one's direction.

    0 for a feature orthogonal to all the others, 1 for one that shares its dimension with an equal
    one (Elhage et al. 2022, "Demonstrating superposition": the colour of their bars).

    Exact to the rounding of the sum with j = i, less which it is had.

    Raises:
        InputError: for a W without a matrix or without floating-point numbers.
    """
    return _norms_and_superposition(_directions(W))[1]


def feature_dimensionality(
    W: Float[Tensor, "... d_hidden feature"],
) -> Float[Tensor, "... feature"]:
    """D_i = ‖W_i‖² / Σ_j (Ŵ_i·W_j)²: the fraction of a dimension that a feature has to itself.

    1 for a feature with its own dimension, 1/2 in a digon, 2/3 in a triangle, 3/4 in a
    tetrahedron, 2/5 in a pentagon, 3/8 in a square antiprism (Elhage et al. 2022, "The geometry of
    superposition"); 0 for a column of zeros. Scaling all of W changes nothing. The sum over
    features is at most the rank of W, and equal to it where W's columns, those of zeros apart, fall
    into parts that are tight frames of orthogonal subspaces.

    Raises:
        InputError: for a W without a matrix or without floating-point numbers.
    """
    W = _directions(W)
    largest = W.detach().abs().amax((-2, -1), keepdim=True)
    W = W / torch.where(largest > 0, largest, 1.0)  # so that squares of small W do not vanish
    squared_norms, others = _norms_and_superposition(W)
    return squared_norms / torch.where(squared_norms > 0, squared_norms + others, 1.0)


def capacity(W: Float[Tensor, "... d_hidden feature"]) -> Float[Tensor, "... feature"]:
    """C_i = (W_i·W_i)² / Σ_j (W_i·W_j)², Scherlis et al. 2022, section 2: the same as D_i.

    Dividing both by ‖W_i‖² gives `feature_dimensionality`: for a linear map to the hidden layer the
    two names are one number. Their reading is another: the capacities of all features sum to at
    least 1 (one feature is there) and to at most d_hidden, and training allots this sum. A feature
    is ignored (0), polysemantic (between) or monosemantic (1).

    Raises:
        InputError: for a W without a matrix or without floating-point numbers.
    """
    return feature_dimensionality(W)


def dimensions_per_feature(
    W: Float[Tensor, "... d_hidden feature"], d_hidden: float | Float[Tensor, "..."] | None = None
) -> Float[Tensor, "..."]:
    """D* = m / ‖W‖²_F: dimensions by the number of features that are represented.

    ‖W‖²_F counts features, as a represented one has norm about 1 (Elhage et al. 2022, "The geometry
    of superposition"). Infinite for a W of zeros.

    Args:
        W: The directions.
        d_hidden: m. Default: the axis of W. A tensor that broadcasts against the leading axes gives
            a number an instance, where masks leave some instances fewer dimensions.

    Raises:
        InputError: for a W without a matrix or floating-point numbers, or a d_hidden that is not
            positive.
    """
    W = _directions(W)
    if d_hidden is None:
        d_hidden = W.shape[-2]
    elif isinstance(d_hidden, Tensor):
        require(
            bool((d_hidden > 0).all()),
            f"d_hidden must be positive. Received {d_hidden.tolist()!r:.80}",
        )
    else:
        require_number("d_hidden", d_hidden)
    return d_hidden / W.square().sum((-2, -1))


def monosemanticity(W: Float[Tensor, "... d_hidden feature"]) -> Float[Tensor, "... d_hidden"]:
    """max_i |W_ki| / Σ_i |W_ki|: how far each neuron k stands for one feature alone.

    1 for a neuron of one feature, 1/n for one that all n features move alike, 0 for one that none
    moves. Jermyn, Schiefer and Hubinger 2022 (*Engineering monosemanticity in toy models*) take
    this ratio of a neuron's activations to one feature at a time; for a hidden layer without bias
    those are its weights (their size here, so that a neuron held down by a feature counts too).
    Meaningful where neurons are: in a hidden layer with an activation function.

    Raises:
        InputError: for a W without a matrix or without floating-point numbers.
    """
    sizes = _directions(W).abs()
    total = sizes.sum(-1)
    return sizes.amax(-1) / torch.where(total > 0, total, 1.0)


def example_dimensionality(
    hidden: Float[Tensor, "... example d_hidden"],
) -> Float[Tensor, "... example"]:
    """D of training examples: ‖h_i‖² / Σ_j (ĥ_i·h_j)² of their hidden vectors.

    Henighan et al. 2023 (*Superposition, Memorization, and Double Descent*): in a toy trained on
    few examples these, not the features, take the vertices of polygons. The same formula as
    `feature_dimensionality`, with an example's hidden vector W x_i for a feature's direction.

    Args:
        hidden: One vector an example, `x @ W.mT` of examples `x [... example feature]`.

    Raises:
        InputError: for a `hidden` without a matrix or without floating-point numbers.
    """
    return feature_dimensionality(hidden.mT if hidden.ndim > 1 else hidden)


def _directions(W: Tensor) -> Tensor:
    """W, proved to be a matrix a leading index, in fp32 at least."""
    require(
        W.ndim >= 2 and W.is_floating_point() and W.numel() > 0,
        "directions must be floating-point numbers of shape [… d_hidden, feature], at least one of "
        f"each. Received shape {list(W.shape)} of {W.dtype}",
    )
    return W.float() if W.dtype in (torch.float16, torch.bfloat16) else W


def _norms_and_superposition(W: Tensor) -> tuple[Tensor, Tensor]:
    """‖W_i‖² and Σ_{j≠i} (Ŵ_i·W_j)², both `[... feature]`."""
    squared_norms = W.square().sum(-2)
    there = torch.where(squared_norms > 0, squared_norms, 1.0)
    unit = W * there.rsqrt().unsqueeze(-2)
    d_hidden, feature = W.shape[-2:]
    if feature <= d_hidden:  # WᵀW is the smaller square: leave out a feature's own product
        own = torch.eye(feature, dtype=torch.bool, device=W.device)
        others = (unit.mT @ W).masked_fill(own, 0.0).square().sum(-1)
    else:
        every = (unit * ((W @ W.mT) @ unit)).sum(-2)
        others = (every - squared_norms).clamp_min(0.0)  # what is below 0 is rounding
    return squared_norms, others
