"""Predictions along a prompt against plain loops."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch

from analyses.predictions.next_tokens import (
    aligned_texts,
    comparison_table,
    followed_table,
    outputs_table,
    surprise_table,
)
from interp.errors import InputError
from interp.interventions import Place, Zero, applied

TOKENS = torch.tensor([[3, 7, 3, 7, 11]])
OTHER = torch.tensor([[3, 8, 3, 7, 11, 4]])


@pytest.fixture
def model(make_model):
    return make_model(dtype=torch.float64)


def probabilities(model, tokens):
    with torch.no_grad():
        return model(tokens)[0].softmax(-1)


def test_the_likeliest_by_sorting(model):
    logits = model(TOKENS)[0]
    table = outputs_table(model, logits, list("abcde"), [3, 1], 4)
    p = probabilities(model, TOKENS)
    assert table["position"].tolist() == [3] * 4 + [1] * 4
    assert table["at_token"].tolist() == ["d"] * 4 + ["b"] * 4
    for position in (3, 1):
        rows = table[table["position"] == position]
        order = sorted(range(31), key=lambda i, at=position: -p[at, i].item())[:4]
        assert rows["token_id"].tolist() == order and rows["rank"].tolist() == [1, 2, 3, 4]
        assert rows["token"].tolist() == [str(i) for i in order]
        np.testing.assert_allclose(rows["probability"], p[position, order], atol=1e-10)
        np.testing.assert_allclose(rows["logit"], logits[position, order].detach(), atol=1e-10)


def test_surprise_by_a_loop(model):
    tokens = TOKENS[0].tolist()
    table = surprise_table(model, model(TOKENS)[0], tokens, list("abcde"))
    p = probabilities(model, TOKENS)
    assert table["token"].tolist() == list("bcde")
    for row in table.itertuples():
        before = p[row.position - 1]
        assert row.surprise == pytest.approx(-math.log(before[tokens[row.position]]), abs=1e-10)
        assert row.expected == pytest.approx(
            -sum(float(x) * math.log(x) for x in before), abs=1e-10
        )
        assert row.rank == 1 + sum(bool(x > before[tokens[row.position]]) for x in before)


def test_long_prompts_are_read_in_parts(model, monkeypatch):
    logits, tokens = model(TOKENS)[0], TOKENS[0].tolist()
    whole = [surprise_table(model, logits, tokens, "abcde"), outputs_table(model, logits, "abcde")]
    monkeypatch.setattr("analyses.predictions.next_tokens._ROWS", 2)
    parts = [surprise_table(model, logits, tokens, "abcde"), outputs_table(model, logits, "abcde")]
    for one, other in zip(whole, parts, strict=True):
        pd.testing.assert_frame_equal(one, other, rtol=0, atol=1e-12)


def test_what_cannot_be_predicted_does_not_surprise(make_model):
    narrow = make_model(d_vocab_out=8)
    table = surprise_table(narrow, narrow(TOKENS)[0], TOKENS[0].tolist(), list("abcde"))
    assert table["position"].tolist() == [1, 2, 3]  # 11 has no output
    assert surprise_table(narrow, narrow(TOKENS[:, :1])[0], [3], ["a"]).empty


def test_outputs_are_followed(model):
    table = followed_table(model, model(TOKENS)[0], list("abcde"), [5, 2])
    p = probabilities(model, TOKENS)
    np.testing.assert_allclose(table["probability"], torch.cat([p[:, 5], p[:, 2]]), atol=1e-10)
    assert table["rank"].tolist() == [
        1 + int((row > row[token]).sum()) for token in (5, 2) for row in p
    ]
    with pytest.raises(InputError, match=r"0 … 30"):
        followed_table(model, model(TOKENS)[0], list("abcde"), [31])


@pytest.mark.parametrize("plan", [(), (Zero(Place("z", layers=0)),)])
def test_two_prompts_position_by_position(model, plan):
    table = comparison_table(model, {"input": TOKENS}, {"input": OTHER}, plan)
    logs = []
    for tokens in (TOKENS, OTHER):
        with applied(model, plan, tokens):
            logs.append(probabilities(model, tokens)[:5].log())
    p, q = logs
    np.testing.assert_allclose(table["kl"], (p.exp() * (p - q)).sum(-1), atol=1e-10)
    assert table["differs"].tolist() == [False, True, False, False, False]
    assert table["second_token"].tolist() == ["3", "8", "3", "7", "11"]
    expected = [-q[i - 1, OTHER[0, i]].item() for i in range(1, 5)]
    np.testing.assert_allclose(table["second_surprise"][1:], expected, atol=1e-10)
    assert math.isnan(table["change"][0])
    np.testing.assert_allclose(table["first_probability"], p.exp().amax(-1), atol=1e-10)
    assert table["first_next_token"].tolist() == [str(int(i)) for i in p.argmax(-1)]


def test_no_surprise_where_all_is_seen(make_model):
    both = make_model(attention_dir="bidirectional")
    table = comparison_table(both, {"input": TOKENS}, {"input": OTHER})
    assert table["first_surprise"].isna().all() and table["kl"].notna().all()


def test_rows_of_tokens_are_aligned():
    assert aligned_texts(["a", "b"], ["a", "c", "d"]) == ["a", "b|c", "d"]
    assert aligned_texts(["a", ""], ["a"]) == ["a", ""]
