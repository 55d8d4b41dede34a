"""Faithfulness and completeness, from the metric of plain runs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from interp import HookedTransformer, InputError, patching
from interp.circuits import (
    EdgeReference,
    EdgeRun,
    Graph,
    Judgement,
    judge,
    judge_in,
    mean_reference,
    minimality,
    resample_reference,
    zero_reference,
)
from tests.interp.circuits.plain import logits_of_edges, plain_values, written
from tests.interp.kinds import some_tokens

Check = Callable[..., None]
Kind = Callable[[str], HookedTransformer]
METRIC = patching.LogitDiff(3, 5)
HERE, THERE = some_tokens(), some_tokens(seed=7)


@torch.no_grad()
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_against_the_definition(name: str, kind: Kind, assert_close: Check) -> None:
    model, graph = kind(name), Graph.of(kind(name))
    elsewhere = written(model, plain_values(model, {"input": THERE}))
    generator = torch.Generator().manual_seed(0)
    circuits = [
        [e for e in graph.edges if torch.rand((), generator=generator) < share]
        for share in (0.3, 0.8)
    ]
    found = judge(model, HERE, resample_reference(model, THERE), circuits, METRIC)

    def metric(edges: set[str]) -> torch.Tensor:
        logits = logits_of_edges(model, {"input": HERE}, edges, elsewhere)
        return METRIC.per_prompt(logits).mean()

    clean, corrupted = (METRIC(model(tokens)) for tokens in (HERE, THERE))
    assert_close(found.clean.mean(), clean, "clean", 1e-10)
    assert_close(found.ablated.mean(), corrupted, "ablated", 1e-10)
    for i, circuit in enumerate(circuits):
        rest = set(graph.edges) - set(circuit)
        expected = (metric(set(circuit)) - corrupted) / (clean - corrupted)
        assert_close(found.faithfulness[i], expected, "faithfulness", 1e-9)
        expected = (metric(rest) - corrupted) / (clean - corrupted)
        assert_close(found.completeness[i], expected, "completeness", 1e-9)
    assert found.sizes == tuple(map(len, circuits)) and found.n_edges == len(graph.edges)
    frame = found.frame()
    assert frame["faithfulness"].tolist() == found.faithfulness.tolist()
    assert frame["share"].tolist() == [len(c) / len(graph.edges) for c in circuits]


@torch.no_grad()
@pytest.mark.parametrize("ablation", ["resample", "mean", "zero"])
def test_all_edges_are_faithful_and_none_are_not(ablation: str, kind: Kind) -> None:
    model = kind("neox")
    reference = {
        "resample": lambda: resample_reference(model, THERE),
        "mean": lambda: mean_reference(model, THERE),
        "zero": lambda: zero_reference(model),
    }[ablation]()
    exists = Graph.of(model).exists
    found = judge(model, HERE, reference, [exists, torch.zeros_like(exists)], METRIC)
    assert found.faithfulness.tolist() == pytest.approx([1.0, 0.0], abs=1e-12)
    assert found.completeness.tolist() == pytest.approx([0.0, 1.0], abs=1e-12)
    assert found.ablation.kind == ablation and ablation in found.ablation.description
    assert found.ablation.description.endswith(("position", "at every position"))


@torch.no_grad()
def test_minimality_is_what_an_edge_takes_along(kind: Kind) -> None:
    model = kind("attn-only")
    reference = resample_reference(model, THERE)
    run = EdgeRun(model, HERE, reference)
    circuit = run.graph.edges[::2]
    found = minimality(run, circuit, METRIC)
    assert list(found) == circuit
    edge = circuit[7]
    without = [e for e in circuit if e != edge]
    assert minimality(run, circuit, METRIC, [edge]) == pytest.approx({edge: found[edge]})
    both = judge(model, HERE, reference, [circuit, without], METRIC).faithfulness
    assert found[edge] == pytest.approx(float(both[0] - both[1]), abs=1e-12)


def test_areas_by_hand() -> None:
    values = torch.tensor([[0.5], [1.5]], dtype=torch.float64)
    one, zero = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    found = Judgement(EdgeReference("zero", "", {}), (2, 4), 8, values, values, one, zero)
    # Trapezoids over shares 0, 1/4, 1/2, 1 of faithfulness 0, 0.5, 1.5, 1.
    assert found.area() == pytest.approx((0.0625 + 0.25 + 0.625, 0.1875 + 0.125 + 0.125))


def test_errors(kind: Kind) -> None:
    model, same = kind("gpt2"), resample_reference(kind("gpt2"), HERE)
    with pytest.raises(InputError, match="must differ between all edges and none"):
        judge(model, HERE, same, [["embed->logits"]], lambda logits: logits.sum() * 0)
    run = EdgeRun(model, HERE, resample_reference(model, THERE))
    with pytest.raises(InputError, match="edges must be of the circuit"):
        minimality(run, ["embed->logits"], METRIC, ["L0H0->logits"])
    with pytest.raises(InputError, match="in a run with an ablation"):
        judge_in(EdgeRun(model, HERE, None), [["embed->logits"]], METRIC)
    with pytest.raises(InputError, match="must be bool"):
        judge(model, HERE, same, [torch.ones(2, 2, dtype=torch.bool)], METRIC)
    with pytest.raises(InputError, match="edges are a list of edges"):
        judge(model, HERE, same, [None], METRIC)  # type: ignore[list-item]
