"""Ridge regression at many sites at once, in closed form.

With features centred and scaled, the weights of the penalty α solve (XᵀX + αI) W = XᵀY, which
minimises ‖Y - XW‖² + α‖W‖² (Hoerl & Kennard 1970, "Ridge Regression"; scikit-learn's `Ridge`). XᵀX
is made once for a site and serves every α and every output; the intercept is not penalised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import InputError, require, require_one_of
from interp.probes.fit import LinearProbe, ProbeFit
from interp.probes.given import (
    MAX_BYTES,
    SCALINGS,
    Chunk,
    Features,
    check_features,
    chunks,
    numbers,
    scales,
)
from interp.probes.scores import DEFAULT_BOOTSTRAP, Bootstrap, regression_scores
from interp.probes.selection import DEFAULT_ALPHAS, checked_grid, choose
from interp.probes.splits import Split

_WIDE = 256  # dims from which on half of XᵀX is worth not computing
_BLOCK = 192


@torch.no_grad()
def fit_ridge(
    features: Features,
    targets: Float[Tensor, "sample"] | Float[Tensor, "sample output"],
    split: Split,
    alphas: Sequence[float] = DEFAULT_ALPHAS,
    *,
    scaling: str = "feature",
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    dtype: torch.dtype = torch.float64,
    max_bytes: int = MAX_BYTES,
) -> dict[str, ProbeFit]:
    """Fit a ridge regression to the same targets at every site.

    Weights are fitted on the training samples, for every α; the one with the least mean squared
    error on the validation samples is kept as it is (it is not fitted again with those), and scored
    on the test samples. A site's result does not depend on which others there are.

    Args:
        features: By site; sizes and dtypes may differ between sites.
        targets: Numbers; several outputs share the α.
        split: Which samples are for what.
        alphas: Penalties to choose from. They weigh against sums over training samples, as in
            scikit-learn, so twice the samples want twice the α.
        scaling: What features are divided by before the penalty counts: `feature`, each one's
            standard deviation, so that one grid serves sites of every scale; `site`, one number a
            site, which leaves rotations of its space without effect; `none`.
        bootstrap: How intervals of scores are made.
        dtype: What to compute in. In fp32 the weights of small α are those of rounding errors.
        max_bytes: How much memory the sites that are fitted at once may take.

    Returns:
        By site, in the order given.

    Raises:
        InputError: for features or targets that do not fit the split or are not finite (naming the
            site), no α or one that is not positive, or an α too small for features that depend on
            one another.
    """
    together = fit_ridges(
        features,
        {"": targets},
        split,
        alphas,
        scaling=scaling,
        bootstrap=bootstrap,
        dtype=dtype,
        max_bytes=max_bytes,
    )
    return together[""]


@torch.no_grad()
def fit_ridges(
    features: Features,
    targets: Mapping[str, Float[Tensor, "sample"] | Float[Tensor, "sample output"]],
    split: Split,
    alphas: Sequence[float] = DEFAULT_ALPHAS,
    *,
    scaling: str = "feature",
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    dtype: torch.dtype = torch.float64,
    max_bytes: int = MAX_BYTES,
) -> dict[str, dict[str, ProbeFit]]:
    """Fit ridge regressions to several targets, such as the true ones and controls.

    Each target has the fits that `fit_ridge` gives it alone, with an α of its own at each site; XᵀX
    and its factorisations are made once for all of them.

    Args:
        features: By site.
        targets: Numbers, by name.
        split, alphas, scaling, bootstrap, dtype, max_bytes: As for `fit_ridge`.

    Returns:
        By target and site, in the orders given.

    Raises:
        InputError: as `fit_ridge`, or for no targets.
    """
    require_one_of("scaling", scaling, SCALINGS)
    check_features(features, split)
    grid = checked_grid("alphas", alphas)
    require(len(targets) > 0, "targets must hold at least one. Received none")
    device = next(iter(features.values())).device
    columns = {name: numbers(y, split, device) for name, y in targets.items()}
    found: dict[str, dict[str, ProbeFit]] = {name: {} for name in targets}
    many = len(grid) * sum(y.shape[1] for y in columns.values())
    for chunk in chunks(features, split, dtype, max_bytes, per_sample=many, per_dim=2 * many):
        known = moments(chunk, torch.cat(list(columns.values()), 1), scaling)
        chosen = choose_ridges(chunk, known, list(columns.values()), grid)
        x = chunk.part("test")
        for (name, y), of_target in zip(columns.items(), chosen, strict=True):
            one_target = targets[name].ndim == 1
            for fit in _fits(chunk, x, known, y, of_target, grid, bootstrap, one_target):
                found[name][fit.site] = fit
    return {name: {site: fits[site] for site in features} for name, fits in found.items()}


@dataclass(frozen=True)
class Moments:
    """What training samples are to a fit in closed form, features centred and scaled.

    Attributes:
        mean, scale: Of each feature.
        y_mean: Of each output.
        gram: XᵀX.
        cross: XᵀY, Y centred.
    """

    mean: Float[Tensor, "site dim"]
    scale: Float[Tensor, "site dim"]
    y_mean: Float[Tensor, "output"]
    gram: Float[Tensor, "site dim dim"]
    cross: Float[Tensor, "site dim output"]

    def unscaled(
        self, weights: Float[Tensor, "site option dim output"]
    ) -> tuple[Float[Tensor, "site option dim output"], Float[Tensor, "site option output"]]:
        """Weights of the features as they are, and the intercepts that go with them."""
        weights = weights / self.scale[:, None, :, None]
        return weights, self.y_mean - torch.einsum("sd,sado->sao", self.mean, weights)


def moments(chunk: Chunk, y: Float[Tensor, "sample output"], scaling: str) -> Moments:
    """Of the training samples, in fp64 whatever the chunk's dtype."""
    x, mean = chunk.centred()
    y = y[chunk.split.rows("train", y.device)]
    y_mean, n = y.mean(0), y.shape[0]
    gram = gram_matrix(x).double()
    cross = (x.mT @ (y - y_mean).to(x.dtype)).double()
    del x
    variance = gram.diagonal(dim1=1, dim2=2) / n
    scale = scales(variance, mean, scaling, chunk.resolution())
    shrink = 1 / scale
    gram *= shrink[:, :, None]
    gram *= shrink[:, None, :]
    return Moments(mean.double(), scale, y_mean, gram, cross * shrink[..., None])


