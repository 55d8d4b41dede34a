"""Maps of attention against the cache, loops and sums by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from analyses.heads.attention_maps import (
    attention_maps,
    behaviour_table,
    cells_table,
    focus_table,
    paired_texts,
    rollout_maps,
    visible_sources,
)
from interp.attribution.rollout import attention_rollout
from interp.errors import InputError

TOKENS = torch.tensor([[3, 7, 3, 7, 11, 3]])
CAUSAL = np.tril(np.ones((6, 6), bool))


@pytest.fixture
def model(make_model):
    return make_model(dtype=torch.float64)


@pytest.fixture
def seq2seq(make_model):
    return make_model(architecture="encoder-decoder", dtype=torch.float64)


@torch.no_grad()
def test_measures_are_those_of_the_cache(model):
    _, cache = model.run_with_cache(TOKENS)
    for measure, hook in (("pattern", "pattern"), ("scores", "attn_scores")):
        found = attention_maps(model, {"input": TOKENS}, [1, 0], measure).numpy()
        assert np.isnan(found[..., ~CAUSAL]).all()
        for i, layer in enumerate((1, 0)):
            expected = cache[hook, layer][0].numpy()
            np.testing.assert_allclose(found[i][..., CAUSAL], expected[..., CAUSAL], atol=1e-10)
    weighted = attention_maps(model, {"input": TOKENS}, [1], "weighted")
    for head in range(4):
        for i in range(6):
            for j in range(i + 1):
                moved = cache["v", 1][0, j, head] @ model.W_O[1, head]
                expected = cache["pattern", 1][0, head, i, j] * moved.norm()
                assert weighted[0, head, i, j].item() == pytest.approx(expected.item(), abs=1e-10)


@torch.no_grad()
def test_windows_leave_out_what_is_far(make_model):
    local = make_model(attn_types=["local", "global"], window_size=2, dtype=torch.float64)
    found = attention_maps(local, {"input": TOKENS}, [0, 1])
    near = CAUSAL & (np.subtract.outer(np.arange(6), np.arange(6)) < 2)
    assert np.array_equal(~np.isnan(found[0, 0].numpy()), near)
    assert np.array_equal(~np.isnan(found[1, 0].numpy()), CAUSAL)
    assert np.allclose(np.nansum(found.numpy(), -1), 1, atol=1e-10)  # all of it is seen
    assert np.array_equal(visible_sources(local, 0, 6, 6).numpy(), near)


@torch.no_grad()
def test_what_an_intervention_cuts_is_zero_not_absent(model):
    def cut(scores, hook):
        scores[:, :, 4, 2] = -torch.inf
        return scores

    with model.hooks(fwd_hooks=[("blocks.0.attn.hook_attn_scores", cut)]):
        pattern = attention_maps(model, {"input": TOKENS}, [0])
        scores = attention_maps(model, {"input": TOKENS}, [0], "scores")
    assert (pattern[0, :, 4, 2] == 0).all() and (scores[0, :, 4, 2] == -torch.inf).all()
    rows = cells_table(scores[0, 0].numpy(), "abcdef", "abcdef", "score")
    row = rows[(rows["destination"] == 4) & (rows["source"] == 2)]
    assert len(rows) == 21 and row["score"].isna().all()


@torch.no_grad()
def test_encoder_decoders_have_three_kinds(seq2seq):
    inputs = {"input": TOKENS, "decoder_input": TOKENS[:, :4]}
    _, cache = seq2seq.run_with_cache(**inputs)
    for attends, name, shape in (
        ("self", "decoder.blocks.0.attn", (4, 4)),
        ("encoder", "encoder.blocks.0.attn", (6, 6)),
        ("cross", "decoder.blocks.0.cross_attn", (4, 6)),
    ):
        found = attention_maps(seq2seq, inputs, [0], attends=attends)[0]
        assert found.shape[1:] == shape
        assert torch.isnan(found).any() == (attends == "self")
        torch.testing.assert_close(found.nan_to_num(), cache[f"{name}.hook_pattern"][0])
    torch.testing.assert_close(
        rollout_maps(seq2seq, inputs, "encoder"), attention_rollout(cache, stack="encoder")[:, 0]
    )
    for refused in (rollout_maps, behaviour_table):
        with pytest.raises(InputError, match="cross-attention"):
            refused(seq2seq, inputs, "cross")


def test_what_is_not_there_is_refused(model):
    with pytest.raises(InputError, match="needs an encoder-decoder"):
        attention_maps(model, {"input": TOKENS}, [0], attends="cross")
    with pytest.raises(InputError, match=r"layers must lie in 0 … 1"):
        attention_maps(model, {"input": TOKENS}, [2])
    with pytest.raises(InputError, match="one row"):
        attention_maps(model, {"input": TOKENS.repeat(2, 1)}, [0])
    with pytest.raises(InputError, match="measure"):
        attention_maps(model, {"input": TOKENS}, [0], "values")
    with pytest.raises(InputError, match="needs a text"):
        cells_table(np.eye(3), "ab", "abc")


def test_focus_by_hand():
    cells = np.array([[1, np.nan, np.nan], [0.25, 0.75, np.nan], [0.5, 0.25, 0.25]])
    table = focus_table(cells, "abc", "xyz")
    entropy = [0, -0.25 * math.log(0.25) - 0.75 * math.log(0.75), 1.5 * math.log(2)]
    np.testing.assert_allclose(table["entropy"], entropy, atol=1e-12)
    np.testing.assert_allclose(table["uniform"], np.log([1, 2, 3]))
    assert table["source_token"].tolist() == ["x", "y", "x"]
    assert table["attention"].tolist() == [1, 0.75, 0.5]


def test_focus_of_weights_that_are_no_pattern():
    """The largest of several patterns, a pattern that was cut, one that an edit took below 0."""
    cells = np.array([[0.9, 0.9, np.nan], [0, 0.25, 0.75], [0, 0, np.nan], [-1, 1, 1]])
    table = focus_table(cells / 1.2, "abcd", "xyz")
    assert table["entropy"][0] == pytest.approx(math.log(2), abs=1e-12)
    assert table["entropy"][1] == pytest.approx(
        -0.25 * math.log(0.25) - 0.75 * math.log(0.75), abs=1e-12
    )
    assert table["entropy"][2:].isna().all()
    assert table["source_token"].tolist() == ["x", "z", "x", "y"]
    below = focus_table(np.array([[-2.0, -1.0, np.nan]]), "a", "xyz")
    assert (below["source_token"][0], below["attention"][0]) == ("y", -1.0)  # none that is absent


@torch.no_grad()
def test_behaviours_by_a_loop(model):
    table = behaviour_table(model, {"input": TOKENS})
    _, cache = model.run_with_cache(TOKENS)
    tokens = TOKENS[0].tolist()
    for (name, layer, head), row in table.set_index(["behaviour", "layer", "head"]).iterrows():
        pattern = cache["pattern", layer][0, head]
        masses = []
        for i in range(1, 6):
            places = {
                "previous token": [i - 1] if i > 1 else [],
                "duplicate token": [j for j in range(i) if tokens[j] == tokens[i]],
                "induction": [j for j in range(1, i + 1) if tokens[j - 1] == tokens[i]],
                "first token": [0],
                "same token": [i],
            }[name]
            if places:
                masses.append(sum(pattern[i, j].item() for j in places))
        assert row["score"] == pytest.approx(np.mean(masses), abs=1e-10), name
        assert row["destinations"] == len(masses)
    assert len(table) == 5 * 8
    without = behaviour_table(model, {"input": torch.tensor([[1, 2, 3]])})
    assert set(without["behaviour"]) == {"previous token", "first token", "same token"}


def test_two_rows_of_tokens_as_one():
    assert paired_texts(["a", "b", ""], ["a", "c", "d"]) == ["a", "b|c", "|d"]
    with pytest.raises(InputError, match="as many tokens each"):
        paired_texts(["a"], ["a", "b"])
