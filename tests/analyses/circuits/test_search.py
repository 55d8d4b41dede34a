"""The circuit-search analysis: its tables against the library, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

pytest.importorskip("tokenizers", reason="needs the extra 'hf'")

from analyses import run_analysis
from interp import HookedTransformer, InputError, patching, zoo
from interp.circuits import (
    Circuit,
    Graph,
    judge,
    mean_reference,
    patch_edges,
    ranked,
    resample_reference,
    source_of,
    zero_reference,
)

CLEAN, CORRUPTED = [[0, 5, 9, 7, 8, 5], [0, 4, 9, 8, 7, 4]], [[0, 6, 9, 7, 8, 5]] * 2
ASKED: dict[str, Any] = {
    "clean_tokens": CLEAN,
    "corrupted_tokens": CORRUPTED,
    "right": ["#9"],
    "wrong": ["#7", "#8"],
    "points": 4,
    "random_orders": 1,
}
METRIC = patching.LogitDiff(torch.tensor([9, 9]), torch.tensor([7, 8]))


@pytest.fixture(scope="module")
def model() -> HookedTransformer:
    return zoo.load("zoo:induction")


def test_scores_are_what_the_metric_loses(model: HookedTransformer) -> None:
    result = run_analysis("circuit-search", model, **ASKED, score="exact", search="top", n_edges=20)
    source = source_of(model, torch.tensor(CORRUPTED))
    effects = patch_edges(model, torch.tensor(CLEAN), source, METRIC).scores()
    scores = {edge: -effect for edge, effect in effects.items()}
    leading = result.tables["leading"]
    assert leading["edge"].tolist() == ranked(Graph.of(model), scores)[:20]
    assert leading["score"].tolist() == pytest.approx([scores[e] for e in leading["edge"]])
    edges = result.tables["edges"]
    assert set(edges["edge"]) <= set(leading["edge"])
    estimated = run_analysis("circuit-search", model, **ASKED).tables["leading"]
    assert len(set(estimated["edge"][:8]) & set(leading["edge"][:8])) >= 5


@pytest.mark.parametrize(
    "how",
    [
        {"search": "faithfulness", "faithfulness": 0.8},
        {"search": "top", "n_edges": 30, "ablation": "mean"},
        {"search": "threshold", "tau": 0.02},
        {"search": "greedy", "tau": 0.02, "score": "eap"},
    ],
    ids=lambda how: how["search"],
)
def test_the_circuit_is_judged_as_the_library_does(
    how: dict[str, Any], model: HookedTransformer
) -> None:
    result = run_analysis("circuit-search", model, **ASKED, **how, drop_each=3)
    assert result.passed
    graph = Graph.of(model)
    circuit = Circuit.from_frame(graph, result.tables["edges"])
    clean, corrupted = torch.tensor(CLEAN), torch.tensor(CORRUPTED)
    references = {
        "resample": resample_reference(model, corrupted),
        "mean": mean_reference(model, torch.cat([clean, corrupted])),
        "zero": zero_reference(model),
    }
    summary = result.tables["summary"].set_index("ablation")
    assert summary["searched_with"].sum() == 1 and (summary["edges"] == len(circuit)).all()
    for kind, reference in references.items():
        found = judge(model, clean, reference, [circuit.mask(graph)], METRIC)
        row = summary.loc[kind]
        assert row["faithfulness"] == pytest.approx(float(found.faithfulness[0]), abs=1e-4)
        assert row["completeness"] == pytest.approx(float(found.completeness[0]), abs=1e-4)
        assert kind in row["reference"] and "position" in row["reference"]
    if how["search"] == "faithfulness":
        assert summary.loc["resample", "faithfulness"] >= 0.8
    lost = result.tables["edges"].drop_duplicates("edge")["faithfulness_lost"]
    assert lost.notna().sum() == min(3, len(circuit)) and lost[:3].notna().all()
    curve = result.tables["curve"]
    whole = curve[curve["first_edges"] == len(graph.edges)]
    assert len(whole) == 4 and whole["faithfulness"].tolist() == pytest.approx([1.0] * 4)
    assert set(result.tables["nodes"]["node"]) == set(circuit.nodes)
    again = Circuit.from_graphml(circuit.to_graphml())
    assert again == circuit


@torch.no_grad()
def test_the_curve_is_of_the_first_edges(model: HookedTransformer) -> None:
    """Also where they lie on no path: the rest of the model lacks them all the same."""
    result = run_analysis("circuit-search", model, **ASKED, score="exact", search="top", n_edges=20)
    graph, clean = Graph.of(model), torch.tensor(CLEAN)
    source = source_of(model, torch.tensor(CORRUPTED))
    order = ranked(graph, patch_edges(model, clean, source, METRIC).scores())
    curve = result.tables["curve"].set_index("ablation").loc["resample"]
    sizes = curve["first_edges"].tolist()
    assert sizes[0] == 1 and curve["edges_on_paths"].iloc[0] == 0
    firsts = [order[:n] for n in sizes]
    found = judge(model, clean, resample_reference(model, torch.tensor(CORRUPTED)), firsts, METRIC)
    assert curve["completeness"].tolist() == pytest.approx(found.completeness.tolist(), abs=1e-4)
    assert curve["faithfulness"].tolist() == pytest.approx(found.faithfulness.tolist(), abs=1e-4)
    assert curve["completeness"].iloc[0] < 0.95
    assert curve["share"].tolist() == pytest.approx([n / len(graph.edges) for n in sizes])


def test_edges_into_shared_keys_are_counted_once(
    make_model: Callable[..., HookedTransformer], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(n_key_value_heads=1, normalization_type=None, seed=1)
    asked = {**ASKED, "search": "top", "n_edges": 60, "drop_each": 0}
    for most in (1000, 7):
        monkeypatch.setattr("analyses.circuits.search.DRAWN", most)
        result = run_analysis("circuit-search", model, **asked)
        edges, title = result.tables["edges"], result.figures["circuit"].title
        n = edges["edge"].nunique()
        assert len(edges) > n > 7 and title.startswith(f"Circuit of {n} edges")
        assert (", the 7 largest drawn" in title) == (most == 7) and (most == 7) == (
            "largest drawn" in title
        )
        writers = {*edges["source"], "logits"}
        assert set(result.tables["nodes"]["node"]) == writers


def test_the_story_of_the_zoo_model(model: HookedTransformer) -> None:
    """A few previous-token heads, through keys, and heads that write the answer."""
    result = run_analysis("circuit-search", model)
    edges, summary = result.tables["edges"], result.tables["summary"].iloc[0]
    assert summary["faithfulness"] >= 0.9 and abs(summary["completeness"]) < 0.05
    assert summary["edges"] < summary["of_edges"] / 4
    between = edges[edges["source"].str.startswith("L0H")]
    assert len(between) and set(between["input"]) == {"k"}
    curve = result.tables["curve"]
    area = curve.drop_duplicates("ablation").set_index("ablation")["area_kept"]
    assert area["resample"] > area["resample, edges in random order"] + 0.2


def test_errors(model: HookedTransformer) -> None:
    with pytest.raises(InputError, match="must lead from an embedding to the logits"):
        run_analysis("circuit-search", model, search="top", n_edges=1)
    with pytest.raises(InputError, match="faithfulness"):
        run_analysis("circuit-search", model, faithfulness=1.5)
    with pytest.raises(InputError, match=r"does not fit.*two sequences"):
        run_analysis("circuit-search", zoo.load("zoo:translation"))
