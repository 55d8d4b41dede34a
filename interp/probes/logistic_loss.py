"""What logistic regression minimises, at many sites and C at once, as L-BFGS likes it.

Coordinates are u = Lᵀw of weights and intercept w, with a Cholesky factor LLᵀ for each site and C
in which the Hessian is near the identity: at first of a bound on it, C/4 · XᵀX + I for the sigmoid
and C/2 · XᵀX + I for the softmax (Böhning & Lindsay 1988, "Monotonicity of quadratic-approximation
algorithms"), then, where asked for, of the Hessian at a point.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import InputError
from interp.probes.ridge import gram_matrix

_LEAST_CURVATURE = 1e-6


Sums = tuple[
    Float[Tensor, "site C"], Float[Tensor, "site C dim output"], Float[Tensor, "site C output"]
]


class LogisticLoss:
    """J = C · Σ -log p(class of the sample) + ½‖W‖², of every site and C.

    Args:
        x: Training samples, centred and scaled.
        labels: Their classes, from 0 on.
        n_classes: How many there are.
        Cs: Inverse penalties.
        sites: Names of the sites.

    Raises:
        InputError: for a C so large that the bound is not positive definite in fp64.
    """

    def __init__(
        self,
        x: Float[Tensor, "site sample dim"],
        labels: Int[Tensor, "sample"],
        n_classes: int,
        Cs: Sequence[float],
        sites: Sequence[str],
    ) -> None:
        self.x, self.C, self.n_samples = x, x.new_tensor(Cs), x.shape[1]
        self.binary = n_classes == 2
        self.n_outputs = 1 if self.binary else n_classes
        self.wanted = (
            labels.double()[:, None, None]
            if self.binary
            else torch.nn.functional.one_hot(labels, n_classes).double()[:, None]
        )  # [sample, 1, output]
        self.factor = bounding_factor(gram_matrix(x), self.n_samples, Cs, self.binary, sites)

    def origin(self) -> Float[Tensor, "site C x"]:
        """Where all weights and intercepts are 0."""
        n_sites, n_C, width, _ = self.factor.shape
        return self.factor.new_zeros((n_sites, n_C, width * self.n_outputs))

    def unpacked(
        self, u: Float[Tensor, "site C x"], at: Int[Tensor, "site"] | None = None
    ) -> tuple[Float[Tensor, "site C dim output"], Float[Tensor, "site C output"]]:
        """Weights and intercepts of points of some sites; of all if none are named."""
        u = u.unflatten(2, (-1, self.n_outputs))
        both = torch.linalg.solve_triangular(_some(self.factor, at).mT, u, upper=True)
        return both[:, :, :-1], both[:, :, -1]

    def evaluate(
        self, u: Float[Tensor, "site C x"], at: Int[Tensor, "site"]
    ) -> tuple[Float[Tensor, "site C"], Float[Tensor, "site C x"], Float[Tensor, "site C"]]:
        """J, its gradient in u, and the largest entry of that of J / (C · samples) in w."""
        weights, bias = self.unpacked(u, at)
        C = self.C
        losses, back, g_bias = self.sums(weights, bias, at)
        value = C * losses + weights.square().sum((2, 3)) / 2
        g_weights = back + weights
        largest = torch.maximum(g_weights.abs().amax((2, 3)), g_bias.abs().amax(2))
        both = torch.cat([g_weights, g_bias[:, :, None]], 2)
        gradient = torch.linalg.solve_triangular(_some(self.factor, at), both, upper=False)
        return value, gradient.flatten(2), largest / (C * self.n_samples)

    def sums(
        self,
        weights: Float[Tensor, "site C dim output"],
        bias: Float[Tensor, "site C output"],
        at: Int[Tensor, "site"],
    ) -> Sums:
        """Over the training samples, at some of the sites: see `loss_sums`."""
        return loss_sums(_some(self.x, at), self.wanted, weights, bias, self.C)

    def use_hessian(
        self, u: Float[Tensor, "site C x"], problems: Sequence[tuple[int, int]]
    ) -> None:
        """Factor the Hessian of two classes at some points, which get their new coordinates there.

        Args:
            u: Of every site and C; changed in place.
            problems: Indices of site and C. The others keep their factors and their u.
        """
        assert self.binary
        for site, c in problems:
            factor = self.factor[site, c]
            w = torch.linalg.solve_triangular(factor.mT, u[site, c, :, None], upper=True)
            made, failed = torch.linalg.cholesky_ex(self.hessian(site, c, w[:, 0]))
            if not failed:  # else rounding has the last word: what there is must do
                factor.copy_(made)
                u[site, c] = (made.mT @ w)[:, 0]

    def hessian(self, site: int, c: int, w: Float[Tensor, "dim+1"]) -> Float[Tensor, "dim+1 dim+1"]:
        """Of two classes, at weights and an intercept, by these."""
        return hessian_at(self.x[site], self.C[c], w)


def loss_sums(
    x: Float[Tensor, "site sample dim"],
    wanted: Float[Tensor, "sample 1 output"],
    weights: Float[Tensor, "site C dim output"],
    bias: Float[Tensor, "site C output"],
    C: Float[Tensor, "C"],
) -> Sums:
    """Σ -log p(class of the sample) over samples; and C times its gradient by weights and bias."""
    n_outputs = bias.shape[-1]
    outputs = (x @ weights.transpose(1, 2).flatten(2)).unflatten(2, (-1, n_outputs))
    outputs += bias[:, None]
    if n_outputs == 1:
        losses = torch.nn.functional.softplus(outputs) - wanted * outputs
        probs = outputs.sigmoid_()
    else:
        log_probs = outputs.log_softmax(-1)
        losses = -(wanted * log_probs)
        probs = log_probs.exp_()
    residual = probs.sub_(wanted).mul_(C[:, None])  # [site, sample, C, output]
    back = x.mT @ residual.flatten(2)
    g_weights = back.unflatten(2, (-1, n_outputs)).transpose(1, 2)
    return losses.sum((1, 3)), g_weights, residual.sum(1)


def _some(of: Float[Tensor, "site ..."], at: Int[Tensor, "site"] | None) -> Tensor:
    """What belongs to some of the sites (ascending), without a copy where these are all."""
    return of if at is None or at.numel() == len(of) else of[at]


def bounding_factor(
    gram: Float[Tensor, "site dim dim"],
    n_samples: int,
    Cs: Sequence[float],
    binary: bool,
    sites: Sequence[str],
) -> Float[Tensor, "site C dim+1 dim+1"]:
    """Cholesky factors of what bounds the Hessian anywhere: features are centred.

    Raises:
        InputError: for a C so large that the bound is not positive definite in fp64.
    """
    n_sites, dim, _ = gram.shape
    bound = 0.25 if binary else 0.5
    factor = gram.new_zeros((n_sites, len(Cs), dim + 1, dim + 1))
    for i, C in enumerate(Cs):
        hessian = bound * C * gram
        hessian.diagonal(dim1=1, dim2=2).add_(1)
        factor[:, i, :dim, :dim], failed = torch.linalg.cholesky_ex(hessian)
        factor[:, i, dim, dim] = (bound * C * n_samples) ** 0.5
        for (site,) in failed.nonzero()[:1].tolist():
            raise InputError(
                "C must be small enough for features that depend on one another. Received "
                f"{C:g} at {sites[site]!r}."
            )
    return factor


def hessian_at(
    x: Float[Tensor, "sample dim"], C: Float[Tensor, ""], w: Float[Tensor, "dim+1"]
) -> Float[Tensor, "dim+1 dim+1"]:
    """The Hessian of two classes at weights and an intercept, the penalty's included."""
    dim = x.shape[1]
    probs = (x @ w[:dim] + w[dim]).sigmoid()
    # Certain samples count a little all the same: the factor must exist, and steps stay bounded.
    curvature = C * (probs * (1 - probs)).clamp_min(_LEAST_CURVATURE)
    hessian = x.new_zeros((dim + 1, dim + 1))
    hessian[:dim, :dim] = gram_matrix(x[None] * curvature.sqrt()[:, None])[0]
    hessian.diagonal()[:dim] += 1
    hessian[dim, :dim] = hessian[:dim, dim] = curvature @ x
    hessian[dim, dim] = curvature.sum()
    return hessian
