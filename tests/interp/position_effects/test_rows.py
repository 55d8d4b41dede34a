"""What rows are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp import HookedTransformer, InputError, load_model
from interp.position_effects import Rows, position_rows
from interp.zoo.tasks import TASKS

Make = Callable[..., HookedTransformer]


@pytest.fixture(scope="module")
def induction() -> HookedTransformer:
    return load_model("zoo:induction", device="cpu")


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 5), length=st.integers(1, 40), seed=st.integers(0, 99))
def test_random_rows_predict_the_next_token(
    make_model: Make, n: int, length: int, seed: int
) -> None:
    model = make_model(positional_embedding_type="none")
    rows = position_rows(model, n, length, seed, kind="random")
    assert rows.targets is not None
    assert rows.tokens.shape == rows.targets.shape == rows.scored.shape == (n, length)
    assert (rows.n, rows.length, rows.kind) == (n, length, "random tokens")
    assert not rows.begins_with_bos  # no tokenizer, no BOS
    for i in range(n):
        for t in range(length):
            assert bool(rows.scored[i, t]) == (t < length - 1)
            if t < length - 1:
                assert rows.targets[i, t] == rows.tokens[i, t + 1]
    again = position_rows(model, n, length, seed, kind="random")
    assert torch.equal(rows.tokens, again.tokens)


def test_random_rows_are_uniform_and_never_special(induction: HookedTransformer) -> None:
    rows = position_rows(induction, 400, 50, kind="random")
    special = set(induction.tokenizer.all_special_ids)
    assert rows.begins_with_bos
    assert bool((rows.tokens[:, 0] == induction.tokenizer.bos_token_id).all())
    drawn = rows.tokens[:, 1:].flatten()
    assert not special & set(drawn.tolist())
    counts = torch.bincount(drawn, minlength=induction.cfg.d_vocab).double()
    n_symbols = len(set(induction.tokenizer.get_vocab().values()) - special)
    counts = counts[counts > 0]
    assert len(counts) == n_symbols
    # Each count is binomial; six standard deviations.
    expected = drawn.numel() / n_symbols
    assert float((counts - expected).abs().max()) < 6 * expected**0.5
    bare = position_rows(induction, 4, 50, kind="random", prepend_bos=False)
    assert not bare.begins_with_bos and not special & set(bare.tokens.flatten().tolist())
    other = position_rows(induction, 400, 50, seed=1, kind="random")
    assert not torch.equal(rows.tokens, other.tokens)


@settings(max_examples=25, deadline=None)
@given(length=st.integers(4, 80), d_vocab=st.integers(5, 60))
def test_repeated_rows_score_what_has_come_before(
    make_model: Make, length: int, d_vocab: int
) -> None:
    model = make_model(positional_embedding_type="none", d_vocab=d_vocab)
    rows = position_rows(model, 3, length, kind="repeated")
    half = -(-length // 2)
    for row, scored in zip(rows.tokens.tolist(), rows.scored.tolist(), strict=True):
        for t in range(half, length):
            assert row[t] == row[t - half]
        if d_vocab >= half:
            assert len(set(row[:half])) == half
        # A target is known if both it and the token before it stand half a row earlier.
        assert scored == [half <= t < length - 1 for t in range(length)]


def test_texts_are_cut_each_by_itself(induction: HookedTransformer) -> None:
    texts = ["abcdefgh" * 4 + "x", "klmno", "pqrstuvw" * 3 + "yz"]  # 33, 5 and 26 tokens
    rows = position_rows(induction, 7, 9, texts=texts)  # BOS and 8: four, none and three pieces
    assert rows.kind == "text" and rows.begins_with_bos and rows.targets is not None
    assert bool((rows.tokens[:, 0] == induction.tokenizer.bos_token_id).all())
    cut = [induction.to_string(row) for row in rows.tokens[:, 1:]]
    whole = [induction.to_string(induction.to_tokens(text)[0, 1:]) for text in texts]
    assert cut == [whole[0][:8]] * 4 + [whole[2][:8]] * 3
    assert torch.equal(rows.targets[:, :-1], rows.tokens[:, 1:])
    assert rows.scored.sum() == 7 * 8
    fewer = [position_rows(induction, 2, 9, seed, texts).tokens for seed in range(12)]
    assert len({str(tokens.tolist()) for tokens in fewer}) > 1  # the seed says which pieces
    with pytest.raises(InputError, match=r"8 rows of 8 tokens .*64 tokens at least.* 7 rows"):
        position_rows(induction, 8, 9, texts=texts)


def test_auto_is_text_then_task_then_random(make_model: Make, induction: HookedTransformer) -> None:
    assert position_rows(induction, 2).kind == "task repeat"
    assert position_rows(induction, 2, 9, texts=["abcdefgh" * 4]).kind == "text"
    assert position_rows(make_model(), 2).kind == "random tokens"
    assert position_rows(make_model(n_ctx=16), 2).length == 16
    assert position_rows(make_model(n_ctx=99), 2).length == 64


def test_task_rows_are_the_tasks(induction: HookedTransformer) -> None:
    rows, made = position_rows(induction, 5, seed=3), TASKS["repeat"].rows(5, seed=3)
    assert rows.targets is not None
    for found, expected in (
        (rows.tokens, made.tokens), (rows.targets, made.targets), (rows.scored, made.scored)
    ):  # fmt: skip
        assert torch.equal(found, expected)
    assert rows.begins_with_bos and rows.length == TASKS["repeat"].trained_length


def test_offsets_reach_the_task() -> None:
    model = _named("zoo:copy-none")
    scaled, trained = (
        position_rows(model, 50, 400, offsets=each) for each in ("scaled", "trained")
    )
    expected = TASKS["copy"].rows(50, 400, 0, "trained").tokens
    assert torch.equal(trained.tokens, expected)
    assert not torch.equal(scaled.tokens, trained.tokens)
    assert model.tokenizer is None and scaled.begins_with_bos  # as all rows of tasks


@pytest.mark.parametrize("name", ["zoo:brackets", "zoo:modular-addition"])
def test_models_that_predict_no_tokens_have_no_targets(name: str) -> None:
    model = load_model(name, device="cpu")
    rows = position_rows(model, 3)
    assert rows.targets is None and not rows.scored.any()
    assert rows.length == min(model.cfg.n_ctx, 64)
    model(rows.tokens)
    if name == "zoo:brackets":  # an encoder's texts begin with CLS
        assert rows.begins_with_bos and bool((rows.tokens[:, 0] == 1).all())


def test_who_counts_says_nothing_of_the_next_token() -> None:
    model = load_model("zoo:count-none", device="cpu")
    assert position_rows(model, 2).scored[:, 1:].all()
    for asked in ({"kind": "random"}, {"kind": "repeated"}, {"texts": ["aBc" * 20]}):
        rows = position_rows(model, 1, 20, **asked)
        assert rows.targets is None and not rows.scored.any()
    assert (
        position_rows(load_model("zoo:copy-none", device="cpu"), 2, kind="random").targets
        is not None
    )


def test_bad_input(make_model: Make, induction: HookedTransformer) -> None:
    model = make_model()
    refused: list[tuple[HookedTransformer, dict[str, Any], str]] = [
        (model, {"n": 0}, "n must be"),
        (model, {"length": 0}, "length must be"),
        (model, {"length": 17}, "learned positions end at n_ctx"),
        (model, {"kind": "both"}, "kind must be one of"),
        (model, {"kind": "task"}, "has none"),
        (model, {"kind": "text"}, "need texts"),
        (model, {"kind": "random", "texts": ["a"]}, "texts are for rows of kind 'text'"),
        (model, {"texts": "a text"}, "must be a list"),
        (model, {"kind": "repeated", "length": 3}, "must fit twice"),
        (model, {"kind": "random", "prepend_bos": True}, "prepend_bos needs a tokenizer"),
        (model, {"kind": "random", "offsets": "trained"}, "offsets are for rows of a task"),
        (induction, {"prepend_bos": False}, "no meaning for rows of a task"),
        (induction, {"length": 65}, "learned positions end at n_ctx"),
    ]
    for refusing, arguments, rule in refused:
        with pytest.raises(InputError, match=rule):
            position_rows(refusing, **{"n": 2, **arguments})
    both = make_model(architecture="encoder-decoder", positional_embedding_type="none")
    with pytest.raises(InputError, match="encoder-decoder"):
        position_rows(both, 2, 8)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("kind", ["random", "repeated"])
def test_rows_are_the_same_on_every_device(make_model: Make, kind: Any) -> None:
    def made(device: str) -> Rows:
        return position_rows(make_model(device=device), 3, 12, kind=kind)

    cpu, cuda = made("cpu"), made("cuda")
    assert cuda.tokens.is_cuda and cuda.scored.is_cuda
    assert torch.equal(cpu.tokens, cuda.tokens.cpu())
    assert torch.equal(cpu.scored, cuda.scored.cpu())


def _named(name: str) -> HookedTransformer:
    """Fresh weights under the name of a model that has a task."""
    fields = {"n_layers": 1, "d_model": 8, "n_heads": 2, "n_ctx": 48, "d_vocab": 64}
    fields |= {"attn_only": True, "positional_embedding_type": "none", "device": "cpu"}
    return HookedTransformer({**fields, "model_name": name})
