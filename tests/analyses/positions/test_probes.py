"""Where position can be read, against scikit-learn and against what must and cannot be readable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

pytest.importorskip("tokenizers", reason="needs the extra 'hf'")

from analyses import AnalysisResult, run_analysis
from interp import HookedTransformer, HookedTransformerConfig, InputError, load_model
from interp.position_effects.rows import position_rows
from interp.probes import absolute_position, features_of, sites_of, split_by_group
from tests.covering import every_nth

Make = Callable[..., HookedTransformer]
STREAM = ["embed", "pos_embed", "resid_pre", "resid_mid", "resid_post"]
FAST: dict[str, Any] = {"targets": ["position"], "bootstrap": 100, "dimensions": False}


def probe(model: HookedTransformer | str, **params: Any) -> AnalysisResult:
    if isinstance(model, str):
        model = load_model(model, device="cpu")
    result = run_analysis("position-probes", model, **params)
    assert result.passed, [check for check in result.checks if not check.passed]
    return result


def at(result: AnalysisResult, site: str, target: str = "position", **where: Any) -> pd.Series:
    table = result.tables["probes"]
    for column, wanted in {"site": site, "target": target, **where}.items():
        table = table[table[column] == wanted]
    assert len(table) == 1
    return table.iloc[0]


def decoder(**fields: Any) -> HookedTransformer:
    """With fresh weights, as a model is before its training."""
    small: dict[str, Any] = {
        "n_layers": 2, "d_model": 64, "n_ctx": 32, "n_heads": 4, "d_head": 16, "act_fn": "gelu",
        "d_vocab": 40, "device": "cpu", "normalization_type": "LN",
    }  # fmt: skip
    return HookedTransformer(HookedTransformerConfig(**{**small, **fields}))


@pytest.mark.parametrize("name", ["zoo:count-sinusoidal", "zoo:count-learned"])
def test_positions_are_read_where_they_are_put(name: str) -> None:
    result = probe(name, sites=["embed", "pos_embed", "resid_pre"], **FAST)
    there = at(result, "pos_embed")
    assert there.r2 >= 0.99 and there.accuracy >= 0.99
    assert there.random_r2 >= 0.99, "which needs no training"
    mixed = at(result, "L0 resid_pre")
    assert at(result, "embed").r2 < 0.1 < mixed.r2 < there.r2


@pytest.mark.parametrize("target", ["position", "offset", "order"])
def test_shuffled_targets_are_at_chance(target: str) -> None:
    result = probe("zoo:count-none", **{**FAST, "targets": [target]}, sites=["resid_post", "z"])
    rows = result.tables["probes"]
    assert (rows["shuffled_r2"] <= 0.05).all()
    inside = rows["shuffled_accuracy"].between(rows["chance_low"], rows["chance_high"])
    assert inside.mean() >= 0.8  # of 95 % intervals; ten sites with much in common
    assert (rows["chance_accuracy"] < rows["accuracy"].max()).all()


def test_a_decoder_without_encoding_finds_positions_by_itself() -> None:
    trained = probe("zoo:count-none", sites=STREAM, **FAST)
    assert at(trained, "embed").r2 < 0.1
    assert at(trained, "L0 resid_post").r2 > 0.95
    untrained = decoder(positional_embedding_type="none", n_ctx=64)
    random = probe(untrained, sites=["embed", "attn_out"], **FAST)
    assert abs(at(random, "embed").r2) < 0.05
    second = at(random, "L1 attn_out")
    assert second.r2 > 0.5 and second.random_r2 > 0.5, "with no training at all"
    assert second.accuracy < 0.1, "near, and not exact"


def test_an_encoder_without_encoding_never_does() -> None:
    model = decoder(positional_embedding_type="none", architecture="encoder")
    result = probe(model, **{**FAST, "targets": ["position", "offset"]}, sequences=200)
    rows = result.tables["probes"]
    assert (rows["r2"].abs() < 0.05).all()
    # A constant guess of offsets is 0, which is none: their accuracy may be below chance.
    assert (rows["accuracy"] <= rows["chance_high"]).mean() >= 0.9


def test_a_token_that_tells_its_position_is_seen_by_the_token_baseline() -> None:
    """Rows of `count` begin with a digit: the only place of a digit."""
    rows = probe("zoo:count-none", sites=["embed"], **FAST).tables["probes"]
    assert 0.02 < rows["token_r2"].iloc[0] < 0.1
    text = probe("zoo:copy-none", sites=["embed"], **FAST).tables["probes"]
    assert abs(text["token_r2"].iloc[0]) < 0.02


def test_numbers_are_scikit_learns() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model", reason="needs the extra 'dev'")
    from sklearn.preprocessing import StandardScaler

    model = load_model("zoo:count-rotary", device="cpu")
    result = probe(model, sites=["resid_post", "q"], **FAST)
    rows = position_rows(model, 64)
    assert result.provenance.tokens == rows.tokens[:8].tolist()
    of = absolute_position(rows.tokens)
    split = split_by_group(of.groups)
    features = features_of(model, of.tokens, sites_of(model, ["resid_post", "q"]),
                           sampled=of.sampled).of  # fmt: skip
    y = of.values.double().numpy()
    for site in ("L0 resid_post", "L1H2 q"):
        x = features[site].double().numpy()
        scaler = StandardScaler().fit(x[split.train])
        best = None
        for alpha in result.provenance.parameters["alphas"]:
            ridge = linear_model.Ridge(alpha=alpha).fit(
                scaler.transform(x[split.train]), y[split.train]
            )
            guess = ridge.predict(scaler.transform(x))
            loss = np.square(guess - y)[split.validation].mean()
            best = min(best or (np.inf,), (loss, alpha, guess[split.test]))
        wanted, guess = y[split.test], best[2]
        found = at(result, site)
        assert found.chosen == best[1]
        r2 = 1 - np.square(wanted - guess).sum() / np.square(wanted - wanted.mean()).sum()
        assert found.r2 == pytest.approx(r2, abs=1e-6)
        assert found.mae == pytest.approx(np.abs(wanted - guess).mean(), abs=1e-6)
        assert found.accuracy == pytest.approx((guess.round() == wanted).mean(), abs=1e-9)


@pytest.fixture(scope="module")
def everything() -> AnalysisResult:
    model = decoder(
        positional_embedding_type="rotary", n_heads=2, n_key_value_heads=1, n_layers=1, d_model=32
    )
    return probe(
        model,
        probes=["ridge", "logistic", "mlp"],
        sites=["resid_post", "k", "rot_q", "ln_final.hook_normalized"],
        sequences=24,
        length=16,
        bootstrap=100,
        random_models=2,
        repeats=2,
        cs=[1e-3, 1e-1],
    )


def test_all_kinds_of_probe_and_site(everything: AnalysisResult) -> None:
    table = everything.tables["probes"]
    assert set(zip(table["target"], table["probe"], strict=True)) == {
        (target, probe)
        for target, probe in [
            ("position", "ridge"), ("position", "logistic"), ("position", "mlp"),
            ("offset", "ridge"), ("offset", "logistic"), ("offset", "mlp"),
            ("order", "logistic"), ("order", "mlp"),
        ]
    }  # fmt: skip
    assert len(table) == 8 * (1 + 1 + 2 + 1)
    for score in ("r2", "accuracy", "mae"):
        inside = table[f"{score}_low"] <= table[f"{score}_high"]
        assert inside.all() and table[score].notna().all()
    assert (table["selectivity_r2"] == table["r2"] - table["control_r2"]).all()
    controls = everything.tables["controls"]
    assert set(controls["fitted"]) == {
        "this model", "shuffled", "control task", "relabelled", "random weights 0",
        "random weights 1", "token alone",
    }  # fmt: skip
    twins = controls[controls["fitted"].str.startswith("random")]
    mean = twins.groupby(["target", "probe", "site"])["r2"].mean()
    for row in table.itertuples():
        assert row.random_r2 == pytest.approx(mean[row.target, row.probe, row.site])


def test_figures_are_of_both_measures(everything: AnalysisResult) -> None:
    assert {"position-ridge-by-layer", "order-logistic-heads", "offset-dimensions"} <= set(
        everything.figures
    )
    for name, chart in everything.figures.items():
        drawn = chart.rows(everything.tables[chart.table])
        assert set(drawn["measure"]) == {"R²", "accuracy"}, name


def test_dimensions_end_where_all_are_read() -> None:
    """All of a site's features, one after another, are the probe of the table."""
    result = probe(
        decoder(positional_embedding_type="sinusoidal", d_model=32, d_head=8),
        **{**FAST, "dimensions": True, "sites": STREAM},
    )
    curves = result.tables["dimensions"]
    sparse = curves[(curves["chosen"] == "features") & (curves["dimensions"] == 32)]
    assert set(sparse["site"]) == {"embed", "pos_embed", "L0 resid_post", "L1 resid_post"}
    for row in sparse.itertuples():
        of = at(result, row.site)
        expected = of.r2 if row.measure == "R²" else of.accuracy
        assert row.value == pytest.approx(expected, abs=1e-6)


