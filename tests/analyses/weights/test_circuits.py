from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("seaborn", reason="needs the extra 'plots'")

from analyses import AnalysisResult, run_analysis
from analyses.weights.circuits import WeightCircuits, WeightCircuitsParams
from interp import HookedTransformer, InputError, load_model
from interp.charts.mpl import draw
from interp.weight_circuits import direct_path, ov_circuit, qk_circuit
from interp.zoo import known
from tests.analyses.undrawn import lay_out
from tests.covering import EXHAUSTIVE
from tests.interp.kinds import KINDS

MakeModel = Callable[..., HookedTransformer]
CHECKS = {"eigenvalues-sum-to-trace", "norm-equals-multiplied-out"}


def _run(model: HookedTransformer, **params: Any) -> AnalysisResult:
    result = run_analysis("weight-circuits", model, quick=True, **params)
    assert {check.name for check in result.checks} == CHECKS
    assert result.passed, result.checks
    return result


@pytest.mark.parametrize(
    "kind",
    ["gpt2", "gpt2-folded", "llama", "attn-only", "no-norm", "gemma2", "mixtral-post", "gpt-oss",
     "shortformer", "bloom", "t5", "marian", "heads-only-translator"],
)  # fmt: skip
def test_every_kind(kind: str, make_model: MakeModel) -> None:
    dtype = "float64" if kind in ("gpt2", "llama", "marian") else "float32"
    model = make_model(**{**KINDS[kind], "dtype": dtype})
    result = _run(model)
    tolerance = {"float32": 1e-5, "float64": 1e-10}[dtype]
    assert all(check.tolerance == tolerance for check in result.checks)
    cfg = model.cfg
    assert len(result.tables["heads"]) == cfg.n_layers * cfg.n_heads
    assert ("neurons" in result.tables) == (not cfg.attn_only and cfg.num_experts is None)
    assert ("composition" in result.tables) == (cfg.n_layers > 1)
    if kind in ("gpt2", "marian"):
        drawn = draw if kind == "gpt2" or EXHAUSTIVE else lay_out
        for chart in result.figures.values():
            drawn(chart, result.tables[chart.table])


def test_tables_are_the_circuits(make_model: MakeModel) -> None:
    """Each list against dense products."""
    model = make_model(dtype="float64", positional_embedding_type="rotary")
    result = _run(model, heads=["L1H2"], k=4, distance=2, token=5, neurons=1)
    tables = result.tables
    with torch.no_grad():
        ov = ov_circuit(model, 1, 2).AB
        qk = qk_circuit(model, 1, 2, distance=2, scaled=True).AB
        path = direct_path(model).AB
    ov = ov - ov.mean(1, keepdim=True)
    qk = qk - qk.mean(1, keepdim=True)
    path = path - path.mean(1, keepdim=True)
    pairs = tables["ov-pairs"]
    for effect, largest in (("raises", True), ("lowers", False)):
        rows = pairs[pairs["effect"] == effect]
        expected = ov.flatten().topk(4, largest=largest)
        assert rows["logit"].to_numpy() == pytest.approx(expected.values.numpy())
        assert (rows["source_id"] * 31 + rows["output_id"]).tolist() == expected.indices.tolist()
        assert rows["source"].tolist() == [str(i) for i in rows["source_id"]]
    pairs = tables["qk-pairs"]
    expected = qk.flatten().topk(4)
    assert pairs["score"].to_numpy() == pytest.approx(expected.values.numpy())
    assert (pairs["destination_id"] * 31 + pairs["source_id"]).tolist() == expected.indices.tolist()
    bigrams = tables["bigrams"]
    assert bigrams["token_id"].tolist() == [5] * 4
    assert bigrams["logit"].to_numpy() == pytest.approx(path[5].topk(4).values.numpy())
    heads = tables["heads"].set_index("component")
    values = torch.linalg.eigvals(ov)
    score = float(values.real.sum() / values.abs().sum())
    assert heads.loc["L1H2", "copying_score"] == pytest.approx(score, abs=1e-7)
    assert heads.loc["L1H2", "own_logit"] == pytest.approx(float(ov.diagonal().mean()))
    eigenvalues = tables["eigenvalues"]
    assert np.all(np.diff(eigenvalues["size"]) <= 1e-12)
    assert eigenvalues["real"].sum() == pytest.approx(float(ov.trace()))
    neurons = tables["neurons"]
    assert neurons.groupby(["layer", "kind"]).size().tolist() == [4] * 8
    triples = tables["skip-trigrams"]
    assert (triples["attention_score"] * triples["logit"]).to_numpy() == pytest.approx(
        triples["strength"].to_numpy()
    )
    assert (triples["attention_score"] > 0).all()


