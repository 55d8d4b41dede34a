"""How good predictions are: MAE, R² and accuracy, with intervals by bootstrap over sequences.

What is resampled are whole sequences (groups), as they were drawn; tokens of one sequence are not
independent, and resampling them would give intervals that are too narrow. Every score is a function
of sums over samples, so the sums of each sequence are all a resample needs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import require, require_whole


@dataclass(frozen=True)
class Estimate:
    """A number and an interval around it; NaN where it is not defined.

    Attributes:
        value: On all test samples.
        low, high: Ends of the percentile interval over resampled sequences.
    """

    value: float
    low: float
    high: float


Scores = dict[str, Estimate]


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are made.

    Attributes:
        n: How many times the sequences are drawn again, with replacement.
        level: Of the interval: 0.95 leaves out 2.5 % of the resamples at each end.
        seed: Of the draws, which are the same for all sites.

    Raises:
        InputError: for fewer than two draws, or a level outside 0 … 1.
    """

    n: int = 1000
    level: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        require_whole("n", self.n, 2)
        require_whole("seed", self.seed, 0)
        require(0 < self.level < 1, f"level must lie between 0 and 1. Received {self.level!r}")

    def counts(self, n_groups: int, device: torch.device) -> Float[Tensor, "draw group"]:
        """How often each group is in each draw; row sums are the number of groups."""
        generator = torch.Generator().manual_seed(self.seed)
        drawn = torch.randint(n_groups, (self.n, n_groups), generator=generator)
        counts = torch.zeros(self.n, n_groups, dtype=torch.float64)
        counts.scatter_add_(1, drawn, torch.ones_like(counts))
        return counts.to(device)


DEFAULT_BOOTSTRAP = Bootstrap()


@torch.no_grad()
def regression_scores(
    predicted: Float[Tensor, "site sample output"],
    targets: Float[Tensor, "sample output"],
    groups: Int[Tensor, "sample"],
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
) -> list[Scores]:
    """MAE, R² and accuracy of predicted numbers, at each site.

    `mae` is the mean of |predicted - target| over samples and outputs, in the target's units. `r2`
    is 1 - Σ(target - predicted)² / Σ(target - mean)², both sums over samples and outputs, the mean
    of each output over the (re)sampled samples; NaN where targets do not vary. `accuracy` is the
    share of samples all of whose predictions, rounded, equal their targets; NaN where targets are
    not all whole numbers.

    Args:
        predicted: At each site.
        targets: What they should be.
        groups: Which sequence each sample is of.
        bootstrap: How the intervals are made.

    Returns:
        Of each site `mae`, `r2` and `accuracy`.
    """
    y = targets.double()
    p = predicted.double()
    missed = (p - y).abs()
    sums = [missed.mean(-1), missed.square().sum(-1)]
    if bool((y == y.round()).all()):
        sums.append((p.round() == y).all(-1).double())
    else:
        sums.append(torch.full_like(sums[0], torch.nan))
    return _with_intervals(("mae", "r2", "accuracy"), sums, y, groups, bootstrap)


@torch.no_grad()
def class_scores(
    log_probs: Float[Tensor, "site sample class"],
    targets: Int[Tensor, "sample"],
    classes: Int[Tensor, "class"],
    groups: Int[Tensor, "sample"],
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    *,
    numeric: bool = True,
) -> list[Scores]:
    """Accuracy and log-loss of predicted classes, and MAE and R² of the class expected.

    `accuracy` is the share of samples whose likeliest class is theirs (the first of equal ones);
    `log_loss` the mean of -log(probability of the right class), in nats; `mae` and `r2` are those
    of the expectation Σ probability · class id, as if it were a prediction of the id.

    Args:
        log_probs: Of each class, at each site.
        targets: Which class each sample is of: its index in `classes`.
        classes: The id of each class.
        groups: Which sequence each sample is of.
        bootstrap: How the intervals are made.
        numeric: Whether ids are numbers of something, such as positions. Else mae and r2 are NaN.

    Returns:
        Of each site `mae`, `r2`, `accuracy` and `log_loss`.
    """
    log_probs = log_probs.double()
    y = classes[targets].double()[:, None]
    right = of_class(log_probs, targets)
    hit = (log_probs.argmax(-1) == targets).double()
    missed = (log_probs.exp() @ classes.double() - y[:, 0]).abs()
    if not numeric:
        missed = torch.full_like(missed, torch.nan)
    names = ("mae", "r2", "accuracy", "log_loss")
    return _with_intervals(names, [missed, missed.square(), hit, -right], y, groups, bootstrap)


def of_class(
    log_probs: Float[Tensor, "site sample *option class"], targets: Int[Tensor, "sample"]
) -> Float[Tensor, "site sample *option"]:
    """The log-probability of each sample's own class."""
    at = targets.reshape(-1, *[1] * (log_probs.ndim - 2))
    return log_probs.gather(-1, at.expand(*log_probs.shape[:-1], 1))[..., 0]


def _with_intervals(
    names: tuple[str, ...],
    sums: list[Float[Tensor, "site sample"]],
    y: Float[Tensor, "sample output"],
    groups: Int[Tensor, "sample"],
    bootstrap: Bootstrap,
) -> list[Scores]:
    """Scores from what is to be summed over samples: means, but R² from squares and from y."""
    member = groups.to(y.device).unique(return_inverse=True)[1]
    n_groups = int(member.max()) + 1
    counts = bootstrap.counts(n_groups, y.device)
    counts = torch.cat([torch.ones_like(counts[:1]), counts])  # first all groups once
    of_groups = torch.stack(sums, -1).transpose(0, 1)  # [sample, site, sum]
    summed = _grouped(of_groups.flatten(1), member, n_groups)
    drawn = (counts @ summed).unflatten(1, of_groups.shape[1:])
    centred = y - y.mean(0)  # so that the variance below loses no digits
    n, first, second = (
        counts @ _grouped(x, member, n_groups)
        for x in (torch.ones_like(y[:, :1]), centred, centred.square())
    )
    varied = (second - first.square() / n).sum(1)
    # One value in all samples leaves rounding errors only.
    floor = 1e-12 * second.sum(1) + 1e-300
    varied = torch.where(varied > floor, varied, torch.nan)
    by_name = [drawn[..., i] / n for i in range(len(names))]
    by_name[1] = 1 - drawn[..., 1] / varied[:, None]
    values = torch.stack(by_name, -1)  # [draw, site, name]
    ends = values.new_tensor([0.5 - bootstrap.level / 2, 0.5 + bootstrap.level / 2])
    # A draw of sequences that happen not to vary has no R²; it is left out.
    quantiles = torch.nanquantile(values[1:], ends, dim=0)
    rows = torch.stack([values[0], *quantiles], -1).tolist()
    return [{k: Estimate(*v) for k, v in zip(names, row, strict=True)} for row in rows]


def _grouped(x: Float[Tensor, "sample n"], member: Tensor, n_groups: int) -> Tensor:
    return x.new_zeros((n_groups, x.shape[1])).index_add_(0, member, x)
