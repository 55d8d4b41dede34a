"""Logistic regression, of two classes or more, at many sites and penalties at once.

What is minimised over weights W and intercepts b is scikit-learn's

    J = C · Σ -log p(class of the sample) + ½‖W‖²

with p the sigmoid of one output for two classes and the softmax of one output a class for more; the
intercepts are not penalised. J is convex, strictly so in W, so there is one solution (intercepts of
several classes are given with the sum 0, on which J does not depend).

All sites and all C are minimised together by L-BFGS (Liu & Nocedal 1989), each problem with steps
and an end of its own, in coordinates in which a bound on the Hessian is the identity (see
`logistic_loss`). The first step is then certain to descend, and ill-conditioned features cost few
steps. Where classes are told apart with certainty the Hessian is far below its bound: of two
classes the true one takes its place after some steps, wherever the end is not reached.
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
    variances,
    whole_classes,
)
from interp.probes.lbfgs import minimise
from interp.probes.logistic_loss import LogisticLoss
from interp.probes.scores import DEFAULT_BOOTSTRAP, Bootstrap, class_scores, of_class
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
            targets that are no class ids, fewer than two classes, classes that training lacks, no
            C or one that is not positive, or a C too large for features that depend on one another.
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
    # Beside features: factors of every C and a copy of those of open sites, XᵀX and a Hessian; and
    # outputs, residuals and L-BFGS's memory of each C.
    for chunk in chunks(
        features,
        split,
        torch.float64,
        max_bytes,
        square=2 * len(grid) + 2,
        per_sample=3 * len(grid) * n_outputs,
        per_dim=30 * len(grid) * n_outputs,
    ):
        for fit in _fit_chunk(chunk, given):
            found[fit.site] = fit
    return {site: found[site] for site in features}


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
    loss = LogisticLoss(x, y_train, given.classes.numel(), Cs, chunk.sites)
    weights, bias = minimise_loss(loss, Cs, chunk.sites, given.tol, given.max_iter)
    del x, loss
    weights = weights / scale[:, None, :, None]
    bias = bias - torch.einsum("sd,sado->sao", mean, weights)
    flat = weights.transpose(1, 2).flatten(2)

    x = chunk.part("validation")
    outputs = (x @ flat).unflatten(2, bias.shape[1:]) + bias[:, None]
    log_probs = log_probs_of(outputs)  # [site, sample, C, class]
    losses = -of_class(log_probs, y_validation).mean(1)
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


def minimise_loss(
    loss: LogisticLoss, Cs: Sequence[float], sites: Sequence[str], tol: float, max_iter: int
) -> tuple[Float[Tensor, "site C dim output"], Float[Tensor, "site C output"]]:
    """Weights of the scaled features and intercepts, of every C.

    Raises:
        ConvergenceError: where `max_iter` steps are not enough, naming site and C.
    """
    point, steps = loss.origin(), 0
    while True:
        left = max_iter - steps
        most = min(left, _STEPS) if loss.binary else left
        found = minimise(loss.evaluate, point, tol, most)
        point, steps = found.point, steps + found.steps
        unfinished = (~(found.largest <= tol)).nonzero().tolist()
        if not unfinished:
            break
        if not loss.binary or steps == max_iter or found.steps == 0:
            site, c = unfinished[0]
            raise ConvergenceError(
                f"logistic regression at {sites[site]!r} with C = {Cs[c]:g} has a gradient "
                f"of {float(found.largest[site, c]):.1e} > {tol:.0e} after {steps} steps: "
                "allow more steps, a greater tol or a smaller C"
            )
        loss.use_hessian(point, unfinished)
    weights, bias = loss.unpacked(point)
    return weights, bias if loss.binary else bias - bias.mean(-1, keepdim=True)
