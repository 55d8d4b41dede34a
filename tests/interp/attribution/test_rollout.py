from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from interp import HookedTransformer, InputError
from interp.attribution.rollout import attention_rollout, mixing_matrices, rollout
from interp.zoo import known
from tests.interp.kinds import KINDS, given_to, some_tokens, with_padding

MakeModel = Callable[..., HookedTransformer]
AssertClose = Callable[..., None]


def _recorded(model: HookedTransformer, **given: Tensor) -> Any:
    with torch.no_grad():
        return model.run_with_cache(**given, names_filter="*attn.hook_pattern")[1]


def _plainly(patterns: list[Tensor], share: float) -> Tensor:
    """One prompt: of every position, how much of each token is in it, layer after layer."""
    n = patterns[0].shape[-1]
    holds = torch.eye(n, dtype=torch.float64)
    for pattern in patterns:  # [head, pos, key_pos]
        after = torch.zeros(n, n, dtype=torch.float64)
        for place in range(n):
            after[place] = share * holds[place]
            for source in range(n):
                weight = sum(float(head[place, source]) for head in pattern) / len(pattern)
                after[place] += (1 - share) * weight * holds[source]
        holds = after
    return holds


@pytest.mark.parametrize(
    ("name", "share"),
    [
        ("gpt2", 0.5), ("llama", 0.2), ("gpt-oss", 0.5), ("bidirectional-tied", 0.2),
        ("t5", 0.2), ("translator", 0.5),
    ],
)  # fmt: skip
def test_mixtures_followed_one_by_one(
    name: str, share: float, make_model: MakeModel, assert_close: AssertClose
) -> None:
    model = make_model(dtype="float64", **KINDS[name])
    cache = _recorded(model, **given_to(model))
    both = model.cfg.architecture == "encoder-decoder"
    for stack in ("main", "encoder") if both else ("main",):
        found = attention_rollout(cache, residual=share, stack=stack)
        n_layers = model.cfg.n_encoder_layers if stack == "encoder" else model.cfg.n_layers
        prefix = "encoder." if stack == "encoder" else ""
        assert found.shape[:2] == (n_layers, 3)
        for row in range(3):
            patterns = [cache[f"{prefix}pattern", layer][row] for layer in range(n_layers)]
            assert_close(found[-1, row], _plainly(patterns, share))
        sums = found.sum(-1)
        if model.cfg.attn_sinks:
            assert (sums < 1).all()  # what sinks take is of no token
        else:
            assert_close(sums, torch.ones_like(sums))


@pytest.mark.parametrize("heads", ["max", "min"])
def test_largest_and_smallest_head(
    heads: str, make_model: MakeModel, assert_close: AssertClose
) -> None:
    cache = _recorded(make_model(dtype="float64"), input=some_tokens())
    found = attention_rollout(cache, heads=heads)
    holds = torch.eye(5, dtype=torch.float64).expand(3, -1, -1)
    for layer in range(2):
        stacked = cache["pattern", layer].unbind(1)
        one = stacked[0]
        for other in stacked[1:]:
            one = torch.where((other > one) == (heads == "max"), other, one)
        one = one / one.sum(-1, keepdim=True)
        holds = 0.5 * holds + 0.5 * one @ holds
        assert_close(found[layer], holds)


def test_a_padded_row_is_what_it_is_alone(make_model: MakeModel, assert_close: AssertClose) -> None:
    model = make_model(dtype="float64")
    given = with_padding({"input": some_tokens()}, [0, 2, 0], left=True)
    found = attention_rollout(_recorded(model, **given))
    alone = attention_rollout(_recorded(model, input=some_tokens()[1:2, 2:]))
    assert_close(found[:, 1:2, 2:, 2:], alone)
    assert (found[:, 1, 2:, :2] == 0).all()


def test_known_pattern(assert_close: AssertClose) -> None:
    """One layer: half of the destination is itself, and half what both heads look at."""
    truth = known.previous_token()
    found = attention_rollout(_recorded(truth.model, input=truth.clean))[-1, :, truth.position]
    n = truth.clean.shape[1]
    looks = truth.patterns["L0H0", truth.position].double()
    even = torch.full((n,), 1.0 / n, dtype=torch.float64)
    itself = torch.eye(n, dtype=torch.float64)[truth.position]
    assert_close(found, 0.5 * itself + 0.25 * looks + 0.25 * even)


def test_any_weights(assert_close: AssertClose) -> None:
    drawn = torch.rand(3, 2, 4, 5, 5, generator=torch.Generator().manual_seed(0)).double()
    mixing = mixing_matrices(list(drawn), residual=0.0)
    assert_close(mixing, drawn.mean(2))
    assert_close(rollout(mixing)[-1], mixing[2] @ mixing[1] @ mixing[0])


def test_bad_input(make_model: MakeModel) -> None:
    model = make_model()
    cache = _recorded(model, input=some_tokens())
    for rule, arguments in {
        "residual must lie": {"residual": 1.5},
        "heads must be one of": {"heads": "sum"},
        "needs an encoder-decoder": {"stack": "encoder"},
    }.items():
        with pytest.raises(InputError, match=rule):
            attention_rollout(cache, **arguments)
    _, single = model.run_with_cache(some_tokens(1), remove_batch_dim=True)
    with pytest.raises(InputError, match="batch axis"):
        attention_rollout(single)
    _, part = model.run_with_cache(some_tokens(), pos_slice=[0, 1])
    with pytest.raises(InputError, match="as many destinations"):
        attention_rollout(part)
    _, less = model.run_with_cache(some_tokens(), names_filter="blocks.0.*")
    with pytest.raises(KeyError, match="not recorded"):
        attention_rollout(less)
