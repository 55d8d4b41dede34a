"""Interference graphs against plain loops."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from interp.errors import InputError
from interp.toys import interference, polytopes
from interp.toys.interference import interference_graph, interference_statistics
from interp.toys.measures import superposition


def _edges(W: Tensor, threshold: float, represented: float) -> dict[tuple[int, int], float]:
    norms = W.norm(dim=0).tolist()
    there = [i for i, norm in enumerate(norms) if norm > 0 and norm >= represented * max(norms)]
    values = {(i, j): float(W[:, i] @ W[:, j]) / norms[i] for i in there for j in there if i != j}
    return {pair: value for pair, value in values.items() if abs(value) >= threshold}


@settings(max_examples=25, deadline=None)
@given(
    instances=st.integers(1, 4),
    d_hidden=st.integers(1, 4),
    features=st.integers(1, 6),
    seed=st.integers(0, 999),
    entries=st.sampled_from([1, 7, 40, 10_000]),
)
def test_edges_and_statistics(
    assert_close: Callable[..., None],
    instances: int,
    d_hidden: int,
    features: int,
    seed: int,
    entries: int,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    W = torch.randn(instances, d_hidden, features, dtype=torch.float64, generator=generator)
    W[..., 0] *= 0.0 if seed % 4 == 0 else 0.2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interference, "_ENTRIES", entries)
        graph = interference_graph(W, threshold=0.5, represented=0.3)
        statistics = interference_statistics(W, represented=0.3)
    expected = [
        (k, i, j, value)
        for k in range(instances)
        for (i, j), value in sorted(_edges(W[k], 0.5, 0.3).items())
    ]
    found = zip(*(x.tolist() for x in (graph.instance, graph.reader, graph.writer)), strict=True)
    assert list(found) == [edge[:3] for edge in expected]
    assert len(graph) == len(expected)
    assert_close(graph.interference, torch.tensor([e[3] for e in expected], dtype=torch.float64))
    norms = W.norm(dim=1)
    assert_close(graph.cosine, graph.interference / norms[graph.instance, graph.writer])
    for k in range(instances):
        values = list(_edges(W[k], 0.0, 0.3).values())
        n = max(len(values), 1)
        squares = sum(v * v for v in values)
        wanted = {
            "mean": sum(values) / n,
            "mean_absolute": sum(map(abs, values)) / n,
            "root_mean_square": math.sqrt(squares / n),
            "largest": max(map(abs, values), default=0.0),
            "negative": sum(v * v for v in values if v < 0) / (squares or 1.0),
        }
        for name, value in wanted.items():
            assert float(getattr(statistics, name)[k]) == pytest.approx(value, abs=1e-12), name


def test_squares_sum_to_superposition(assert_close: Callable[..., None]) -> None:
    W = torch.randn(3, 4, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    graph = interference_graph(W, threshold=1e-12, represented=1e-6)
    sums = torch.zeros(27, dtype=torch.float64)
    sums.index_add_(0, graph.instance * 9 + graph.reader, graph.interference.square())
    assert_close(sums.view(3, 9), superposition(W))
    statistics = interference_statistics(W, represented=1e-6)
    assert_close(statistics.root_mean_square.square() * 72, superposition(W).sum(1))


def test_parts() -> None:
    product = polytopes.tegum_product(
        polytopes.pentagon(), polytopes.digon(), torch.ones(1, 1).double(), polytopes.triangle()
    )
    order = torch.tensor([9, 0, 5, 1, 7, 2, 6, 3, 8, 10, 4])
    graph = interference_graph(torch.stack([product, product[:, order]]))
    # Pentagon 0–4, digon 5–6, alone 7, triangle 8–10; then where `order` puts them.
    assert graph.parts().tolist() == [
        [0, 0, 0, 0, 0, 5, 5, 7, 8, 8, 8],
        [0, 1, 2, 1, 4, 1, 2, 1, 0, 0, 1],
    ]
    # A path, the slowest way for labels to travel.
    n = 40
    path = torch.eye(n) + 0.5 * torch.eye(n).roll(1, 0).tril()
    assert interference_graph(path, 0.3).parts().tolist() == [[0] * n]
    # Of two features at 60° the longer one writes 0.5 onto the shorter, which writes 0.3 back.
    uneven = torch.tensor([[1.0, 0.3], [0.0, 0.27**0.5]])
    for W in (uneven, uneven.flip(-1)):
        graph = interference_graph(W, 0.4)
        assert len(graph) == 1 and graph.parts().tolist() == [[0, 0]]
    assert interference_graph(torch.eye(3)).parts().tolist() == [[0, 1, 2]]


def test_signs() -> None:
    digon = interference_statistics(polytopes.digon())
    assert digon.mean.tolist() == [-1.0] and digon.negative.tolist() == [1.0]
    hexagon = interference_statistics(polytopes.regular_polygon(6))
    assert hexagon.negative.tolist() == pytest.approx([1.5 / 2.0])
    alone = interference_statistics(torch.ones(2, 1))
    assert alone.represented.tolist() == [1] and alone.largest.tolist() == [0.0]


def test_bad_input() -> None:
    for W in (torch.ones(3), torch.ones(2, 0), torch.ones(0, 2, 3), torch.ones(1, 2).long()):
        with pytest.raises(InputError, match="W must be finite floating-point"):
            interference_graph(W)
    for number in (math.nan, math.inf):
        with pytest.raises(InputError, match="W must be finite floating-point"):
            interference_statistics(torch.tensor([[1.0, number]]))
    with pytest.raises(InputError, match="threshold must be a number and positive"):
        interference_graph(torch.ones(2, 2), threshold=0)
    with pytest.raises(InputError, match="represented must be at most 1"):
        interference_statistics(torch.ones(2, 2), represented=1.5)
