"""The analysis of lengths: its tables against the library, its identities, what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import pandas as pd
import pytest
import torch

pytest.importorskip("tokenizers", reason="needs the extra 'hf'")

from analyses import run_analysis
from analyses.positions.length_tables import PUBLISHED, encoding_name
from interp import HookedTransformer, InputError, load_model, zoo
from interp.charts.palette import CATEGORICAL
from interp.position_effects import position_rows
from interp.position_effects.length import PositionScores, Variant, by_position
from interp.zoo.tasks import ENCODINGS

NAME = "length-generalisation"
Make = Callable[..., HookedTransformer]


@pytest.fixture(scope="module")
def rotary() -> HookedTransformer:
    return load_model("zoo:copy-rotary", device="cpu")


def test_tables_say_what_the_library_finds(rotary: HookedTransformer) -> None:
    result = run_analysis(NAME, rotary, sequences=6, times=2, seed=4)
    assert result.passed
    by_length, by_position_ = result.tables["by-length"], result.tables["by-position"]
    assert set(by_length["label"]) == {
        "rotary", "rotary, linear", "rotary, ntk", "rotary, dynamic", "rotary, yarn",
    }  # fmt: skip
    assert len(by_length) == 5 * 2 * 2  # variants, kinds of distance, lengths
    rows = position_rows(rotary, 6, 96, seed=4, offsets="trained")
    scores = by_position(rotary, rows)
    chosen = {"variant": "plain", "distances": "distances as trained", "length": 96}
    (row,) = _where(by_length, **chosen).itertuples()
    assert row.loss == scores.mean_loss().mean
    assert row.loss_stderr == scores.mean_loss().stderr
    assert row.accuracy == scores.mean_accuracy().mean
    assert row.accuracy_beyond == scores.mean_accuracy(slice(48, None)).mean
    assert (row.doublings, row.times, row.rows) == (1, "2×", 6)
    assert row.predictions == int(rows.scored.sum())
    bins = _where(by_position_, **chosen)
    assert (bins["loss"] * bins["predictions"]).sum() / bins["predictions"].sum() == pytest.approx(
        row.loss
    )
    assert bins["predictions"].sum() == row.predictions
    for each in bins.itertuples():
        part = slice(each.first, each.last + 1)
        assert each.loss == scores.mean_loss(part).mean
        assert each.beyond_trained == (each.first >= 48)
        assert each.last < 48 or each.first >= 48, "a bin lies on one side"
    assert not by_position_.loc[by_position_["length"] == 48, "longest"].any()


def test_a_table_of_positions_refuses_and_the_rest_goes_on() -> None:
    result = run_analysis(NAME, load_model("zoo:count-learned", device="cpu"), sequences=4)
    table = result.tables["by-length"]
    assert table["length"].tolist() == [48, 96, 192, 384]
    assert table["note"].tolist()[0] == ""
    assert table["note"].tolist()[1:] == [
        f"learned positions end at n_ctx (48). Received {length} tokens."
        for length in (96, 192, 384)
    ]
    assert table["accuracy"].isna().tolist() == [False, True, True, True]
    assert result.passed and set(result.tables["by-position"]["length"]) == {48}
    said = result.tables["published"]["measured"].tolist()
    assert said == [f"accuracy {table['accuracy'][0]:.2f} at 48, refused at 96, refused at 192, "
                    "refused at 384 tokens"]  # fmt: skip


def test_siblings_are_the_other_encodings(rotary: HookedTransformer) -> None:
    result = run_analysis(NAME, rotary, sequences=4, times=1, siblings=True, variants=["plain"])
    table = result.tables["by-length"]
    assert list(dict.fromkeys(table["encoding"])) == list(ENCODINGS)
    assert set(table["model"]) == {f"zoo:copy-{encoding}" for encoding in ENCODINGS}
    alone = run_analysis(NAME, load_model("zoo:copy-t5", device="cpu"), sequences=4, times=1)
    beside = _where(table, encoding="t5").reset_index(drop=True)
    pd.testing.assert_frame_equal(beside, alone.tables["by-length"])


def test_no_figure_has_more_lines_than_colours(rotary: HookedTransformer) -> None:
    """All of seven encodings and five ways to stretch one would be shades of blue."""
    result = run_analysis(NAME, rotary, sequences=4, times=2, siblings=True)
    assert len(result.figures) == 8
    drawn: dict[str, set[str]] = {}
    for name, chart in result.figures.items():
        rows = _where(result.tables[chart.table], **chart.where)
        assert chart.color is not None and chart.color in rows
        drawn[name] = set(rows[chart.color])
        assert len(drawn[name]) <= len(CATEGORICAL)
    assert drawn["accuracy-by-length"] == drawn["loss-by-position"] == set(ENCODINGS)
    assert drawn["accuracy-by-length-rotary"] == drawn["loss-by-position-rotary"]
    assert drawn["loss-by-length-rotary"] == set(get_args(Variant))
    few = run_analysis(NAME, rotary, sequences=4, times=1, siblings=True, variants=["yarn"])
    chart = few.figures["accuracy-by-length"]
    rows = _where(few.tables["by-length"], **chart.where)
    assert set(rows[str(chart.color)]) == {*ENCODINGS} - {"rotary"} | {"rotary, yarn"}


def test_every_encoding_of_the_zoo_has_something_published() -> None:
    models = [f"zoo:copy-{encoding}" for encoding in ENCODINGS]
    assert set(models) < set(zoo.entries())
    named = {encoding_name(load_model(name, device="cpu")) for name in models}
    assert named == {each.encoding for each in PUBLISHED} == set(ENCODINGS)


def test_without_a_task_and_with_texts(make_model: Make) -> None:
    model = make_model(positional_embedding_type="alibi", n_ctx=16)
    result = run_analysis(NAME, model)
    table = result.tables["by-length"]
    assert table["length"].tolist() == [16, 32, 64]
    assert set(table["rows"]) == {8} and result.passed
    given = run_analysis(NAME, model, trained_length=5, lengths=[20, 10], rows="random")
    assert given.tables["by-length"]["length"].tolist() == [10, 20]
    assert given.tables["by-length"]["times"].tolist() == ["2×", "4×"]
    assert given.tables["by-position"]["beyond_trained"].any() and given.passed
    assert set(table["kind"]) == {"repeated random tokens"}
    assert result.figures["loss-by-length"].title == "Loss by length (repeated random tokens)"
    said = result.tables["published"]["measured"].tolist()
    losses = ", ".join(f"{row.loss:.2f} at {row.length}" for row in table.itertuples())
    assert set(said) == {f"loss {losses} tokens"}, "papers report it of text"
    induction = load_model("zoo:induction", device="cpu")
    on_text = run_analysis(NAME, induction, text="aBcDeFgHiJ" * 40, sequences=3, times=1)
    (row,) = on_text.tables["by-length"].itertuples()
    assert row.predictions == 3 * 63 and on_text.passed
    little = run_analysis(NAME, induction, text="aBcDeFgHiJ" * 4, sequences=2, lengths=[20])
    assert little.passed, "two rows are asked for, two there are"


def test_dynamic_models_are_checked_for_what_holds(make_model: Make) -> None:
    """What follows changes what they read before."""
    scaling = {"kind": "dynamic", "factor": 2.0, "original_n_ctx": 8}
    model = make_model(positional_embedding_type="rotary", rotary_scaling=scaling, n_ctx=32)
    result = run_analysis(NAME, model)
    assert [check.name for check in result.checks] == ["positions-make-the-whole"]
    assert result.passed


@pytest.mark.parametrize(
    ("name", "replacement"),
    [
        ("positions-make-the-whole", lambda scores: _moved(scores, 0)),
        ("what-follows-changes-nothing", lambda scores: _moved(scores, scores.losses.shape[1])),
    ],
)
def test_checks_notice_a_fault(
    rotary: HookedTransformer, monkeypatch: pytest.MonkeyPatch, name: str, replacement: Any
) -> None:
    def faulty(*args: Any, **kwargs: Any) -> PositionScores:
        return replacement(by_position(*args, **kwargs))

    monkeypatch.setattr("analyses.positions.length_generalisation.by_position", faulty)
    result = run_analysis(NAME, rotary, sequences=2, times=1)
    failed = {check.name for check in result.checks if not check.passed}
    assert name in failed


def test_a_factor_that_does_something_is_noticed(
    rotary: HookedTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from interp.position_effects.length import rotary_variant

    monkeypatch.setattr(
        "analyses.positions.length_generalisation.rotary_variant",
        lambda model, variant, length, trained: rotary_variant(model, variant, length, trained - 1),
    )
    result = run_analysis(NAME, rotary, sequences=2, times=1)
    assert [c.name for c in result.checks if not c.passed] == ["factor-one-changes-nothing"]


def test_bad_input(rotary: HookedTransformer, make_model: Make) -> None:
    model = make_model(positional_embedding_type="rotary")
    for arguments, rule in (
        ({"lengths": [8], "times": 2}, "lengths or times"),
        ({"lengths": []}, "lengths"),
        ({"lengths": [8, 8]}, "different numbers"),
        ({"lengths": [1]}, "at least 2"),
        ({"variants": ["longrope"]}, "variants are different ones of plain, linear"),
        ({"siblings": True}, "siblings are of the zoo's models"),
        ({"rows": "task"}, "need a model with a task"),
        ({"text": ["a"]}, "tokenizer"),
    ):
        with pytest.raises(InputError, match=rule):
            run_analysis(NAME, model, **arguments)
    with pytest.raises(InputError, match="no meaning for rows of a task"):
        run_analysis(NAME, rotary, prepend_bos=False, times=1)
    with pytest.raises(InputError, match="does not predict next tokens"):
        run_analysis(NAME, load_model("zoo:brackets", device="cpu"))
    with pytest.raises(InputError, match="too few"):
        run_analysis(NAME, make_model(n_ctx=4))


def _where(table: pd.DataFrame, **values: Any) -> pd.DataFrame:
    for column, value in values.items():
        table = table[table[column] == value]
    return table


def _moved(scores: PositionScores, by: int) -> PositionScores:
    """Losses that know how long the row is."""
    return PositionScores(scores.losses + 0.1 + torch.tensor(by), scores.right, scores.scored)