@dataclass(frozen=True)
class ChosenRidge:
    """Of each site, the α with the least validation loss.

    Attributes:
        at: Its index.
        losses: Mean squared errors on the validation samples.
        weight, bias: Of the features as they are.
    """

    at: Int[Tensor, "site"]
    losses: Float[Tensor, "site alpha"]
    weight: Float[Tensor, "site dim output"]
    bias: Float[Tensor, "site output"]


def choose_ridges(
    chunk: Chunk,
    known: Moments,
    targets: Sequence[Float[Tensor, "sample output"]],
    alphas: Sequence[float],
) -> list[ChosenRidge]:
    """Fit every α, and keep for each target the one that predicts the validation samples best.

    Args:
        chunk: The sites.
        known: Of all outputs of the targets, one target's after the other's.
        targets: Those.
        alphas: Ascending.
    """
    weights = solve_ridge(known.gram, known.cross, alphas, chunk.sites)
    weights, bias = known.unscaled(weights)
    wanted = torch.cat(list(targets), 1)[chunk.split.rows("validation", weights.device)]
    guessed = linear(chunk.part("validation"), weights, bias)
    losses = guessed.sub_(wanted[:, None]).square().mean(1)  # [site, alpha, output]
    site = torch.arange(len(chunk.sites), device=weights.device)
    found, start = [], 0
    for y in targets:
        some = slice(start, start + y.shape[1])
        of_target = losses[..., some].mean(2)
        at = choose(of_target, chunk.sites, simplest_first=False)
        found.append(
            ChosenRidge(at, of_target, weights[site, at][..., some], bias[site, at][..., some])
        )
        start = some.stop
    return found


def _fits(
    chunk: Chunk,
    x: Float[Tensor, "site test dim"],
    known: Moments,
    y: Float[Tensor, "sample output"],
    chosen: ChosenRidge,
    alphas: tuple[float, ...],
    bootstrap: Bootstrap,
    one_target: bool,
) -> list[ProbeFit]:
    rows = chunk.split.rows("test", y.device)
    guessed = linear(x, chosen.weight[:, None], chosen.bias[:, None])[:, :, 0]
    groups = chunk.split.groups.to(y.device)[rows]
    scores = regression_scores(guessed, y[rows], groups, bootstrap)
    at, losses = chosen.at.tolist(), chosen.losses.tolist()
    return [
        ProbeFit(
            site,
            LinearProbe(chosen.weight[i].clone(), chosen.bias[i].clone(), None, one_target),
            alphas[at[i]],
            dict(zip(alphas, losses[i], strict=True)),
            scores[i],
            known.mean[i].clone(),
            known.scale[i].clone(),
        )
        for i, site in enumerate(chunk.sites)
    ]


def gram_matrix(x: Float[Tensor, "site sample dim"]) -> Float[Tensor, "site dim dim"]:
    """XᵀX of each site. Of wide ones only blocks on and above the diagonal are computed."""
    dim = x.shape[-1]
    if dim < _WIDE:
        return x.mT @ x
    gram = x.new_empty((x.shape[0], dim, dim))
    for start in range(0, dim, _BLOCK):
        rows = slice(start, min(start + _BLOCK, dim))
        made = x[..., rows].mT @ x[..., start:]
        gram[:, rows, start:] = made
        gram[:, start:, rows] = made.mT
    return gram


def solve_ridge(
    gram: Float[Tensor, "site dim dim"],
    cross: Float[Tensor, "site dim output"],
    alphas: Sequence[float],
    sites: Sequence[str],
) -> Float[Tensor, "site alpha dim output"]:
    """The weights of each penalty, by Cholesky factorisations.

    One eigendecomposition would serve all penalties, but costs as much as nine factorisations at
    768 dims on one core and fifteen at 64, and far more on a GPU.

    Raises:
        InputError: where XᵀX + αI is not positive definite in floating-point numbers.
    """
    dim = gram.shape[-1]
    identity = torch.eye(dim, dtype=gram.dtype, device=gram.device)
    made, failed = [], []
    for alpha in alphas:
        factor, info = torch.linalg.cholesky_ex(torch.add(gram, identity, alpha=alpha))
        made.append(torch.cholesky_solve(cross, factor))
        failed.append(info)
    bad = torch.stack(failed, 1).nonzero()[:1].tolist()
    for site, alpha_at in bad:
        raise InputError(
            f"alpha must be large enough for features that depend on one another. Received "
            f"{alphas[alpha_at]:g} at {sites[site]!r}."
        )
    return torch.stack(made, 1)


def linear(
    x: Float[Tensor, "site sample dim"],
    weights: Float[Tensor, "site alpha dim output"],
    bias: Float[Tensor, "site alpha output"],
) -> Float[Tensor, "site sample alpha output"]:
    """What linear maps give, in fp64."""
    flat = weights.transpose(1, 2).flatten(2)  # [site, dim, alpha output]
    product = (x @ flat.to(x.dtype)).double()
    return product.unflatten(2, bias.shape[1:]) + bias[:, None]
