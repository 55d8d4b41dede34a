"""What a call returns and refuses: losses, kinds of result, bad arguments."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from interp import HookedTransformer, InputError, KeyValueCache

MakeModel = Callable[..., HookedTransformer]
AssertClose = Callable[..., None]


def _tokens(batch: int = 3, n: int = 9, seed: int = 0) -> Tensor:
    return torch.randint(31, (batch, n), generator=torch.Generator().manual_seed(seed))


def test_return_types(make_model: MakeModel) -> None:
    model = make_model()
    tokens = _tokens()
    logits = model(tokens)
    assert logits.shape == (3, 9, 31)
    assert model(tokens, return_type=None) is None
    loss = model(tokens, return_type="loss")
    assert loss.shape == ()
    both = model(tokens, return_type="both")
    assert torch.equal(both.logits, logits)
    assert torch.equal(both.loss, loss)
    per_token = model(tokens, return_type="loss", loss_per_token=True)
    assert per_token.shape == (3, 8)
    assert torch.equal(model(tokens[0]), model(tokens[:1]))
    with pytest.raises(InputError, match="return_type"):
        model(tokens, return_type="logit")


def test_loss_is_the_cross_entropy(make_model: MakeModel, assert_close: AssertClose) -> None:
    model = make_model(dtype="float64")
    tokens = _tokens()
    log_probs = model(tokens).log_softmax(-1)
    by_hand = torch.stack(
        [
            torch.stack([-log_probs[row, t, tokens[row, t + 1]] for t in range(8)])
            for row in range(3)
        ]
    )
    assert_close(model(tokens, return_type="loss", loss_per_token=True), by_hand)
    assert_close(model(tokens, return_type="loss"), by_hand.mean())


def test_loss_of_half_precision_is_taken_in_fp32(make_model: MakeModel) -> None:
    model = make_model(dtype="bfloat16")
    loss = model(_tokens(), return_type="loss")
    assert loss.dtype == torch.float32
    logits = model(_tokens()).float()
    assert loss.item() == pytest.approx(
        F.cross_entropy(logits[:, :-1].flatten(0, 1), _tokens()[:, 1:].flatten()).item(), abs=1e-5
    )


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8], ids=str)
def test_tokens_of_any_whole_dtype(dtype: torch.dtype, make_model: MakeModel) -> None:
    model = make_model()
    found = model(_tokens().to(dtype), return_type="both")
    expected = model(_tokens(), return_type="both")
    assert torch.equal(found.logits, expected.logits)
    assert torch.equal(found.loss, expected.loss)


BAD_CALLS: dict[str, tuple[Callable[[HookedTransformer], object], str]] = {
    "token too large": (lambda m: m(torch.tensor([[31]])), r"0 … 30"),
    "negative token": (lambda m: m(torch.tensor([[3, -1]])), r"0 … 30"),
    "float tokens": (lambda m: m(torch.ones(1, 3)), "whole numbers"),
    "bool tokens": (lambda m: m(torch.ones(1, 3).bool()), "whole numbers"),
    "three axes": (lambda m: m(torch.ones(1, 3, 2).long()), r"\[batch, pos\]"),
    "no tokens": (lambda m: m(torch.ones(1, 0).long()), "at least one"),
    "scalar": (lambda m: m(torch.tensor(3)), r"\[batch, pos\]"),
    "a number": (lambda m: m(3), "int"),
    "None": (lambda m: m(None), "None"),
    "text": (lambda m: m("hello"), "tokenizer"),
    "a list of ids": (lambda m: m([1, 2]), "text"),
    "past the positions": (lambda m: m(torch.ones(1, 17).long()), r"n_ctx \(16\)"),
    "mask of one row": (
        lambda m: m(_tokens(), attention_mask=torch.ones(1, 9).long()), "attention_mask"
    ),
    "mask too short": (
        lambda m: m(_tokens(), attention_mask=torch.ones(3, 8).long()), "attention_mask"
    ),
    "mask of scores": (
        lambda m: m(_tokens(), attention_mask=torch.ones(3, 1, 9, 9)), "attention_mask"
    ),
    "stop past the end": (lambda m: m(_tokens(), stop_at_layer=3), "stop_at_layer"),
    "start before the start": (
        lambda m: m(torch.ones(1, 2, 24), start_at_layer=-3), "start_at_layer"
    ),
    "tokens as a residual": (lambda m: m(_tokens(), start_at_layer=1), "residual stream"),
    "wrong width": (lambda m: m(torch.ones(1, 2, 23), start_at_layer=1), r"\[batch, pos, 24\]"),
    "cache of another batch": (
        lambda m: m(_tokens(), past_kv_cache=KeyValueCache.init_cache(m.cfg, "cpu", 2)), "batch",
    ),
    "loss without tokens": (
        lambda m: m(torch.ones(1, 2, 24), start_at_layer=1, return_type="loss"), "tokens"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("call", "message"), BAD_CALLS.values(), ids=BAD_CALLS)
def test_bad_calls(
    call: Callable[[HookedTransformer], object], message: str, make_model: MakeModel
) -> None:
    model = make_model()
    with pytest.raises(InputError, match=message):
        call(model)
    model(_tokens())  # and nothing is left behind


def test_loss_beyond_the_outputs(make_model: MakeModel) -> None:
    with pytest.raises(InputError, match=r"d_vocab_out|logits"):
        make_model(d_vocab_out=5)(torch.tensor([[1, 30]]), return_type="loss")
