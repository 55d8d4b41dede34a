"""The path-patching analysis: its tables against the library, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch

pytest.importorskip("tokenizers", reason="needs the extra 'hf'")

from analyses import run_analysis
from interp import HookedTransformer, InputError, patching, zoo
from interp.circuits import Graph, patch_edges, patch_paths, source_of


@pytest.fixture(scope="module")
def model() -> HookedTransformer:
    return zoo.load("zoo:induction")


@pytest.mark.parametrize("direction", ["denoise", "noise"])
def test_tables_hold_what_the_library_gives(direction: Any, model: HookedTransformer) -> None:
    clean, corrupted = [[0, 5, 9, 7, 8, 5], [0, 4, 9, 8, 7, 4]], [[0, 6, 9, 7, 8, 5]] * 2
    given = {"clean_tokens": clean, "corrupted_tokens": corrupted}
    result = run_analysis(
        "path-patching", model, **given, right=["#9", "#9"], wrong=["#7", "#8"],
        direction=direction, through="L1H2",
    )  # fmt: skip
    assert result.passed
    ends = [torch.tensor(clean), torch.tensor(corrupted)]
    here, there = ends if direction == "noise" else ends[::-1]
    metric = patching.LogitDiff(torch.tensor([9, 9]), torch.tensor([7, 8]))
    with torch.no_grad():
        base, other = (metric.per_prompt(model(tokens)).mean() for tokens in (here, there))
    source = source_of(model, there)
    effects = patch_edges(model, here, source, metric)
    edges = result.tables["edges"]
    assert edges["edge"].tolist() == Graph.of(model).edges
    assert edges["effect"].tolist() == pytest.approx(list(effects.scores().values()), abs=1e-5)
    expected = (effects.values.mean(-1) - base) / (other - base)
    assert edges["normalised"].tolist() == pytest.approx(expected.tolist(), abs=1e-5)
    apart = effects.effects
    assert edges["standard_error"].tolist() == pytest.approx(
        ((apart[:, 0] - apart[:, 1]).abs() / 2).tolist(), abs=1e-5
    )
    runs = result.tables["runs"].iloc[0]
    assert runs["direction"] == direction and runs["value_at_0"] == pytest.approx(float(base))
    paths = result.tables["paths"]
    assert set(paths["through"]) == {"L1H2"} and len(paths) == 3 * 6
    found = patch_paths(model, here, source, list(paths["path"]), metric)
    assert paths["effect"].tolist() == pytest.approx(list(found.scores().values()), abs=1e-5)
    leading = result.tables["leading"]
    assert leading["effect"].abs().is_monotonic_decreasing and len(leading) == 20


def test_the_story_of_the_zoo_model(model: HookedTransformer) -> None:
    result = run_analysis("path-patching", model)
    edges = result.tables["edges"]
    between = edges[edges["sender"].str.startswith("L0") & edges["reader"].str.startswith("L1")]
    best = between.loc[between["effect"].abs().idxmax()]
    assert best["input"] == "k" and best["normalised"] > 0.1
    paths = result.tables["paths"]
    strongest = paths.loc[paths["effect"].abs().idxmax()]
    assert strongest["input"] == "k" and strongest["sender"] == best["sender"]


def test_readers_are_chosen(model: HookedTransformer) -> None:
    chosen = run_analysis("path-patching", model, readers="L1H0.k, logits")
    assert set(chosen.tables["edges"]["reader"] + chosen.tables["edges"]["input"]) == {
        "L1H0k", "logitslogits"
    }  # fmt: skip
    head = run_analysis("path-patching", model, readers=["L1H3"], through="L1H1")
    assert set(head.tables["edges"]["input"]) == {"q", "k", "v"}
    assert set(head.figures) == {"leading", "edges", "paths"}
    # What was not patched may be larger: the figure says so.
    n = len(head.tables["edges"])
    assert head.figures["leading"].title.startswith(f"Largest direct paths of the {n} patched")


def test_of_a_large_model_the_readers_that_matter(
    model: HookedTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analyses.patching.path_patching.MOST", 10)
    edges = run_analysis("path-patching", model).tables["edges"]
    readers = set(edges["reader"]) - {"logits"}
    assert len(readers) == 3 and all(name.startswith("L1H") for name in readers)


def test_errors(model: HookedTransformer) -> None:
    for reader in ("L7H0", "embed"):
        with pytest.raises(InputError, match="readers must be"):
            run_analysis("path-patching", model, readers=[reader])
    with pytest.raises(InputError, match="through must be a part"):
        run_analysis("path-patching", model, through="L0MLP")
    same = {"clean_tokens": [[0, 5, 9]], "corrupted_tokens": [[0, 5, 9]]}
    with pytest.raises(InputError, match="must differ in the"):
        run_analysis("path-patching", model, **same, right=[5], wrong=[9])
    with pytest.raises(InputError, match=r"does not fit.*two sequences"):
        run_analysis("path-patching", zoo.load("zoo:translation"))
