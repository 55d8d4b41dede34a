"""Features of a dataset on disk, read some rows at a time: what fits need that do not hold them.

A row of the dataset is a sample. A hook that holds one vector a token is a site by its name; of one
with a vector a head every head is a site, `<hook>.<head>`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import InputError, require, require_whole
from interp.probes.given import scales
from interp.probes.ridge import Moments, gram_matrix
from interp.probes.splits import Split

if TYPE_CHECKING:
    from interp.harvest.dataset import ActivationDataset

BATCH_ROWS = 4096


@dataclass(frozen=True)
class Stream:
    """The rows of a dataset as samples, part by part of a split.

    Attributes:
        data: The dataset.
        split: Of its rows.
        batch_rows: How many rows are read at once.
        device: Where fits compute.

    Raises:
        InputError: for a hook without vectors, no rows to read at once, or a split of another
            number of samples.
    """

    data: ActivationDataset
    split: Split
    batch_rows: int
    device: torch.device

    def __post_init__(self) -> None:
        require_whole("batch_rows", self.batch_rows, 1)
        require(
            self.split.n_samples == len(self.data),
            f"the split must be of the dataset's {len(self.data)} rows. It is of "
            f"{self.split.n_samples}",
        )
        for hook, spec in self.data.specs.items():
            require(
                len(spec.shape) in (1, 2) and min(spec.shape) > 0 and spec.dtype.is_floating_point,
                "probes read hooks with a vector a token, or a head. "
                f"{hook} holds {spec.dtype} {list(spec.shape)}",
            )

    def by_size(self) -> dict[int, list[str]]:
        """The sites with features of each size, in the order of the dataset's hooks."""
        found: dict[int, list[str]] = {}
        for hook, spec in self.data.specs.items():
            *heads, dim = spec.shape
            names = [f"{hook}.{head}" for head in range(heads[0])] if heads else [hook]
            found.setdefault(dim, []).extend(names)
        return found

    def batches(
        self, part: str, sites: Sequence[str]
    ) -> Iterator[tuple[Int[Tensor, "row"], Float[Tensor, "site row dim"]]]:
        """Row numbers on the CPU, ascending, and their features in fp64 at sites of one size.

        Raises:
            InputError: where features are not finite, naming the hook.
        """
        hooks = {site: self._hook(site) for site in sites}
        view = self.data.only(dict.fromkeys(hook for hook, _ in hooks.values()))
        for rows in self.split.rows(part, torch.device("cpu")).sort().values.split(self.batch_rows):
            read = {hook: x.to(self.device) for hook, x in view.read(rows).items()}
            for hook, x in read.items():
                require(
                    bool(x.isfinite().all()),
                    f"features must be finite. Received NaN or infinity at {hook!r}",
                )
            picked = [
                read[hook] if head is None else read[hook][:, head] for hook, head in hooks.values()
            ]
            yield rows, torch.stack([x.double() for x in picked])

    def resolution(self, sites: Sequence[str]) -> Float[Tensor, "site"]:
        """The rounding unit of each site's features as they are stored."""
        dtypes = [self.data.specs[self._hook(site)[0]].dtype for site in sites]
        eps = [torch.finfo(dtype).eps for dtype in dtypes]
        return torch.tensor(eps, dtype=torch.float64, device=self.device)

    def moments(
        self, sites: Sequence[str], y: Float[Tensor, "sample output"], scaling: str
    ) -> Moments:
        """Of the training rows at sites of one size, in one pass; see `interp.probes.ridge`.

        Raises:
            InputError: for no training samples.
        """
        running: _Running | None = None
        for rows, x in self.batches("train", sites):
            of_batch = _Running.of(x, y[rows.to(y.device)])
            running = of_batch if running is None else running.joined(of_batch)
        if running is None:
            raise InputError("there must be training samples. Received none.")
        variance = running.gram.diagonal(dim1=1, dim2=2) / running.n
        scale = scales(variance, running.mean, scaling, self.resolution(sites))
        shrink = 1 / scale
        gram = running.gram * shrink[:, :, None] * shrink[:, None, :]
        cross = running.cross * shrink[..., None]
        return Moments(running.mean, scale, running.y_mean, gram, cross)

    def _hook(self, site: str) -> tuple[str, int | None]:
        if site in self.data.specs:
            return site, None
        hook, _, head = site.rpartition(".")
        return hook, int(head)


@dataclass(frozen=True)
class _Running:
    """Sums of products about the mean, of some samples.

    Chan, Golub & LeVeque 1983, "Algorithms for Computing the Sample Variance": parts are joined
    without the cancellation of sums about zero.
    """

    n: int
    mean: Float[Tensor, "site dim"]
    y_mean: Float[Tensor, "output"]
    gram: Float[Tensor, "site dim dim"]
    cross: Float[Tensor, "site dim output"]

    @classmethod
    def of(cls, x: Float[Tensor, "site row dim"], y: Float[Tensor, "row output"]) -> _Running:
        mean, y_mean = x.mean(1), y.mean(0)
        x = x - mean[:, None]
        return cls(len(y), mean, y_mean, gram_matrix(x), x.mT @ (y - y_mean))

    def joined(self, other: _Running) -> _Running:
        n = self.n + other.n
        weight = self.n * other.n / n
        apart, y_apart = other.mean - self.mean, other.y_mean - self.y_mean
        return _Running(
            n,
            self.mean + apart * (other.n / n),
            self.y_mean + y_apart * (other.n / n),
            self.gram + other.gram + weight * apart[:, :, None] * apart[:, None, :],
            self.cross + other.cross + weight * apart[:, :, None] * y_apart,
        )
