"""Who writes onto whom: the graph of interference between features, for one or many models.

The interference of a writer j with a reader i is Ŵ_i·W_j: what feature j, when it is 1, adds along
the direction of feature i (Elhage et al. 2022; its squares sum to `superposition`). A ReLU hides a
negative one from a feature that is absent, so signs matter. Models of one batch make one list of
edges; no Gram matrix of all models is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import require, require_number
from interp.toys.measures import are_represented, feature_norms

_ENTRIES = 1 << 24  # of Gram matrices at a time: 64 MiB in fp32


@dataclass(frozen=True)
class InterferenceGraph:
    """Pairs of different features whose interference reaches a threshold, of all models.

    Attributes:
        instance, reader, writer: Where an edge is and which way it goes; sorted by these.
        interference: Ŵ_reader·W_writer, signed.
        cosine: Ŵ_reader·Ŵ_writer.
        n_instances, n_features: Of what the graph was made.
        threshold: The least |interference| of an edge.
    """

    instance: Int[Tensor, "edge"]
    reader: Int[Tensor, "edge"]
    writer: Int[Tensor, "edge"]
    interference: Float[Tensor, "edge"]
    cosine: Float[Tensor, "edge"]
    n_instances: int
    n_features: int
    threshold: float

    def __len__(self) -> int:
        return len(self.reader)

    def parts(self) -> Int[Tensor, "instance feature"]:
        """For each feature the least index in its connected part; directions of edges do not count.

        Each round takes the least label among neighbours and then the label's own label, so that
        labels travel far in few rounds.
        """
        nodes = self.n_instances * self.n_features
        labels = torch.arange(nodes, device=self.reader.device)
        one = self.instance * self.n_features + self.reader
        other = self.instance * self.n_features + self.writer
        sources, targets = torch.cat([one, other]), torch.cat([other, one])
        while True:
            least = labels.scatter_reduce(0, targets, labels[sources], "amin")
            least = least[least]
            if torch.equal(least, labels):
                break
            labels = least
        return labels.unflatten(0, (self.n_instances, self.n_features)) % self.n_features


@dataclass(frozen=True)
class InterferenceStatistics:
    """A model's interference at a glance, over ordered pairs of different features.

    Attributes:
        represented: Features whose norm is at least the threshold's; only these count below.
        mean: Mean of Ŵ_i·W_j.
        mean_absolute: Mean of |Ŵ_i·W_j|.
        root_mean_square: √ of the mean square.
        largest: Largest |Ŵ_i·W_j|.
        negative: Share of the squares that is of negative ones, 0 … 1: how much of it a ReLU can
            hide; 0 without interference.
        Models with fewer than two such features have 0 everywhere.
    """

    represented: Int[Tensor, "instance"]
    mean: Float[Tensor, "instance"]
    mean_absolute: Float[Tensor, "instance"]
    root_mean_square: Float[Tensor, "instance"]
    largest: Float[Tensor, "instance"]
    negative: Float[Tensor, "instance"]


def interference_graph(
    W: Float[Tensor, "*instance d_hidden feature"],
    threshold: float = 0.1,
    represented: float = 0.25,
) -> InterferenceGraph:
    """All interference of at least a threshold.

    Args:
        W: Directions, of one model or of many along one axis.
        threshold: The least |Ŵ_i·W_j|.
        represented: Features count whose norm is at least this part of their model's largest one.

    Raises:
        InputError: for another number of axes, numbers that are not finite, or arguments out of
            bounds.
    """
    require_number("threshold", threshold)
    W = _many(W, represented)
    edges = []
    for first, row, gram, norms, counts in _grams(W, represented):
        keep = (gram.abs() >= threshold) & counts
        instance, reader, writer = keep.nonzero(as_tuple=True)
        found = gram[instance, reader, writer]
        cosine = found / norms[instance, writer]
        edges.append((instance + first, reader + row, writer, found, cosine))
    instance, reader, writer, found, cosine = (
        torch.cat(column) for column in zip(*edges, strict=True)
    )
    return InterferenceGraph(
        instance, reader, writer, found, cosine, W.shape[0], W.shape[2], threshold
    )


def interference_statistics(
    W: Float[Tensor, "*instance d_hidden feature"], represented: float = 0.25
) -> InterferenceStatistics:
    """How much the features of each model interfere.

    Args:
        W: Directions, of one model or of many along one axis.
        represented: As in `interference_graph`.

    Raises:
        InputError: as there.
    """
    W = _many(W, represented)
    sums = W.new_zeros(4, W.shape[0])
    largest = W.new_zeros(W.shape[0])
    for first, _, gram, _, counts in _grams(W, represented):
        here = slice(first, first + len(gram))
        gram = gram.where(counts, 0.0)
        squares = gram.square()
        below = squares.where(gram < 0, 0.0)
        found = [x.sum((1, 2)) for x in (gram, gram.abs(), squares, below)]
        sums[:, here] += torch.stack(found)
        largest[here] = torch.maximum(largest[here], gram.abs().amax((1, 2)))
    there = are_represented(feature_norms(W), represented).sum(-1)
    pairs = (there * (there - 1)).clamp_min(1)
    mean, mean_absolute, mean_square = sums[:3] / pairs
    negative = sums[3] / torch.where(sums[2] > 0, sums[2], 1.0)
    return InterferenceStatistics(there, mean, mean_absolute, mean_square.sqrt(), largest, negative)


def _many(W: Tensor, represented: float) -> Tensor:
    require(
        W.ndim in (2, 3) and W.is_floating_point() and W.numel() > 0 and bool(W.isfinite().all()),
        "W must be finite floating-point numbers [d_hidden, feature] or [instance, d_hidden, "
        f"feature], at least one. Received shape {list(W.shape)} of {W.dtype}",
    )
    require_number("represented", represented)
    require(represented <= 1, f"represented must be at most 1. Received {represented}")
    W = W.detach()
    W = W.float() if W.dtype in (torch.float16, torch.bfloat16) else W
    return W if W.ndim == 3 else W.unsqueeze(0)


def _grams(W: Tensor, represented: float) -> Iterator[tuple[int, int, Tensor, Tensor, Tensor]]:
    """First instance, first reader, Ŵ_i·W_j of some of both, norms, and which pairs count."""
    n_instances, _, n_features = W.shape
    rows = max(1, min(n_features, _ENTRIES // n_features))
    some = max(1, _ENTRIES // (rows * n_features))
    columns = torch.arange(n_features, device=W.device)
    for first in range(0, n_instances, some):
        part = W[first : first + some]
        norms = feature_norms(part)
        there = are_represented(norms, represented)
        unit = part / torch.where(there, norms, 1.0).unsqueeze(1)
        for row in range(0, n_features, rows):
            readers = slice(row, row + rows)
            gram = unit[:, :, readers].mT @ part
            other = columns[readers, None] != columns
            yield first, row, gram, norms, there[:, readers, None] & there[:, None] & other
