"""How many directions tell classes (such as positions) apart: discriminants of growing rank.

Penalised discriminant analysis (Hastie, Buja & Tibshirani 1995, "Penalized Discriminant Analysis",
by optimal scoring): ridge regression of class indicators on the features, each indicator divided by
the root of its class's share, and the eigenvectors of what it explains. The r leading ones are the
r directions along which class means lie furthest apart for the spread within classes (with the
penalty counted to that spread), and the reduced-rank ridge regression of rank r. For α → 0 this is
Fisher's linear discriminant analysis with r components.

With Ỹ the scaled and centred indicators of n samples, W = (XᵀX + αI)⁻¹XᵀỸ and M = ỸᵀXW/n = V ρ² Vᵀ
(ρ² are squared canonical correlations), the discriminants are XWV, each divided by √(ρ²(1 - ρ²)),
which makes its spread within classes 1. A sample belongs to class k with the log-probability
log(share of k) - ½ Σ(its discriminants - their mean in class k)² + constant, summed over r of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import require_one_of
from interp.probes.curves import Curve, checked_sizes, powers_of_two
from interp.probes.given import (
    MAX_BYTES,
    SCALINGS,
    Chunk,
    Features,
    check_features,
    chunks,
    whole_classes,
)
from interp.probes.ridge import Moments, moments, solve_ridge
from interp.probes.scores import DEFAULT_BOOTSTRAP, Bootstrap, class_scores, of_class
from interp.probes.selection import DEFAULT_ALPHAS, checked_grid, choose
from interp.probes.splits import Split

_LEAST = 1e-12  # of ρ² and 1 - ρ²: below are rounding errors


@torch.no_grad()
def fit_low_rank(
    features: Features,
    targets: Int[Tensor, "sample"],
    split: Split,
    alphas: Sequence[float] = DEFAULT_ALPHAS,
    *,
    ranks: tuple[int, ...] | None = None,
    scaling: str = "feature",
    numeric: bool = True,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    max_bytes: int = MAX_BYTES,
) -> dict[str, Curve]:
    """Scores of discriminants of growing rank, against the rank.

    α is chosen at each site by the log-loss of the full rank on the validation samples, and kept
    for all ranks.

    Args:
        features: By site.
        targets: Class ids, such as positions. The classes are those of the training samples.
        split: Which samples are for what.
        alphas: Penalties to choose from, as for `fit_ridge`.
        ranks: To score, of which those above a site's full rank are left out. The full rank is the
            number of classes less one, or the site's size. None: powers of two and the full rank.
        scaling: As for `fit_ridge`.
        numeric: Whether ids are numbers of something, such as positions, so that the expected one
            has an error and an R².
        bootstrap: How intervals of scores are made.
        max_bytes: How much memory the sites that are fitted at once may take.

    Returns:
        By site, in the order given, with `mae`, `r2`, `accuracy` and `log_loss` as of
        `class_scores`; `directions(r)` spans what rank r reads, in the space of the features.

    Raises:
        InputError: as `fit_logistic`, or for ranks that are no whole numbers from 1 on.
    """
    require_one_of("scaling", scaling, SCALINGS)
    ranks = checked_sizes("ranks", ranks)
    check_features(features, split)
    grid = checked_grid("alphas", alphas)
    device = next(iter(features.values())).device
    labels, classes = whole_classes(targets, split, device)
    found: dict[str, Curve] = {}
    n_classes = classes.numel()
    for chunk in chunks(
        features,
        split,
        torch.float64,
        max_bytes,
        per_sample=3 * n_classes,
        per_dim=(len(grid) + 2) * n_classes,
    ):
        full = min(n_classes - 1, chunk.dim)
        wanted = powers_of_two(full) if ranks is None else ranks
        wanted = tuple(r for r in wanted if r <= full) or (full,)
        given = _Given(labels, classes, grid, wanted, full, scaling, numeric, bootstrap)
        for curve in _fit_chunk(chunk, given):
            found[curve.site] = curve
    return {site: found[site] for site in features}


@dataclass(frozen=True)
class _Given:
    labels: Int[Tensor, "sample"]
    classes: Int[Tensor, "class"]
    alphas: tuple[float, ...]
    ranks: tuple[int, ...]
    full: int
    scaling: str
    numeric: bool
    bootstrap: Bootstrap


@dataclass(frozen=True)
class Discriminants:
    """Directions that tell classes apart, the most telling first.

    Attributes:
        weight: Of the features as they are; the spread within classes is 1 along each.
        bias: Such that the discriminants' mean over training samples is 0.
        means: Of each class's training samples.
        log_shares: Log of each class's share of the training samples.
    """

    weight: Float[Tensor, "site dim rank"]
    bias: Float[Tensor, "site rank"]
    means: Float[Tensor, "site class rank"]
    log_shares: Float[Tensor, "class"]

    def log_probs(
        self, x: Float[Tensor, "site sample dim"], ranks: Sequence[int]
    ) -> list[Float[Tensor, "site sample class"]]:
        """Of each class, from the first r discriminants, for each r (ascending)."""
        z = x @ self.weight + self.bias[:, None]
        made, start = [], 0
        total = self.log_shares.expand(*z.shape[:2], -1)
        for rank in ranks:
            some = slice(start, rank)
            ours, means = z[..., some], self.means[..., some]
            # ½(z - m)² less ½z², which all classes share
            total = total + ours @ means.mT - means.square().sum(-1)[:, None] / 2
            made.append(total.log_softmax(-1))
            start = rank
        return made


def _fit_chunk(chunk: Chunk, given: _Given) -> list[Curve]:
    split, device = chunk.split, given.labels.device
    n_classes = given.classes.numel()
    train = given.labels[split.rows("train", device)]
    counts = train.bincount(minlength=n_classes).double()
    shares = counts / train.numel()
    indicators = torch.nn.functional.one_hot(given.labels, n_classes).double() / shares.sqrt()
    known = moments(chunk, indicators, given.scaling)
    weights = solve_ridge(known.gram, known.cross, given.alphas, chunk.sites)

    y = given.labels[split.rows("validation", device)]
    x = chunk.part("validation")
    losses = []
    for i in range(len(given.alphas)):
        made = discriminants(known, weights[:, i], shares, train.numel(), given.full)
        (log_probs,) = made.log_probs(x, (given.full,))
        losses.append(-of_class(log_probs, y).mean(1))
    at = choose(torch.stack(losses, 1), chunk.sites, simplest_first=False)
    site = torch.arange(len(chunk.sites), device=device)
    made = discriminants(known, weights[site, at], shares, train.numel(), given.full)

    rows = split.rows("test", device)
    y, groups = given.labels[rows], split.groups.to(device)[rows]
    ranks = tuple(sorted({*given.ranks, given.full}))
    by_rank = {
        rank: class_scores(
            log_probs, y, given.classes, groups, given.bootstrap, numeric=given.numeric
        )
        for rank, log_probs in zip(ranks, made.log_probs(chunk.part("test"), ranks), strict=True)
    }
    alpha = [given.alphas[i] for i in at.tolist()]
    return [
        Curve(
            name,
            given.ranks,
            tuple(by_rank[rank][i] for rank in given.ranks),
            by_rank[given.full][i],
            alpha[i],
            made.weight[i].mT.contiguous(),
        )
        for i, name in enumerate(chunk.sites)
    ]


def discriminants(
    known: Moments,
    weights: Float[Tensor, "site dim class"],
    shares: Float[Tensor, "class"],
    n: int,
    rank: int,
) -> Discriminants:
    """The leading discriminants, from the ridge regression of scaled indicators.

    Args:
        known: Of n training samples.
        weights: Of the scaled features.
        shares: Of each class.
        n: How many training samples there were.
        rank: How many discriminants to make.
    """
    explained = weights.mT @ known.cross / n
    sizes, vectors = torch.linalg.eigh((explained + explained.mT) / 2)
    sizes, vectors = sizes.flip(1)[:, :rank], vectors.flip(2)[..., :rank]
    # A direction that explains nothing has no spread to be divided by: it is left out as zeros.
    real = sizes > _LEAST
    spread = (sizes * (1 - sizes).clamp(min=_LEAST)).clamp(min=0).sqrt()
    inverse = torch.where(real, 1 / spread, 0.0)
    scaled = weights @ vectors * inverse[:, None]
    # XᵀỸ / n is the class means of X times the roots of the shares.
    means = (known.cross.mT @ scaled) / n / shares.sqrt()[:, None]
    weight = scaled / known.scale[..., None]
    bias = -(known.mean[:, None] @ weight)[:, 0]
    return Discriminants(weight, bias, means, shares.log())
