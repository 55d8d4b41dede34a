"""Searches against their algorithms written plainly."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp import HookedTransformer, InputError, patching
from interp.circuits import (
    EdgeRun,
    Graph,
    greedy,
    judge,
    patch_edges,
    ranked,
    resample_reference,
    smallest,
    source_of,
    threshold,
    top_edges,
    without_dangling,
)
from tests.covering import examples
from tests.interp.circuits.plain import GRAPHS
from tests.interp.kinds import some_tokens

Check = Callable[..., None]
Kind = Callable[[str], HookedTransformer]
METRIC = patching.LogitDiff(3, 5)
HERE, THERE = some_tokens(), some_tokens(seed=7)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(name=st.sampled_from(GRAPHS), share=st.floats(0.0, 0.6), seed=st.integers(0, 10**6))
def test_what_dangles_lies_on_no_path(name: str, share: float, seed: int, kind: Kind) -> None:
    graph = Graph.of(kind(name))
    generator = torch.Generator().manual_seed(seed)
    mask = (torch.rand(graph.exists.shape, generator=generator) < share) & graph.exists
    # By walking: forwards from what reads nothing, backwards from the logits.
    edges = [graph.parse(edge) for edge in graph.labels(mask)]
    forwards = {s for s in graph.senders if not graph.receivers_of(s)}
    backwards = {"logits"}
    for _ in graph.senders:
        reached = {r for s, r in edges if s in forwards}
        forwards |= {s for r in reached for s in graph.receiver(r).feeds}
        needed = {s for s, r in edges if r in backwards}
        backwards |= {r for s in needed for r in graph.receivers_of(s)}
    expected = {f"{s}->{r}" for s, r in edges if s in forwards and r in backwards}
    assert set(graph.labels(without_dangling(graph, mask))) == expected


@torch.no_grad()
def test_pruning_changes_nothing_where_edges_are_resampled(kind: Kind, assert_close: Check) -> None:
    model = kind("llama")
    run = EdgeRun(model, HERE, resample_reference(model, THERE))
    generator = torch.Generator().manual_seed(1)
    mask = (torch.rand(run.graph.exists.shape, generator=generator) < 0.25) & run.graph.exists
    pruned = without_dangling(run.graph, mask)
    assert 0 < pruned.sum() < mask.sum()
    both = run.logits(torch.stack([mask, pruned]))
    assert_close(both[0], both[1], "pruned", 1e-12)


def test_rankings(kind: Kind) -> None:
    graph = Graph.of(kind("gpt2"))
    scores = {"embed->logits": 0.5, "L0H1->logits": -2.0, "L0H2->L1H1.q": 1.0, "L1H1->logits": 0.1}
    assert ranked(graph, scores)[:2] == ["L0H1->logits", "L0H2->L1H1.q"]
    assert ranked(graph, scores, absolute=False)[0] == "L0H2->L1H1.q"
    labels = lambda mask: set(graph.labels(mask))
    assert labels(top_edges(graph, scores, 2, prune=False)) == {"L0H1->logits", "L0H2->L1H1.q"}
    assert labels(top_edges(graph, scores, 3)) == {"embed->logits"}
    assert labels(threshold(graph, scores, 0.5)) == {"embed->logits"}
    kept = threshold(graph, scores, 0.1, absolute=False, prune=False)
    assert labels(kept) == set(scores) - {"L0H1->logits"}
    tensor = torch.full(graph.exists.shape, torch.nan)
    tensor[graph.exists] = 0.0
    tensor[graph.sender_index("L0H1"), -1] = -1.0
    assert ranked(graph, tensor)[0] == "L0H1->logits" and len(ranked(graph, tensor)) == 137


@torch.no_grad()
@settings(max_examples=examples(5), deadline=None, derandomize=True)
@given(name=st.sampled_from(["attn-only", "multi-query", "neox"]), seed=st.integers(0, 99),
       tau=st.sampled_from([0.003, 0.03, 0.3]), kl=st.booleans())  # fmt: skip
def test_greedy_is_acdc_one_edge_at_a_time(
    name: str, seed: int, tau: float, kl: bool, kind: Kind
) -> None:
    model = kind(name)
    here, there = some_tokens(2, 4, seed), some_tokens(2, 4, seed + 1)
    reference = resample_reference(model, there)
    run = EdgeRun(model, here, reference)
    metric = patching.KLDivergence(model(here)) if kl else METRIC
    full = metric.per_prompt(model(here))
    current, last = run.graph.exists.clone(), 0.0
    for r in reversed(range(current.shape[1])):
        for s in reversed(range(current.shape[0])):
            if not run.graph.exists[s, r]:
                continue
            tried = current.clone()
            tried[s, r] = False
            distance = (metric.per_prompt(run.logits(tried[None])[0]) - full).abs().mean()
            if distance - last < tau:
                current, last = tried, distance
    found = greedy(model, here, reference, metric, tau, prune=False)
    assert run.graph.labels(found) == run.graph.labels(current)
    pruned = greedy(model, here, reference, metric, tau)
    assert torch.equal(pruned, without_dangling(run.graph, current))


@torch.no_grad()
def test_smallest_reaches_it_and_one_less_does_not(kind: Kind) -> None:
    model = kind("gpt2")
    reference = resample_reference(model, THERE)
    run, graph = EdgeRun(model, HERE, reference), Graph.of(model)
    scores = patch_edges(model, HERE, source_of(model, THERE), METRIC).scores()
    for wanted in (0.5, 0.95):
        mask, found = smallest(run, scores, METRIC, wanted)
        assert float(found.faithfulness[0]) >= wanted and found.sizes == (int(mask.sum()),)
        n = next(n for n in range(200) if torch.equal(top_edges(graph, scores, n), mask))
        less = judge(model, HERE, reference, [top_edges(graph, scores, n - 1)], METRIC)
        assert float(less.faithfulness[0]) < wanted
    # Of several sizes that reach it the one behind the first doubling that does.
    found = smallest(run, scores, METRIC, 0.5, prune=False)[1]
    sizes = [2**i for i in range(8)] + [len(graph.edges)]
    first = judge(model, HERE, reference, [top_edges(graph, scores, n, prune=False) for n in sizes],
                  METRIC).faithfulness >= 0.5  # fmt: skip
    i = int(first.nonzero()[0, 0])
    assert sizes[i - 1] < found.sizes[0] <= sizes[i]
    for faithfulness in (0.0, float("nan"), "0.9"):
        with pytest.raises(InputError, match="faithfulness must be a number and positive"):
            smallest(run, scores, METRIC, faithfulness)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no circuit of the edges that have a score"):
        smallest(run, {"embed->logits": 1.0}, METRIC, 0.99)


def test_errors(kind: Kind) -> None:
    model = kind("gpt2")
    graph, reference = Graph.of(model), resample_reference(model, THERE)
    for tau in (0.0, -1.0):
        with pytest.raises(InputError, match="tau"):
            threshold(graph, {}, tau)
        with pytest.raises(InputError, match="tau"):
            greedy(model, HERE, reference, METRIC, tau)
    with pytest.raises(InputError, match="n must be"):
        top_edges(graph, {}, -1)
    with pytest.raises(InputError, match="must be False where there is none"):
        without_dangling(graph, torch.ones_like(graph.exists))
