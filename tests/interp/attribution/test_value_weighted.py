from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from interp import HookedTransformer, InputError
from interp.attribution.value_weighted import value_weighted_attention
from interp.zoo import known
from tests.interp.kinds import KINDS, given_to, some_tokens

MakeModel = Callable[..., HookedTransformer]
AssertClose = Callable[..., None]


@pytest.mark.parametrize(
    "name", ["gpt2", "llama", "llama-ungrouped", "multi-query", "wide-heads", "t5", "translator"]
)
def test_sizes_of_what_is_added_up(
    name: str, make_model: MakeModel, assert_close: AssertClose
) -> None:
    """Every summand α v W_O by itself: their sum is hook_result, their sizes are what is given."""
    model = make_model(dtype="float64", **KINDS[name])
    names = ["*attn.hook_pattern", "*attn.hook_v", "*attn.hook_result"]
    with torch.no_grad():
        _, cache = model.run_with_cache(**given_to(model), names_filter=names)
    both = model.cfg.architecture == "encoder-decoder"
    for attends in ("self", "cross", "encoder") if both else ("self",):
        stack = model.encoder if attends == "encoder" else model.main_stack
        part = "cross_attn" if attends == "cross" else "attn"
        prefix = "" if not both else "encoder." if attends == "encoder" else "decoder."
        for layer in range(len(stack.blocks)):
            name = f"{prefix}blocks.{layer}.{part}.hook_"
            pattern, v = cache[f"{name}pattern"], cache[f"{name}v"]
            W_O = getattr(stack.blocks[layer], part).W_O.detach()
            by_output = value_weighted_attention(cache, layer, attends=attends)
            by_value = value_weighted_attention(cache, layer, "value", attends=attends)
            for head in range(W_O.shape[0]):
                mine = v[:, :, head * v.shape[2] // W_O.shape[0]]
                added = pattern[:, head, :, :, None] * (mine @ W_O[head])[:, None]
                assert_close(added.sum(2), cache[f"{name}result"][:, :, head])
                assert_close(by_output[:, head], added.square().sum(-1).sqrt())
                size = mine.square().sum(-1).sqrt()
                assert_close(by_value[:, head], pattern[:, head] * size[:, None])


def test_normalised(make_model: MakeModel, assert_close: AssertClose) -> None:
    _, cache = make_model(dtype="float64").run_with_cache(some_tokens())
    sizes = value_weighted_attention(cache, -1)
    shares = value_weighted_attention(cache, 1, normalise=True)
    assert_close(shares.sum(-1), torch.ones_like(shares.sum(-1)))
    assert_close(shares * sizes.sum(-1, keepdim=True), sizes)


def test_what_is_nothing_stays_nothing(make_model: MakeModel) -> None:
    model = make_model()
    with torch.no_grad():
        model.blocks[0].attn.W_O.zero_()
    _, cache = model.run_with_cache(some_tokens())
    assert (value_weighted_attention(cache, 0, normalise=True) == 0).all()


def test_known_values(assert_close: AssertClose) -> None:
    """Every token is a unit vector to the previous-token head: it weighs what it attends to."""
    truth = known.previous_token()
    _, cache = truth.model.run_with_cache(truth.clean)
    found = value_weighted_attention(cache, 0, "value")[:, 0, truth.position]
    assert_close(found, truth.patterns["L0H0", truth.position].double())


def test_bad_input(make_model: MakeModel) -> None:
    model = make_model()
    _, cache = model.run_with_cache(some_tokens())
    for rule, arguments in {
        "layer must lie in -2 … 1": {"layer": 2},
        "size_of must be": {"layer": 0, "size_of": "key"},
        "needs an encoder-decoder": {"layer": 0, "attends": "cross"},
    }.items():
        with pytest.raises(InputError, match=rule):
            value_weighted_attention(cache, **arguments)
    _, part = model.run_with_cache(some_tokens(), pos_slice=[-1])
    with pytest.raises(InputError, match="v at every source"):
        value_weighted_attention(part, 0)
