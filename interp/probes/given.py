"""What a fit is given: features by site, checked, and stacked in chunks of sites of one size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from interp.errors import InputError, require, require_one_of, require_whole
from interp.probes.splits import Split

Features = Mapping[str, Float[Tensor, "sample dim"]]

MAX_BYTES = 1 << 28
SCALINGS = ("feature", "site", "none")


def check_features(features: Features, split: Split) -> None:
    """Refuse features that no probe can be fitted to.

    Raises:
        InputError: for no site at all, or one whose features are not `[sample, dim]` real numbers,
            not as many as the split has samples, not on the first site's device, or not finite.
    """
    require(len(features) > 0, "features must hold at least one site. Received none")
    device = next(iter(features.values())).device
    n = split.n_samples
    for site, x in features.items():
        fits = x.ndim == 2 and x.is_floating_point() and x.shape[1] > 0
        require(
            fits,
            f"features must be real numbers [sample, dim]. Received {x.dtype} {list(x.shape)} at "
            f"{site!r}",
        )
        require(
            x.shape[0] == n,
            f"features must have a row for each of the {n} samples. Received {x.shape[0]} at "
            f"{site!r}",
        )
        require(
            x.device == device,
            f"features must lie on one device, here {device}. Received {x.device} at {site!r}",
        )
    # One sum a site, read together: what is not finite stays so. A sum may overflow, too.
    sums = [x.sum(dtype=torch.promote_types(x.dtype, torch.float32)) for x in features.values()]
    finite = torch.stack([total.isfinite() for total in sums]).tolist()
    for (site, x), is_finite in zip(features.items(), finite, strict=True):
        require(
            is_finite or bool(x.isfinite().all()),
            f"features must be finite. Received NaN or infinity at {site!r}",
        )


def check_samples(name: str, targets: Shaped[Tensor, "sample *output"], split: Split) -> None:
    """Refuse targets without a row for each sample.

    Raises:
        InputError: if so.
    """
    n = split.n_samples
    require(
        targets.ndim in (1, 2) and targets.shape[0] == n and targets.numel() > 0,
        f"{name} must be [sample] or [sample, output], for {n} samples. "
        f"Received {list(targets.shape)}",
    )


def numbers(
    targets: Shaped[Tensor, "sample *output"], split: Split, device: torch.device
) -> Float[Tensor, "sample output"]:
    """Targets of a regression, as fp64 with an axis for outputs.

    Raises:
        InputError: for another shape, or targets that are not finite.
    """
    check_samples("targets", targets, split)
    require(not targets.is_complex(), f"targets must be real numbers. Received {targets.dtype}")
    y = targets.to(device, torch.float64).reshape(targets.shape[0], -1)
    require(bool(y.isfinite().all()), "targets must be finite. Received NaN or infinity")
    return y


@dataclass(frozen=True)
class Chunk:
    """Sites of one size that are fitted together.

    Attributes:
        sites: Their names, in the order of the features.
        features: All features.
        split: Of the samples.
        dtype: What to compute in.
    """

    sites: tuple[str, ...]
    features: Features
    split: Split
    dtype: torch.dtype

    @property
    def dim(self) -> int:
        """How many features each of the sites has."""
        return self.features[self.sites[0]].shape[1]

    def part(self, name: str) -> Float[Tensor, "site sample dim"]:
        """The samples of one part of the split at all of these sites: a fresh tensor."""
        out, rows = self._empty(name)
        for into, site in zip(out, self.sites, strict=True):
            into.copy_(self.features[site].index_select(0, rows))
        return out

    def centred(self) -> tuple[Float[Tensor, "site train dim"], Float[Tensor, "site dim"]]:
        """The training samples less their mean, and that."""
        out, rows = self._empty("train")
        mean = out.new_empty((len(self.sites), self.dim))
        for i, site in enumerate(self.sites):  # one at a time, while it is in the CPU's cache
            x = out[i].copy_(self.features[site].index_select(0, rows))
            torch.mean(x, 0, out=mean[i])
            x -= mean[i]
        return out, mean

    def _empty(self, name: str) -> tuple[Tensor, Tensor]:
        first = self.features[self.sites[0]]
        rows = self.split.rows(name, first.device)
        shape = (len(self.sites), rows.numel(), self.dim)
        return first.new_empty(shape, dtype=self.dtype), rows

    def resolution(self) -> Float[Tensor, "site"]:
        """The rounding unit of each site's features as they were given, `[site]`."""
        eps = [torch.finfo(self.features[site].dtype).eps for site in self.sites]
        device = self.features[self.sites[0]].device
        return torch.tensor(eps, dtype=torch.float64, device=device)


