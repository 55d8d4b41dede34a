from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from interp import HookedTransformer, InputError, load_model
from interp.attribution.proximity import StreamImportance, proximity_hooks, stream_importance
from interp.attribution.routes import KINDS, Routes, trace_routes
from interp.zoo import known
from tests.interp.kinds import given_to

Kind = Callable[[str], HookedTransformer]
AssertClose = Callable[..., None]


def _importance(model: HookedTransformer, **given: Tensor) -> list[StreamImportance]:
    with torch.no_grad():
        _, cache = model.run_with_cache(**given, names_filter=proximity_hooks(model))
    return stream_importance(cache)


def _parts(stream: StreamImportance, row: int, place: int) -> list[tuple[str, int, float]]:
    found = [("residual", place, float(stream.residual[row, place]))]
    if stream.heads is not None:
        of_sources = stream.heads[row, :, place].sum(0).tolist()
        found += [("attention", source, value) for source, value in enumerate(of_sources)]
    if stream.mlp is not None:
        found.append(("mlp", place, float(stream.mlp[row, place])))
    return found


def _walked(
    importance: list[StreamImportance], starts: list[int], threshold: float, row: int
) -> tuple[set[tuple[int, str, int, int]], dict[tuple[int, int], float]]:
    """Depth first: the edges kept, and how much arrives at each node along all paths."""
    kept: set[tuple[int, str, int, int]] = set()
    flow: dict[tuple[int, int], float] = {}

    def walk(level: int, place: int, share: float, on_route: bool) -> None:
        flow[level, place] = flow.get((level, place), 0.0) + share
        if level == 0:
            return
        for kind, source, value in _parts(importance[level - 1], row, place):
            keeps = on_route and value > threshold
            if keeps:
                kept.add((level, kind, source, place))
            if value > 0:
                walk(level - 1, source, share * value, keeps)

    for start in starts:
        walk(len(importance), start, 1 / len(starts), True)
    return kept, flow


@pytest.mark.parametrize("name", ["gpt2", "gptj", "bert", "attn-only"])
@pytest.mark.parametrize(("positions", "threshold"), [([-1], 0.06), ([1, 3], 0.0)])
def test_walked_edge_by_edge(name: str, positions: list[int], threshold: float, kind: Kind) -> None:
    model = kind(name)
    importance = _importance(model, **given_to(model, 2, 4))
    routes = trace_routes(importance, positions, threshold, row=1)
    starts = [place % 4 for place in positions]
    kept, flow = _walked(importance, starts, threshold, row=1)
    assert routes.positions == tuple(starts)
    assert {(e.level, e.kind, e.source, e.destination) for e in routes.edges} == kept
    for level in range(len(importance) + 1):
        for place in range(4):
            expected = flow.get((level, place), 0.0)
            assert float(routes.flow[level, place]) == pytest.approx(expected, abs=1e-10)
    for edge in routes.edges:
        parts = {(k, s): v for k, s, v in _parts(importance[edge.level - 1], 1, edge.destination)}
        value = parts[edge.kind, edge.source]
        assert edge.importance == pytest.approx(value, abs=1e-10)
        assert edge.flow == pytest.approx(value * flow[edge.level, edge.destination], abs=1e-10)
    if threshold == 0:  # whatever flows is kept
        torch.testing.assert_close(routes.kept, routes.flow, rtol=0, atol=1e-12)
    _consistent(routes)


def _consistent(routes: Routes) -> None:
    """What must hold of any routes."""
    total = routes.flow.sum(-1) + routes.lost
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-10)
    assert bool((routes.kept <= routes.flow + 1e-12).all())
    assert bool(((routes.kept > 0) <= routes.reached).all())
    for edge in routes.edges:
        assert edge.importance > routes.threshold
        assert routes.reached[edge.level, edge.destination]
        assert routes.reached[edge.level - 1, edge.source]
    order = [(-e.level, e.destination, KINDS.index(e.kind), e.source) for e in routes.edges]
    assert order == sorted(order)


def test_labels_are_those_of_the_streams(kind: Kind) -> None:
    for name, expected in (
        ("gpt2", ("0_pre", "0_mid", "0_post", "1_mid", "1_post")),
        ("gptj", ("0_pre", "0_post", "1_post")),
    ):
        model = kind(name)
        assert trace_routes(_importance(model, **given_to(model))).labels == expected


def test_a_higher_threshold_keeps_fewer_edges_and_no_others(kind: Kind) -> None:
    model = kind("gpt2")
    importance = _importance(model, **given_to(model))
    before: set[tuple[int, str, int, int]] | None = None
    for threshold in (0.0, 0.05, 0.1, 0.3, 1.0):
        routes = trace_routes(importance, threshold=threshold)
        edges = {(e.level, e.kind, e.source, e.destination) for e in routes.edges}
        assert before is None or edges < before
        before = edges
    assert before == set()
    assert routes.reached.sum() == 1  # the traced position itself


def test_the_route_of_a_known_induction_circuit() -> None:
    """Back from the end: the copied token's place, by L1H1; there the token before, by L0H0.

    L0H1 writes the first token where nobody reads: it is in the stream, so it is on a route.
    """
    truth = known.induction(saturated=True)
    model = truth.model
    importance = _importance(model, input=truth.clean)
    for row, tokens in enumerate(truth.clean.tolist()):
        earlier = tokens.index(tokens[-1])  # … A B … A
        routes = trace_routes(importance, threshold=0.15, row=row)
        sources = {e.source for e in routes.edges if e.level == 2 and e.kind == "attention"}
        assert earlier + 1 in sources
        top, below = importance[1].heads, importance[0].heads
        assert top is not None
        assert below is not None
        by_head = top[row, :, -1, earlier + 1]
        assert int(by_head.argmax()) == 1
        assert float(by_head[0]) == 0.0
        before = below[row, 0, earlier + 1]
        assert int(before.argmax()) == earlier
        assert routes.reached[1, earlier + 1]
        assert routes.reached[0, earlier]


def test_the_route_of_the_trained_induction_model() -> None:
    model = load_model("zoo:induction", device="cpu", dtype="float64")
    # BOS, then … 23 52 … 23 → 52
    tokens = torch.tensor([[0, 11, 46, 57, 23, 52, 13, 62, 2, 11, 46, 57, 23]])
    importance = _importance(model, input=tokens)
    assert int(model(tokens)[0, -1].argmax()) == 52
    routes = trace_routes(importance, threshold=0.2)
    top = [e for e in routes.edges if e.level == 2]
    assert [(e.kind, e.source) for e in top] == [("attention", 5)]
    below = {(e.kind, e.source) for e in routes.edges if e.level == 1}
    assert ("attention", 4) in below  # the previous-token heads
    assert float(routes.flow[0, [4, 5]].sum()) > 0.9
    _consistent(routes)


def test_what_cannot_be_traced_is_refused(kind: Kind) -> None:
    model = kind("gpt2")
    importance = _importance(model, **given_to(model))
    for bad in (5, -6, 1.0):
        with pytest.raises(InputError, match=r"a position must lie in -5 … 4"):
            trace_routes(importance, [bad])  # type: ignore[list-item]
    with pytest.raises(InputError, match="need a position"):
        trace_routes(importance, [])
    with pytest.raises(InputError, match=r"threshold must lie in 0 … 1. Received 1.5"):
        trace_routes(importance, threshold=1.5)
    with pytest.raises(InputError, match="row must lie in 0 … 2"):
        trace_routes(importance, row=3)
    with pytest.raises(InputError, match="need streams"):
        trace_routes([])
