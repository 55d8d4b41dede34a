"""The best ReLU-output toy by its exact loss: many descents from many starts, without noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import require, require_whole
from interp.probes.lbfgs import minimise
from interp.toys.exact_loss import exact_loss

Unpack = Callable[
    [Float[Tensor, "... x"]],
    tuple[Float[Tensor, "... d_hidden feature"], Float[Tensor, "... feature"]],
]
"""From the numbers that are searched over to `W [... d_hidden, feature]` and `b [... feature]`."""

_TOLERANCE = 1e-6  # of a gradient's largest entry; a loss is then off by about its square
_STEPS = 500
_NODES_AT_ONCE = 1 << 22  # of quadrature: some 100 MB with what their gradients need
_NODES = {1: 3, 2: 42, 3: 1008, 4: 37_632}  # of all outputs, by features


@dataclass(frozen=True)
class ExactMinimum:
    """The best of several descents at each site.

    Attributes:
        W, b: The model.
        loss: Its exact loss.
        gradient: The largest entry of the gradient that is left.
        losses: Where every descent ended.
    """

    W: Float[Tensor, "site d_hidden feature"]
    b: Float[Tensor, "site feature"]
    loss: Float[Tensor, "site"]
    gradient: Float[Tensor, "site"]
    losses: Float[Tensor, "site start"]


def minimise_exactly(
    density: Float[Tensor, "site"],
    importance: Float[Tensor, "site feature"],
    d_hidden: int,
    n_starts: int = 8,
    seed: int = 0,
) -> ExactMinimum:
    """The best W and b of all, as far as descents from random starts find it.

    Args:
        density: p = 1 - S of all features of a site, above 0 and at most 1.
        importance: Of each of at most four features.
        d_hidden: Rows of W.
        n_starts: Descents at each site.
        seed: Of the starts: normal directions of length about 1 and small biases.

    Raises:
        InputError: for shapes that do not fit, more features, or densities out of bounds.
    """
    require_whole("d_hidden", d_hidden, 1)
    require_whole("n_starts", n_starts, 1)
    require(
        density.ndim == 1 and importance.ndim == 2 and len(density) == len(importance),
        "density must be [site] and importance [site, feature]. "
        f"Received {list(density.shape)} and {list(importance.shape)}",
    )
    n_features = importance.shape[1]
    require(
        n_features in _NODES,
        f"exact losses are of at most {max(_NODES)} features. Received {n_features}",
    )
    require(
        bool(((density > 0) & (density <= 1)).all()),
        f"density must lie above 0 and at most at 1. Received {density.tolist()!r:.80}",
    )
    generator = torch.Generator().manual_seed(seed)
    shape = (len(density), n_starts)
    W = torch.randn(*shape, d_hidden * n_features, generator=generator, dtype=density.dtype)
    b = torch.rand(*shape, n_features, generator=generator, dtype=density.dtype)
    starts = torch.cat([W * d_hidden**-0.5, 0.1 * b], -1).to(density.device)

    def unpack(x: Tensor) -> tuple[Tensor, Tensor]:
        W, b = x.split([d_hidden * n_features, n_features], -1)
        return W.unflatten(-1, (d_hidden, n_features)), b

    return descend(unpack, starts, density, importance)


def descend(
    unpack: Unpack,
    starts: Float[Tensor, "site start x"],
    density: Float[Tensor, "site"],
    importance: Float[Tensor, "site feature"],
) -> ExactMinimum:
    """The best model of a family, by descents from given starts.

    Args:
        unpack: What the family is: from x to W and b.
        starts: Where to start at each site.
        density: Of all features of a site.
        importance: Of each feature.
    """
    n_features = importance.shape[1]
    chunk = max(1, _NODES_AT_ONCE // (_NODES[n_features] * starts.shape[1]))
    parts = [
        _descend(unpack, *rows)
        for rows in zip(*(x.split(chunk) for x in (starts, density, importance)), strict=True)
    ]
    fields = zip(*((m.W, m.b, m.loss, m.gradient, m.losses) for m in parts), strict=True)
    return ExactMinimum(*(torch.cat(field) for field in fields))


def _descend(unpack: Unpack, starts: Tensor, density: Tensor, importance: Tensor) -> ExactMinimum:
    def evaluate(
        x: Float[Tensor, "site start x"], sites: Int[Tensor, "site"]
    ) -> tuple[Tensor, Tensor, Tensor]:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            loss = exact_loss(*unpack(x), density[sites, None, None], importance[sites, None])
            (gradient,) = torch.autograd.grad(loss.sum(), x)
        return loss.detach(), gradient, gradient.abs().amax(-1)

    ended = minimise(evaluate, starts, _TOLERANCE, _STEPS)
    sites = torch.arange(len(density), device=density.device)
    losses = evaluate(ended.point, sites)[0]
    best = losses.argmin(1)
    W, b = unpack(ended.point[sites, best])
    return ExactMinimum(W, b, losses[sites, best], ended.largest[sites, best], losses)