def test_known_induction_model() -> None:
    """The one composition that there is, and what it compares."""
    truth = known.induction()
    tables = _run(truth.model).tables
    first = tables["leading-compositions"].iloc[0]
    assert (first["first"], first["second"], first["through"]) == ("L0H0", "L1H1", "K")
    matching = tables["matching"].iloc[0]
    assert (matching["first"], matching["second"]) == ("L0H0", "L1H1")
    assert matching["matching_score"] == pytest.approx(1.0)
    assert matching["matches_best"] == 1.0
    heads = tables["heads"]
    copies = set(heads.loc[heads["copying_score"] > 0.5, "component"])
    assert copies == truth.expected["copying_heads"]


def test_zoo_induction() -> None:
    """Keys of induction heads read previous-token heads, and compare tokens with themselves."""
    tables = _run(load_model("zoo:induction")).tables
    leading = tables["leading-compositions"]
    assert (leading["through"].head(8) == "K").all()
    assert set(leading["first"].head(8)) == {"L0H1", "L0H2"}  # its two previous-token heads
    assert (leading["z"].head(8) > 5).all()
    assert (tables["matching"]["matching_score"] > 0.99).all()
    heads = tables["heads"]
    assert (heads.loc[heads["layer"] == 1, "copying_score"] > 0.99).all()


@pytest.mark.parametrize("name", ["modular-addition", "translation"])
def test_other_zoo_models(name: str) -> None:
    result = _run(load_model(f"zoo:{name}"))
    assert len(result.tables["heads"]) == 4


def test_real_model(third_party: Callable[[str], Path]) -> None:
    model = load_model(third_party("stories260K"))
    result = _run(model, token=" upon", heads=["L4H0"])
    assert set(result.tables["bigrams"]["token"]) == {" upon"}
    assert result.tables["heads"]["copying_score"].abs().max() <= 1
    effective = _run(model, effective=True, heads=["L0H0", "L4H0"])
    same = effective.tables["heads"]["layer"] == 0
    for column in ("copying_score", "norm"):
        found, before = (r.tables["heads"][column] for r in (effective, result))
        assert found[same].to_numpy() == pytest.approx(before[same].to_numpy())
        assert not np.allclose(found[~same], before[~same])


@pytest.mark.parametrize("kind", ["gpt2", "shortformer", "bidirectional-tied"])
def test_offsets(kind: str, make_model: MakeModel) -> None:
    """By plain loops over destinations and sources."""
    model = make_model(**{**KINDS[kind], "dtype": "float64"})
    offsets = _run(model).tables["offsets"].set_index(["head", "distance"])
    causal = kind != "bidirectional-tied"
    inner = range(8, 16) if causal else range(7, 9)
    with torch.no_grad():
        scores = qk_circuit(model, 0, 2, "position", "position", scaled=True).AB
    distances = range(9) if causal else range(-7, 8)
    assert set(offsets.index.get_level_values("distance")) == set(distances)
    for distance in distances:
        excess, best = [], []
        for i in inner:
            row = scores[i, : i + 1] if causal else scores[i]
            excess.append(float(row[i - distance] - row.mean()))
            best.append(int(row.argmax()) == i - distance)
        found = offsets.loc[(2, distance)]
        assert found["score"] == pytest.approx(np.mean(excess))
        assert found["preferred"] == pytest.approx(np.mean(best))


def test_offsets_show_previous_token_heads() -> None:
    known_one = _run(known.induction().model).tables["offsets"].set_index(["head", "distance"])
    assert known_one.loc[(0, 1), "preferred"] == 1.0
    shipped = _run(load_model("zoo:induction")).tables["offsets"].set_index(["head", "distance"])
    share = shipped.xs(1, level="distance")["preferred"]
    assert set(share[share > 0.85].index) == {1, 2}


def test_what_does_not_fit(make_model: MakeModel) -> None:
    for fields, message in (
        ({"n_layers": 0}, "it has no heads"),
        (KINDS["classifier"], "head='classification'"),
        (KINDS["full-ungrouped"], "centred over all heads"),
    ):
        with pytest.raises(InputError, match=message):
            run_analysis("weight-circuits", make_model(**fields))
    model = make_model()
    for params, message in (
        ({"heads": ["head 3"]}, "named as L1H2"),
        ({"heads": []}, "must not be empty"),
        ({"heads": ["L2H0"]}, "L0H0 … L1H3"),
        ({"token": 31}, "0 … 30"),
        ({"token": "word"}, "no tokenizer"),
        ({"distance": 1}, "only with rotary positions"),
        ({"effective": True, "baseline": "none"}, "baseline"),
    ):
        with pytest.raises(InputError, match=message):
            run_analysis("weight-circuits", model, quick=True, **params)


def test_quick_runs_keep_the_draws() -> None:
    """Over eight draws a standard deviation comes out four times too small now and then."""
    quick = WeightCircuits().quick(WeightCircuitsParams())
    assert quick.n_draws == WeightCircuitsParams().n_draws
    assert quick.top_heads < WeightCircuitsParams().top_heads
