"""Logistic regression, of two classes or more, at many sites and penalties at once.

What is minimised over weights W and intercepts b is scikit-learn's

    J = C · Σ -log p(class of the sample) + ½‖W‖²

with p the sigmoid of one output for two classes and the softmax of one output a class for more; the
intercepts are not penalised. J is convex, strictly so in W, so there is one solution (intercepts of
several classes are given with the sum 0, on which J does not depend).

All sites and all C are minimised together by L-BFGS (Liu & Nocedal 1989), each problem with steps
and an end of its own, in coordinates in which the bound of Böhning & Lindsay 1988 ("Monotonicity of
quadratic-approximation algorithms") on the Hessian, C/4 · XᵀX + I (C/2 for the softmax), is the
identity. The first step is then certain to descend, and ill-conditioned features cost few steps.
Where classes are told apart with certainty the Hessian is far below its bound: of two classes the
true one takes its place after some steps, wherever the end is not reached.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import InterpError, require_number, require_one_of, require_whole
from interp.probes.fit import LinearProbe, ProbeFit, log_probs_of
from interp.probes.given import (
    MAX_BYTES,
    SCALINGS,
    Chunk,
    Features,
    check_features,
    chunks,
    scales,
    site_order,
    variances,
    whole_classes,
)
from interp.probes.lbfgs import minimise
from interp.probes.ridge import gram_matrix
from interp.probes.scores import DEFAULT_BOOTSTRAP, Bootstrap, class_scores
from interp.probes.selection import DEFAULT_CS, checked_grid, choose
from interp.probes.splits import Split

_STEPS = 20  # before the bound on the Hessian of two classes gives way to the Hessian


class ConvergenceError(InterpError, RuntimeError):
    """A fit did not reach its criterion within the steps it was given."""


@torch.no_grad()
def fit_logistic(
    features: Features,
    targets: Int[Tensor, "sample"],
    split: Split,
    Cs: Sequence[float] = DEFAULT_CS,
    *,
    scaling: str = "feature",
    numeric: bool = True,
    tol: float = 1e-8,
    max_iter: int = 500,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    max_bytes: int = MAX_BYTES,
) -> dict[str, ProbeFit]:
    """Fit a logistic regression to the same classes at every site, in fp64.

    Weights are fitted on the training samples, for every C; the one with the least log-loss on the
    validation samples is kept as it is and scored on the test samples.

    Args:
        features: By site; sizes and dtypes may differ between sites.
        targets: Class ids. The classes are those of the training samples.
        split: Which samples are for what.
        Cs: Inverse penalties to choose from. They weigh sums over training samples, as in
            scikit-learn, so twice the samples want half the C.
        scaling: What features are divided by before the penalty counts, as for `fit_ridge`.
        numeric: Whether ids are numbers of something, such as positions, so that the expected one
            has an error and an R².
        tol: A fit has converged when no entry of the gradient of J / (C · samples), with respect to
            weights of the scaled features and intercepts, exceeds this. (The penalty makes J
            1-strongly convex, so weights are then within C · samples · tol · √entries.)
        max_iter: Steps of L-BFGS.
        bootstrap: How intervals of scores are made.
        max_bytes: How much memory the sites that are fitted at once may take.

    Returns:
        By site, in the order given.

    Raises:
        InputError: for features that do not fit the split or are not finite (naming the site),
            targets that are no class ids, fewer than two classes, classes that training lacks, or
            no C or one that is not positive.
        ConvergenceError: where `max_iter` steps are not enough, naming site and C.
    """
    require_one_of("scaling", scaling, SCALINGS)
    require_number("tol", tol)
    require_whole("max_iter", max_iter, 1)
    check_features(features, split)
    grid = checked_grid("Cs", Cs)
    device = next(iter(features.values())).device
    labels, classes = whole_classes(targets, split, device)
    n_outputs = 1 if classes.numel() == 2 else classes.numel()
    given = _Given(labels, classes, grid, scaling, numeric, tol, max_iter, bootstrap)
    found: dict[str, ProbeFit] = {}
    # Beside features: factors of every C, and outputs, residuals and L-BFGS's memory of each.
    for chunk in chunks(
        features,
        split,
        torch.float64,
        max_bytes,
        square=len(grid) + 1,
        per_sample=3 * len(grid) * n_outputs,
        per_dim=30 * len(grid) * n_outputs,
    ):
        for fit in _fit_chunk(chunk, given):
            found[fit.site] = fit
    return {site: found[site] for site in site_order(features, found)}


@dataclass(frozen=True)
class _Given:
    """What all chunks are fitted with."""

    labels: Int[Tensor, "sample"]
    classes: Int[Tensor, "class"]
    Cs: tuple[float, ...]
    scaling: str
    numeric: bool
    tol: float
    max_iter: int
    bootstrap: Bootstrap


def _fit_chunk(chunk: Chunk, given: _Given) -> list[ProbeFit]:
    split, device, Cs = chunk.split, given.labels.device, given.Cs
    y_train, y_validation, y_test = (
        given.labels[split.rows(part, device)] for part in ("train", "validation", "test")
    )
    x, mean = chunk.centred()
    scale = scales(variances(x), mean, given.scaling, chunk.resolution())
    x /= scale[:, None]
    weights, bias = _minimise(x, y_train, given, chunk.sites)
    del x
    weights = weights / scale[:, None, :, None]
    bias = bias - torch.einsum("sd,sado->sao", mean, weights)
    flat = weights.transpose(1, 2).flatten(2)

    x = chunk.part("validation")
    outputs = (x @ flat).unflatten(2, bias.shape[1:]) + bias[:, None]
    log_probs = log_probs_of(outputs)  # [site, sample, C, class]
    at_label = y_validation[None, :, None, None].expand(*log_probs.shape[:3], 1)
    losses = -log_probs.gather(-1, at_label)[..., 0].mean(1)
    at = choose(losses, chunk.sites, simplest_first=True)
    site = torch.arange(len(chunk.sites), device=device)
    weight, bias = weights[site, at], bias[site, at]

    x = chunk.part("test")
    log_probs = log_probs_of(x @ weight + bias[:, None])
    groups = split.groups.to(device)[split.rows("test", device)]
    scores = class_scores(
        log_probs, y_test, given.classes, groups, given.bootstrap, numeric=given.numeric
    )
    chosen, by_C = at.tolist(), losses.tolist()
    return [
        ProbeFit(
            name,
            LinearProbe(weight[i].clone(), bias[i].clone(), given.classes),
            Cs[chosen[i]],
            dict(zip(Cs, by_C[i], strict=True)),
            scores[i],
            mean[i].clone(),
            scale[i].clone(),
        )
        for i, name in enumerate(chunk.sites)
    ]


def _minimise(
    x: Float[Tensor, "site sample dim"],
    labels: Int[Tensor, "sample"],
    given: _Given,
    sites: Sequence[str],
) -> tuple[Float[Tensor, "site C dim output"], Float[Tensor, "site C output"]]:
    """Weights of the scaled features and intercepts, of every C."""
    n_sites, n, dim = x.shape
    n_classes = given.classes.numel()
    binary = n_classes == 2
    n_outputs, bound = (1, 0.25) if binary else (n_classes, 0.5)
    C = x.new_tensor(given.Cs)
    wanted = (
        labels.double()[:, None, None]
        if binary
        else torch.nn.functional.one_hot(labels, n_classes).double()[:, None]
    )  # [sample, 1, output]
    factor = _bounding_factor(x, C, bound)

    def unpacked(u: Tensor, alive: Tensor) -> tuple[Tensor, Tensor]:
        """From L-BFGS's coordinates `[site, C, (dim + 1) output]` to weights and intercepts."""
        u = u.unflatten(2, (dim + 1, n_outputs))
        both = torch.linalg.solve_triangular(factor[alive].mT, u, upper=True)
        return both[:, :, :dim], both[:, :, dim]

    def evaluate(u: Tensor, alive: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """J, its gradient in L-BFGS's coordinates, and the largest entry of its true gradient."""
        weights, bias = unpacked(u, alive)
        some = x if alive.numel() == n_sites else x[alive]
        outputs = (some @ weights.transpose(1, 2).flatten(2)).unflatten(2, (-1, n_outputs))
        outputs += bias[:, None]
        if binary:
            losses = torch.nn.functional.softplus(outputs) - wanted * outputs
            probs = outputs.sigmoid_()
        else:
            log_probs = outputs.log_softmax(-1)
            losses = -(wanted * log_probs)
            probs = log_probs.exp_()
        value = C * losses.sum((1, 3)) + weights.square().sum((2, 3)) / 2
        residual = probs.sub_(wanted).mul_(C[:, None])  # [site, sample, C, output]
        g_bias = residual.sum(1)
        back = some.mT @ residual.flatten(2)
        g_weights = back.unflatten(2, (-1, n_outputs)).transpose(1, 2) + weights
        largest = torch.maximum(g_weights.abs().amax((2, 3)), g_bias.abs().amax(2)) / (C * n)
        both = torch.cat([g_weights, g_bias[:, :, None]], 2)
        gradient = torch.linalg.solve_triangular(factor[alive], both, upper=False).flatten(2)
        return value, gradient, largest

    start = x.new_zeros((n_sites, len(given.Cs), (dim + 1) * n_outputs))
    every = torch.arange(n_sites, device=x.device)
    steps = 0
    while True:
        left = given.max_iter - steps
        found = minimise(evaluate, start, given.tol, min(left, _STEPS) if binary else left)
        steps += found.steps
        weights, bias = unpacked(found.point, every)
        open_ = ~(found.largest <= given.tol)
        at = open_.nonzero().tolist()
        if not at:
            break
        if steps >= given.max_iter or found.steps == 0:
            site, c = at[0]
            raise ConvergenceError(
                f"logistic regression at {sites[site]!r} with C = {given.Cs[c]:g} has a gradient "
                f"of {float(found.largest[site, c]):.1e} > {given.tol:.0e} after {steps} steps: "
                "allow more steps, a greater tol or a smaller C"
            )
        for site, c in at:
            factor[site, c] = _factor(x[site], C[c], weights[site, c, :, 0], bias[site, c, 0])
        both = torch.cat([weights, bias[:, :, None]], 2)
        start = (factor.mT @ both).flatten(2)
    if not binary:
        bias = bias - bias.mean(-1, keepdim=True)
    return weights, bias


def _bounding_factor(
    x: Float[Tensor, "site sample dim"], C: Float[Tensor, "C"], bound: float
) -> Float[Tensor, "site C dim+1 dim+1"]:
    """Cholesky factors of what bounds the Hessian anywhere: features are centred."""
    n_sites, n, dim = x.shape
    penalty = torch.eye(dim, dtype=x.dtype, device=x.device)
    factor = x.new_zeros((n_sites, C.numel(), dim + 1, dim + 1))
    scaled = bound * C[:, None, None] * gram_matrix(x)[:, None]
    factor[:, :, :dim, :dim] = torch.linalg.cholesky(scaled + penalty)
    factor[:, :, dim, dim] = (bound * C * n).sqrt()
    return factor


def _factor(
    x: Float[Tensor, "sample dim"], C: Tensor, weight: Float[Tensor, "dim"], bias: Tensor
) -> Float[Tensor, "dim+1 dim+1"]:
    """The Cholesky factor of the Hessian of two classes at these weights."""
    dim = x.shape[1]
    probs = (x @ weight + bias).sigmoid()
    # Certain samples count a little all the same: the factor must exist, and steps stay bounded.
    curvature = C * (probs * (1 - probs)).clamp_min(1e-6)
    hessian = x.new_zeros((dim + 1, dim + 1))
    hessian[:dim, :dim] = (x * curvature[:, None]).mT @ x
    hessian.diagonal()[:dim] += 1
    hessian[dim, :dim] = hessian[:dim, dim] = curvature @ x
    hessian[dim, dim] = curvature.sum()
    return torch.linalg.cholesky(hessian)