def chunks(
    features: Features,
    split: Split,
    dtype: torch.dtype,
    max_bytes: int,
    *,
    square: int = 3,
    per_sample: int = 0,
    per_dim: int = 0,
) -> Iterator[Chunk]:
    """Sites of equal size, as many at once as memory allows (always at least one).

    Args:
        features: By site.
        split: Of the samples.
        dtype: What to compute in.
        max_bytes: How much memory a chunk may take.
        square: How many matrices [dim, dim] a site needs beside its features and a copy of them.
        per_sample: How many numbers a site needs for each sample.
        per_dim: How many numbers a site needs for each feature.

    Raises:
        InputError: for a number of bytes that is no whole number from 1 on, or a dtype other than
            fp32 and fp64.
    """
    require_whole("max_bytes", max_bytes, 1)
    require_one_of("dtype", dtype, (torch.float32, torch.float64))
    by_dim: dict[int, list[str]] = {}
    for site, x in features.items():
        by_dim.setdefault(x.shape[1], []).append(site)
    for dim, sites in by_dim.items():
        numbers_of_one = split.n_samples * (2 * dim + per_sample) + dim * (square * dim + per_dim)
        a_site = numbers_of_one * dtype.itemsize
        n = max(int(max_bytes // a_site), 1)
        for start in range(0, len(sites), n):
            yield Chunk(tuple(sites[start : start + n]), features, split, dtype)


def variances(centred: Float[Tensor, "site sample dim"]) -> Float[Tensor, "site dim"]:
    """The mean square of each centred feature."""
    return torch.linalg.vector_norm(centred, dim=1).square() / centred.shape[1]


def scales(
    variance: Float[Tensor, "site dim"],
    mean: Float[Tensor, "site dim"],
    scaling: str,
    resolution: Float[Tensor, "site"],
) -> Float[Tensor, "site dim"]:
    """What features are divided by before the penalty is put on their weights.

    `feature`: each feature's standard deviation over the training samples (scikit-learn's
    StandardScaler); `site`: one number a site, the root of the mean variance of its features, which
    leaves the fit unchanged under rotations of the site's space; `none`: 1. A feature whose
    standard deviation is within eight rounding units (of the dtype it came in) of its mean is
    constant: it is divided by infinity, and so gets the weight 0.
    """
    variance = variance.double()
    floor = 8 * resolution[:, None] * mean.double().abs()
    constant = variance.sqrt() <= floor
    if scaling == "feature":
        scale = variance.sqrt()
    elif scaling == "site":
        kept = variance.masked_fill(constant, 0.0).mean(1, keepdim=True).sqrt()
        scale = kept.expand_as(variance)
    else:
        scale = torch.ones_like(variance)
    return scale.masked_fill(constant, torch.inf)


def whole_classes(
    targets: Int[Tensor, "sample"], split: Split, device: torch.device
) -> tuple[Int[Tensor, "sample"], Int[Tensor, "class"]]:
    """Class ids of all samples as numbers 0 … n - 1, and the id of each (ascending).

    Classes are those of the training samples.

    Raises:
        InputError: for targets that are no whole numbers `[sample]`, for fewer than two classes in
            the training samples, or one among the others that training lacks.
    """
    check_samples("targets", targets, split)
    whole = not (targets.is_floating_point() or targets.is_complex())
    require(
        targets.ndim == 1 and whole,
        f"classes must be whole numbers [sample]. Received {targets.dtype} {list(targets.shape)}",
    )
    ids = targets.to(device).long()
    classes = ids[split.rows("train", device)].unique()
    require(
        classes.numel() > 1,
        f"training samples must be of at least two classes. Received {classes.tolist()} alone",
    )
    for part in ("validation", "test"):
        theirs = ids[split.rows(part, device)].unique()
        new = theirs[~torch.isin(theirs, classes)].tolist()
        if new:
            raise InputError(
                f"{part} has classes that training has not: {new[:5]}. More sequences, or fewer "
                "classes, leave none out."
            )
    return torch.searchsorted(classes, ids).clamp(max=classes.numel() - 1), classes