def test_no_number_of_dimensions_is_given_where_nothing_is_read() -> None:
    """At chance every probe reaches 95 % of the accuracy of all dimensions."""
    result = probe(
        "zoo:count-none", **{**FAST, "dimensions": True, "targets": ["offset"]}, sites=STREAM
    )
    needed = result.tables["dimensions-needed"].set_index(["chosen", "site"])
    for chosen in ("features", "directions"):
        before, after = needed.loc[chosen, "embed"], needed.loc[chosen, "L1 resid_post"]
        assert before[["r2_95_at", "accuracy_95_at"]].isna().all()
        assert after[["r2_95_at", "accuracy_95_at"]].notna().all()


@pytest.mark.parametrize("seed", every_nth(range(3), 3, 0))
def test_few_sequences(seed: int) -> None:
    """Offsets of so few rows leave some places without the largest."""
    probe(
        "zoo:count-none",
        **{**FAST, "targets": ["offset"]},
        sites="resid_post",
        sequences=8,
        repeats=2,
        seed=seed,
    )


def test_classes_that_only_other_tokens_drew() -> None:
    """The control task for logistic regression, on rows with many tokens that come once."""
    model = decoder(d_vocab=2000)
    result = probe(model, **FAST, probes="logistic", sites="resid_post", sequences=5, cs=[1e-3])
    assert result.tables["probes"]["control_accuracy"].notna().all()


