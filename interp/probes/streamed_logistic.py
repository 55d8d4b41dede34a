"""Logistic regression on a dataset that is read from disk as it goes, the fit of `fit_logistic`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import require_number, require_one_of, require_whole
from interp.probes.fit import LinearProbe, ProbeFit, log_probs_of
from interp.probes.given import SCALINGS, whole_classes
from interp.probes.logistic import minimise_loss
from interp.probes.logistic_loss import LogisticLoss, Sums, bounding_factor, hessian_at, loss_sums
from interp.probes.ridge import Moments
from interp.probes.scores import DEFAULT_BOOTSTRAP, Bootstrap, class_scores, of_class
from interp.probes.selection import DEFAULT_CS, checked_grid, choose
from interp.probes.splits import Split
from interp.probes.streaming import BATCH_ROWS, Stream

if TYPE_CHECKING:
    from interp.harvest.dataset import ActivationDataset


@torch.no_grad()
def fit_logistic_streamed(
    data: ActivationDataset,
    targets: Int[Tensor, "row"],
    split: Split,
    Cs: Sequence[float] = DEFAULT_CS,
    *,
    scaling: str = "feature",
    numeric: bool = True,
    tol: float = 1e-8,
    max_iter: int = 500,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    batch_rows: int = BATCH_ROWS,
    device: torch.device | str = "cpu",
) -> dict[str, ProbeFit]:
    """Fit a logistic regression at every hook of a dataset, some rows at a time, in fp64.

    The solution is that of `fit_logistic`: the loss and its gradient are summed up over batches, so
    every step of L-BFGS reads the training rows once (some tens of times in all). A greater `tol`
    needs fewer.

    Args:
        data: Hooks with a vector a token, or one a head (then each head is a site,
            `<hook>.<head>`).
        targets: Class ids, for every row of the dataset.
        split: Of all its rows; `data.rows.column("sequence")` or `("document")` are the groups.
        Cs, scaling, numeric, tol, max_iter, bootstrap: As for `fit_logistic`.
        batch_rows: How many rows are read at once.
        device: Where to compute.

    Returns:
        By site.

    Raises:
        InputError: as `fit_logistic`, and for a hook without vectors.
        ConvergenceError: where `max_iter` steps are not enough, naming site and C.
    """
    require_one_of("scaling", scaling, SCALINGS)
    require_number("tol", tol)
    require_whole("max_iter", max_iter, 1)
    stream = Stream(data, split, batch_rows, torch.device(device))
    grid = checked_grid("Cs", Cs)
    labels, classes = whole_classes(targets, split, stream.device)
    found: dict[str, ProbeFit] = {}
    for sites in stream.by_size().values():
        known = stream.moments(sites, labels.double()[:, None], scaling)
        loss = _StreamedLoss(stream, sites, known, labels, classes.numel(), grid)
        weights, bias = minimise_loss(loss, grid, sites, tol, max_iter)
        weights = weights / known.scale[:, None, :, None]
        bias = bias - torch.einsum("sd,sado->sao", known.mean, weights)
        losses = _losses(stream, sites, labels, weights, bias)
        at = choose(losses, sites, simplest_first=True)
        site = torch.arange(len(sites), device=stream.device)
        weight, offset = weights[site, at], bias[site, at]
        parts = [
            (rows, log_probs_of(x @ weight + offset[:, None]))
            for rows, x in stream.batches("test", sites)
        ]
        rows = torch.cat([some for some, _ in parts]).to(stream.device)
        scores = class_scores(
            torch.cat([some for _, some in parts], 1), labels[rows], classes,
            split.groups.to(stream.device)[rows], bootstrap, numeric=numeric,
        )  # fmt: skip
        for i, name in enumerate(sites):
            found[name] = ProbeFit(
                name,
                LinearProbe(weight[i].clone(), offset[i].clone(), classes),
                grid[int(at[i])],
                dict(zip(grid, losses[i].tolist(), strict=True)),
                scores[i],
                known.mean[i].clone(),
                known.scale[i].clone(),
            )
    return found


class _StreamedLoss(LogisticLoss):
    """The loss over training rows that are read anew whenever it is evaluated."""

    def __init__(
        self,
        stream: Stream,
        sites: Sequence[str],
        known: Moments,
        labels: Int[Tensor, "row"],
        n_classes: int,
        Cs: Sequence[float],
    ) -> None:
        self.stream, self.sites, self.known = stream, sites, known
        self.labels, self.n_classes = labels, n_classes
        self.C, self.n_samples = known.gram.new_tensor(Cs), stream.split.train.numel()
        self.binary = n_classes == 2
        self.n_outputs = 1 if self.binary else n_classes
        self.factor = bounding_factor(known.gram, self.n_samples, Cs, self.binary, sites)

    def sums(
        self,
        weights: Float[Tensor, "site C dim output"],
        bias: Float[Tensor, "site C output"],
        at: Int[Tensor, "site"],
    ) -> Sums:
        """Over the training rows, at some of the sites."""
        found: Sums | None = None
        for rows, x in self._batches(at.tolist()):
            labels = self.labels[rows.to(self.labels.device)]
            wanted = (
                labels.double()[:, None, None]
                if self.binary
                else torch.nn.functional.one_hot(labels, self.n_classes).double()[:, None]
            )
            more = loss_sums(x, wanted, weights, bias, self.C)
            found = more if found is None else tuple(map(torch.add, found, more))  # type: ignore[assignment]
        assert found is not None  # a split has training samples
        return found

    def hessian(self, site: int, c: int, w: Float[Tensor, "dim+1"]) -> Float[Tensor, "dim+1 dim+1"]:
        """Of two classes, at weights and an intercept."""
        parts = [hessian_at(x[0], self.C[c], w) for _, x in self._batches([site])]
        total = torch.stack(parts).sum(0)
        total.diagonal()[:-1] -= len(parts) - 1  # the penalty's counts once
        return total

    def _batches(self, at: Sequence[int]) -> Iterator[tuple[Tensor, Tensor]]:
        """Row numbers, and features centred and scaled at some of the sites."""
        mean, scale = (x[at][:, None] for x in (self.known.mean, self.known.scale))
        for rows, x in self.stream.batches("train", [self.sites[i] for i in at]):
            yield rows, (x - mean) / scale


def _losses(
    stream: Stream,
    sites: Sequence[str],
    labels: Int[Tensor, "row"],
    weights: Float[Tensor, "site C dim output"],
    bias: Float[Tensor, "site C output"],
) -> Float[Tensor, "site C"]:
    """Log-losses of every C on the validation rows."""
    total, n = bias.new_zeros(bias.shape[:2]), 0
    for rows, x in stream.batches("validation", sites):
        flat = weights.transpose(1, 2).flatten(2)
        outputs = (x @ flat).unflatten(2, bias.shape[1:]) + bias[:, None]
        total -= of_class(log_probs_of(outputs), labels[rows.to(labels.device)]).sum(1)
        n += len(rows)
    return total / n
