"""Edges and circuits of models whose mechanism is known by construction."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from interp import circuits, load_model, zoo
from interp.circuits import Graph, patch_edges, patch_paths, resample_reference, source_of
from interp.patching import LogitDiff
from interp.zoo import known

NAMES = ["previous_token", "induction", "name_mover", "bracket_counter", "cancellation"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("direction", ["denoise", "noise"])
def test_exact_patching_finds_the_true_edges(name: str, direction: str) -> None:
    truth = getattr(known, name)()
    here, there = truth.corrupted, truth.clean
    if direction == "noise":
        here, there = there, here
    effects = patch_edges(truth.model, here, source_of(truth.model, there), truth.metric)
    found = truth.found(effects.scores())
    assert found == truth.edges  # precision and recall 1
    assert found == truth.expected.get("path_patching", truth.edges)


@pytest.mark.parametrize("name", NAMES)
def test_the_true_circuit_is_faithful_complete_and_minimal(name: str) -> None:
    truth = getattr(known, name)()
    reference = resample_reference(truth.model, truth.corrupted)
    run = circuits.EdgeRun(truth.model, truth.clean, reference)
    found = circuits.judge_in(run, [sorted(truth.edges)], truth.metric)
    assert float(found.faithfulness[0]) == pytest.approx(1.0, abs=1e-9)
    assert float(found.completeness[0]) == pytest.approx(0.0, abs=1e-9)
    assert torch.allclose(found.clean, truth.clean_value, atol=1e-10)
    assert torch.allclose(found.ablated, truth.corrupted_value, atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_searches_find_it(name: str) -> None:
    truth = getattr(known, name)()
    graph, model = Graph.of(truth.model), truth.model
    tau = truth.threshold * abs(float(truth.span))
    reference = resample_reference(model, truth.corrupted)
    scores = patch_edges(model, truth.corrupted, source_of(model, truth.clean), truth.metric)
    # What wakes the backup head leads nowhere as long as its own write has no effect: it dangles.
    kept = circuits.threshold(graph, scores.scores(), tau, prune=False)
    assert set(graph.labels(kept)) == truth.edges
    found = set(graph.labels(circuits.greedy(model, truth.clean, reference, truth.metric, tau)))
    if name == "name_mover":
        # Once the backup's own edge to the logits is cut, which changes nothing on these prompts,
        # nothing that it reads matters: a greedy search does not see a backup.
        assert found == {edge for edge in truth.edges if "L3H0" not in edge}
    else:
        assert found == truth.edges


def test_true_paths_of_the_induction_circuit() -> None:
    truth = known.induction()
    source = source_of(truth.model, truth.clean)
    previous = next(edge.split("->")[0] for edge in truth.edges if edge.endswith(".k"))
    heads = {edge.split("->")[1][:4] for edge in truth.edges if edge.startswith(previous)}
    assert len(heads) == 1
    head = heads.pop()
    through = {part: f"{previous}->{head}.{part}" for part in "qkv"}
    path = f"embed->{previous}.v->{head}.k->logits"
    paths = [*through.values(), path]
    found = patch_paths(truth.model, truth.corrupted, source, paths, truth.metric)
    carried = truth.found(found.scores())
    assert carried == {through["k"], path}


def test_zoo_induction_is_confirmed_through_keys() -> None:
    """The largest edge from a head into a later head's keys is from the previous-token head."""
    model = zoo.load("zoo:induction")
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randperm(63, generator=generator)[:9] + 1 for _ in range(24)]
    drawn = torch.stack(rows)
    swapped = drawn[:, [0, 5, 2, 3, 4, 1, 6, 7, 8]]
    bos, again = torch.zeros(24, 1, dtype=torch.long), drawn[:, 1:2]
    clean, corrupted = (torch.cat([bos, x, again], 1) for x in (drawn, swapped))
    metric = LogitDiff(drawn[:, 2], drawn[:, 6])  # what followed the last token before
    with torch.no_grad():
        values = [float(metric(model(tokens))) for tokens in (clean, corrupted)]
        _, cache = model.run_with_cache(clean, names_filter="*.hook_pattern")
    assert values[0] - values[1] > 2.0
    span = values[0] - values[1]
    pattern = cache["blocks.0.attn.hook_pattern"]
    previous = int(pattern.diagonal(-1, 2, 3).mean((0, 2)).argmax())
    source, graph = source_of(model, clean), Graph.of(model)
    effects = patch_edges(model, corrupted, source, metric).scores()
    between = [edge for edge in graph.edges if edge.startswith("L0H") and "->L1H" in edge]
    best = max(between, key=lambda edge: abs(effects[edge]))
    assert best.startswith(f"L0H{previous}->L1H") and best.endswith(".k")
    # Several heads of the second layer do the same, so that each edge has a part of the effect.
    together = {
        part: [f"L0H{previous}->L1H{head}.{part}" for head in range(4)] for part in ("q", "k", "v")
    }
    found = patch_paths(model, corrupted, source, together, metric).scores()
    assert found["k"] / span > 0.5
    assert max(abs(found["q"]), abs(found["v"])) / span < 0.01
    # Nine tenths of the behaviour: previous-token heads, keys of the second layer, the logits.
    reference = resample_reference(model, corrupted)
    run = circuits.EdgeRun(model, clean, reference)
    mask, judgement = circuits.smallest(run, effects, metric, 0.9)
    edges = graph.labels(mask)
    assert len(edges) < len(graph.edges) / 4 and abs(float(judgement.completeness[0])) < 0.05
    for edge in edges:
        assert re.fullmatch(r"embed->L0H\d\.v|L0H\d->L1H\d\.k|L1H\d->logits", edge), edge


def test_a_real_model_with_shared_keys(third_party: Callable[[str], Path]) -> None:
    model = load_model(str(third_party("stories260K")), device="cpu", dtype="float64")
    clean = model.tokenize(["The girl was very happy because"])[0]
    corrupted = model.tokenize(["The boy was very happy because"])[0]
    metric = LogitDiff(model.to_single_token(" she"), model.to_single_token(" he"))
    reference = resample_reference(model, corrupted)
    run = circuits.EdgeRun(model, clean, reference)
    exists = run.graph.exists
    with torch.no_grad():
        ends = torch.stack([metric.per_prompt(model(tokens)) for tokens in (clean, corrupted)])
    found = run.values(torch.stack([exists, torch.zeros_like(exists)]), metric)
    assert torch.allclose(found, ends, atol=1e-10) and float(ends[0] - ends[1]) > 3
    into_values = [edge for edge in run.graph.edges if edge.endswith(".v")]
    effects = patch_edges(model, corrupted, source_of(model, clean), metric, into_values).scores()
    best = max(effects, key=lambda edge: effects[edge])
    assert best.split("->")[1].startswith("L4KV")  # a head of the last layer brings it to the end
