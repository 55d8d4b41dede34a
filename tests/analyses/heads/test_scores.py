"""head-scores: its tables against the library, its verdicts, and the models it refuses."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from analyses import AnalysisResult, run_analysis
from interp import HookedTransformer, InputError, load_model, zoo
from interp.behaviour import (
    BEHAVIOURS,
    head_scores,
    offset_scores,
    repeated_tokens,
    scores_over_checkpoints,
)
from interp.zoo.recipes.repeats import evaluate

MakeModel = Callable[..., HookedTransformer]
QUICK: dict[str, Any] = {"batch": 4, "over_training": False}


@pytest.fixture(scope="module")
def induction() -> AnalysisResult:
    return run_analysis("head-scores", load_model("zoo:induction", device="cpu"), batch=8)


def test_the_zoo_model_has_its_heads_and_no_others(induction: AnalysisResult) -> None:
    assert induction.passed, induction.checks
    found = induction.tables["found"]
    on_random = found[found["text"] == "repeated random tokens"]
    by_kind = {k: set(rows["label"]) for k, rows in on_random.groupby("behaviour")}
    assert by_kind == {
        "previous token": {"L0H1", "L0H2"},
        "induction": {"L1H0", "L1H1", "L1H2", "L1H3"},
        "same token": {"L0H0"},
    }
    assert {"scores", "leading", "offsets", "training", "training-log"} <= set(induction.figures)


def test_tables_are_the_librarys_numbers(induction: AnalysisResult) -> None:
    model = load_model("zoo:induction", device="cpu")
    tokens = repeated_tokens(model, 8).tokens
    assert induction.provenance.tokens == tokens.tolist()
    scores = induction.tables["scores"].query("text == 'repeated random tokens'")
    assert len(scores) == len(BEHAVIOURS) * 8
    expected = head_scores(model, tokens)
    for row in scores.to_dict("records"):
        of = expected[row["behaviour"].replace(" ", "_")]
        at = row["layer"], row["head"]
        assert row["score"] == pytest.approx(float(of.score[at]))
        assert row["stderr"] == pytest.approx(float(of.stderr[at]))
        assert row["chance"] == pytest.approx(float(of.chance[at[0]]))
        assert row["destinations"] == of.n_destinations
    by_offset = offset_scores(model, tokens)
    for row in induction.tables["offsets"].to_dict("records"):
        layer, head = map(int, row["label"][1:].split("H"))
        masses = {k: float(of.score[layer, head]) for k, of in by_offset.by_offset.items()}
        assert row["best_offset"] == max(masses, key=masses.__getitem__)
        assert row["mass"] == pytest.approx(max(masses.values()))
    context = induction.tables["in-context"].set_index("quantity")["nats"]
    assert context["a guess"] == pytest.approx(math.log(64))
    gain = context["loss of the repeat"] - context["loss of the stretch"]
    assert context["in-context score"] == pytest.approx(gain)


def test_training_is_told_at_snapshots_and_from_the_log(induction: AnalysisResult) -> None:
    table = induction.tables["training"]
    (then,) = scores_over_checkpoints("zoo:induction", [450], 8)
    rows = table[table["step"] == 450].set_index("measure")
    assert then.known_loss is not None
    assert rows.loc["loss of the repeat", "value"] == pytest.approx(
        then.known_loss.mean / math.log(64)
    )
    assert "induction: L1H1" in rows.index
    value = float(then.scores["induction"].score[1, 1])
    assert rows.loc["induction: L1H1", "value"] == pytest.approx(value)
    log = induction.tables["training-log"].query("measure == 'induction: L1H1'")
    assert len(log) == 161
    logged = log.set_index("step")["value"]
    # The log's own measure, over stretches of several lengths: easier while the head is learned.
    again = evaluate(zoo.load("zoo:induction", device="cpu", checkpoint=450), seed=1)
    assert abs(logged[450] - float(again.induction[1, 1])) < 0.03
    assert abs(logged[450] - value) > 0.1
    last = table[(table["step"] == 4000) & (table["measure"] == "induction: L1H1")]["value"]
    assert abs(logged[4000] - last.item()) < 0.05


def test_snapshots_read_what_the_model_reads() -> None:
    """The last snapshot is the model itself but for the rounding of what is stored."""
    model = load_model("zoo:induction", device="cpu")
    result = run_analysis("head-scores", model, batch=4, snapshots=1, prepend_bos=False, seed=1)
    scores = result.tables["scores"].set_index(["behaviour", "label"])["score"]
    training = result.tables["training"].query("unit == 'attention mass'")
    assert len(training) == 3
    for row in training.to_dict("records"):
        assert row["value"] == pytest.approx(scores[tuple(row["measure"].split(": "))], abs=1e-4)


def test_an_untrained_model_has_none(make_model: MakeModel) -> None:
    model = HookedTransformer(make_model(n_ctx=64).cfg)  # as training begins
    result = run_analysis("head-scores", model, **QUICK)
    assert result.passed, result.checks
    assert result.tables["found"].empty
    assert set(result.tables["scores"]["verdict"]) == {"does not"}
    assert "training" not in result.tables


def test_texts(induction: AnalysisResult) -> None:
    model = load_model("zoo:induction", device="cpu")
    texts = ["a b c a b c", "d e f g d e f"]
    result = run_analysis("head-scores", model, text=texts, offsets=False, **QUICK)
    assert result.passed, result.checks
    rows = result.tables["scores"].query("text == 'text' and behaviour == 'induction'")
    expected = head_scores(model, texts)["induction"]
    assert rows["score"].to_numpy() == pytest.approx(expected.score.flatten().numpy())
    assert "scores-on-text" in result.figures
    assert "offsets" not in result.figures
    one = run_analysis("head-scores", model, text="a b c a b c", **QUICK)
    verdicts = one.tables["scores"].query("text == 'text'")["verdict"]
    assert set(verdicts) == {"not judged: fewer than two sequences"}
    assert "text" not in set(one.tables["found"]["text"])


@pytest.mark.parametrize("name", ["zoo:brackets", "zoo:translation"])
@pytest.mark.parametrize("part", [None, "decoder"])
def test_encoders(name: str, part: Any) -> None:
    model = load_model(name, device="cpu")
    if name == "zoo:brackets" and part:
        with pytest.raises(InputError, match="encoder-decoder"):
            run_analysis("head-scores", model, part=part, **QUICK)
        return
    result = run_analysis("head-scores", model, part=part, **QUICK)
    assert result.passed, result.checks
    assert "in-context" not in result.tables
    assert len(result.tables["scores"]) == len(BEHAVIOURS) * (12 if name == "zoo:brackets" else 4)


def test_sinks_that_are_learned(make_model: MakeModel) -> None:
    model = make_model(attn_sinks=True, n_ctx=20, dtype="float64")
    result = run_analysis("head-scores", model, **QUICK)
    assert result.passed, result.checks
    assert "learned sink" in next(c.note for c in result.checks if c.name.startswith("attention"))


def test_bad_input() -> None:
    with pytest.raises(InputError, match="too few for a stretch"):
        run_analysis("head-scores", load_model("zoo:modular-addition", device="cpu"))
    model = load_model("zoo:induction", device="cpu")
    with pytest.raises(InputError, match="length must be at most 31"):
        run_analysis("head-scores", model, length=32, **QUICK)
    with pytest.raises(InputError, match="text"):
        run_analysis(
            "head-scores", load_model("zoo:translation", device="cpu"), part="decoder", text="a"
        )


@pytest.mark.usefixtures("undrawn_figures")
def test_no_heads_found_survives_the_disk(make_model: MakeModel, tmp_path: Any) -> None:
    result = run_analysis("head-scores", make_model(n_ctx=20), threshold=1.0, **QUICK)
    assert result.tables["found"].empty
    result.save(tmp_path / "x")
    assert AnalysisResult.load(tmp_path / "x").tables["found"].empty
