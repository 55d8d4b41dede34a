"""Head scores along the training of zoo:induction."""

from __future__ import annotations

import pytest

from interp import InputError, zoo
from interp.behaviour import found_heads, head_scores, repeated_tokens, scores_over_checkpoints


def test_the_phase_change() -> None:
    """Loss, in-context score and induction heads change together, and not before."""
    before, after = scores_over_checkpoints("zoo:induction", [500, 300], 8)
    assert (before.step, after.step) == (300, 500)
    assert before.known_loss is not None
    assert after.known_loss is not None
    assert after.known_loss.mean < 0.25 * before.known_loss.mean
    assert before.in_context_score is not None
    assert after.in_context_score is not None
    assert after.in_context_score.mean < before.in_context_score.mean - 3
    assert found_heads(before.scores) == []
    assert {f.layer for f in found_heads(after.scores) if f.behaviour == "induction"} == {1}


def test_a_snapshot_is_scored_as_any_model() -> None:
    (found,) = scores_over_checkpoints("zoo:induction", [400], 4, 10, seed=3)
    model = zoo.load("zoo:induction", device="cpu", checkpoint=400)
    tokens = repeated_tokens(model, 4, 10, seed=3).tokens
    for name, of in head_scores(model, tokens).items():
        assert of.values.equal(found.scores[name].values)


def test_texts_begin_as_asked() -> None:
    (found,) = scores_over_checkpoints("zoo:induction", [400], 4, 10, prepend_bos=False)
    model = zoo.load("zoo:induction", device="cpu", checkpoint=400)
    repeated = repeated_tokens(model, 4, 10, prepend_bos=False)
    assert repeated.start == 0
    expected = head_scores(model, repeated.tokens)["previous_token"]
    assert expected.values.equal(found.scores["previous_token"].values)


def test_a_model_that_predicts_no_tokens_has_scores_alone() -> None:
    (found,) = scores_over_checkpoints("zoo:brackets", [200], 4, behaviours=["same_token"])
    assert found.known_loss is found.unknown_loss is found.in_context_score is None
    assert list(found.scores) == ["same_token"]


def test_bad_input() -> None:
    with pytest.raises(InputError, match="snapshots"):
        scores_over_checkpoints("zoo:translation")
    with pytest.raises(InputError, match="zoo model"):
        scores_over_checkpoints("gpt2")
    with pytest.raises(InputError, match="checkpoint must be"):
        scores_over_checkpoints("zoo:induction", [7])
    with pytest.raises(InputError, match="steps must name"):
        scores_over_checkpoints("zoo:induction", [])