def test_one_token_beside_the_markers_has_no_control_task() -> None:
    result = probe(decoder(d_vocab=3), **{**FAST, "targets": ["order"]}, sites="resid_post")
    fitted = set(result.tables["controls"]["fitted"])
    assert "shuffled" in fitted and "control task" not in fitted


def test_what_is_not_asked_for_is_not_there() -> None:
    result = probe(
        decoder(), sites="resid_post", controls=False, random_models=0, **FAST, length=12
    )
    table = result.tables["probes"]
    assert not [c for c in table if c.startswith(("token", "shuffled", "control", "random"))]
    assert "heads" not in result.tables and "dimensions" not in result.tables
    assert set(result.tables["controls"]["fitted"]) == {"this model"}


def test_markers_can_be_chosen() -> None:
    options = {**FAST, "targets": ["offset", "order"], "sites": "resid_post", "repeats": 2}
    asked = probe(decoder(), markers=[7, 9], **options).tables["asked"]
    assert list(asked["markers"]) == ["7 (7)", "7 (7), 9 (9)"]
    assert (asked["replaced_tokens"] > 0).all()
    for bad in ([7], [7, 7], [7, 40]):
        with pytest.raises(InputError, match="markers must be two different tokens"):
            probe(decoder(), markers=bad, **options)


def test_the_twin_is_not_the_beginning_of_the_model() -> None:
    """A model that was seeded with 1 has a twin with another seed."""
    model = decoder(seed=1, positional_embedding_type="none")
    table = probe(model, sites="resid_post", **FAST).tables["probes"]
    assert (table["random_r2"] != table["r2"]).all()


def test_faults_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks of features and scores are no formality."""
    from analyses.positions import probe_runs

    def shifted(*args: Any, **kwargs: Any) -> Any:
        found = features_of(*args, **kwargs)
        for x in found.distinct.values():
            x.copy_(x.roll(1, 0))
        return found

    monkeypatch.setattr(probe_runs, "features_of", shifted)
    result = run_analysis("position-probes", decoder(), sites="resid_post", **FAST)
    assert [c.name for c in result.checks if not c.passed] == ["features-are-the-caches"]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="two stacks"):
        probe("zoo:translation")
    with pytest.raises(InputError, match="too few for offsets"):
        probe("zoo:modular-addition")
    with pytest.raises(InputError, match="at least 5"):
        probe(decoder(), sequences=4)
    with pytest.raises(InputError, match="no hook is called"):
        probe(decoder(), sites="residual")


def test_half_precision_is_probed_in_fp32(make_model: Make) -> None:
    model = make_model(dtype=torch.bfloat16, positional_embedding_type="sinusoidal")
    assert at(probe(model, sites="pos_embed", **FAST), "pos_embed").r2 > 0.99
