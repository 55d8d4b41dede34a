"""The known story of zoo:induction, end to end, each part by another method.

Elhage et al. 2021, Olsson et al. 2022: heads of the first layer tell every token what came before
it; heads of the second read that in their keys, find the token that came after an earlier copy of
this one, and say it again.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from interp import HookedTransformer, load_model, patching
from interp.behaviour import (
    RepeatedTokens,
    found_heads,
    head_scores,
    mean_loss,
    repeated_tokens,
    token_losses,
)
from interp.circuits import patch_paths
from interp.weight_circuits import composition_scores, copying_scores

PREVIOUS = {"L0H1", "L0H2"}
INDUCTION = {"L1H0", "L1H1", "L1H2", "L1H3"}
LENGTH = 20
GUESS = math.log(64)


@pytest.fixture(scope="module")
def model() -> HookedTransformer:
    return load_model("zoo:induction", device="cpu", dtype="float64")


@pytest.fixture(scope="module")
def repeated(model: HookedTransformer) -> RepeatedTokens:
    return repeated_tokens(model, 16, LENGTH)


def numbers(labels: set[str]) -> list[int]:
    return sorted(int(label.split("H")[1]) for label in labels)


def losses(
    model: HookedTransformer, repeated: RepeatedTokens, ablated: dict[int, list[int]]
) -> tuple[float, float]:
    """Loss of the stretch and of its repeat, with these heads giving their mean over prompts."""

    def of(heads: list[int]) -> Any:
        def average(z: Tensor, hook: Any) -> Tensor:
            z = z.clone()
            z[:, :, heads] = z[:, :, heads].mean(0, keepdim=True)
            return z

        return average

    hooks = [(f"blocks.{layer}.attn.hook_z", of(heads)) for layer, heads in ablated.items()]
    with model.hooks(fwd_hooks=hooks):
        found = token_losses(model, repeated.tokens)
    return mean_loss(found, repeated.unknown).mean, mean_loss(found, repeated.known).mean


def test_1_the_heads_are_where_they_look(
    model: HookedTransformer, repeated: RepeatedTokens
) -> None:
    found = found_heads(head_scores(model, repeated.tokens))
    by_kind = {
        kind: {f.label for f in found if f.behaviour == kind}
        for kind in ("previous_token", "induction", "duplicate_token", "first_token")
    }
    assert by_kind == {
        "previous_token": PREVIOUS, "induction": INDUCTION, "duplicate_token": set(),
        "first_token": set(),
    }  # fmt: skip


def test_2_keys_are_composed_with_previous_token_heads(model: HookedTransformer) -> None:
    """The largest composition of all pairs and of Q, K and V is K, with a previous-token head."""
    by_mode = {mode: composition_scores(model, mode)[0, :, 1] for mode in ("Q", "K", "V")}
    keys = by_mode["K"]
    largest = divmod(int(keys.argmax()), 4)
    assert f"L0H{largest[0]}" in PREVIOUS
    assert float(keys.max()) > max(float(by_mode["Q"].max()), float(by_mode["V"].max()))
    previous = torch.zeros(4, dtype=torch.bool)
    previous[numbers(PREVIOUS)] = True
    assert float(keys[previous].min()) > float(keys[~previous].max())


def test_3_induction_heads_copy_and_so_do_others(model: HookedTransformer) -> None:
    """Near 1 for each of them; and as near for a previous-token head, which is none."""
    score = copying_scores(model).score
    assert bool((score[1] > 0.99).all())
    assert float(score[0, numbers(PREVIOUS)].min()) > 0.95


def test_4_without_them_the_repeat_is_news(
    model: HookedTransformer, repeated: RepeatedTokens
) -> None:
    _, whole = losses(model, repeated, {})
    assert whole < 0.01
    # One alone is no loss: the others say the same.
    for head in numbers(INDUCTION):
        assert losses(model, repeated, {1: [head]})[1] < 0.01
    assert losses(model, repeated, {1: numbers(INDUCTION)})[1] > GUESS
    assert losses(model, repeated, {0: numbers(PREVIOUS)})[1] > GUESS
    others = sorted({0, 1, 2, 3} - set(numbers(PREVIOUS)))
    assert losses(model, repeated, {0: others})[1] < 0.5


def test_5_paths_through_keys_carry_it(model: HookedTransformer, repeated: RepeatedTokens) -> None:
    """What is lost if one reader hears one head tell of another first stretch."""
    i = 6  # the prompt ends on the repeat's i-th token; its successor is known
    tokens = repeated.tokens[:, : 1 + LENGTH + i]
    corrupted = tokens.clone()
    corrupted[:, 1 : 1 + LENGTH] = repeated_tokens(model, 16, LENGTH, seed=1).tokens[
        :, 1 : 1 + LENGTH
    ]
    right, wrong = tokens[:, 1 + i], corrupted[:, 1 + i]
    assert bool((right != wrong).all())
    metric = patching.LogitDiff(right, wrong)
    with torch.no_grad():
        _, source = model.run_with_cache(corrupted)
    senders = patching.sites(model, "z", layers=[0], positions="all")
    lost = {}
    for kind in "qkv":
        receivers = patching.sites(model, f"{kind}_input", layers=[1], positions="all")
        swept = patching.path_sweep(model, tokens, source, senders, receivers, metric)
        lost[kind] = (swept.base - swept.values).mean(-1).reshape(4, 4)
    keys = lost["k"]
    for head in range(4):
        largest = keys[:, head].topk(2).indices.tolist()
        assert {f"L0H{sender}" for sender in largest} == PREVIOUS
    smallest = float(keys[numbers(PREVIOUS)].min())
    assert smallest > 1.0
    others = keys[sorted({0, 1, 2, 3} - set(numbers(PREVIOUS)))]
    assert smallest > 10 * float(others.abs().max())
    assert float(lost["q"].abs().max()) < 0.05
    # Through values it is the current token that matters: that is what is copied.
    for kind in "qv":
        assert smallest > float(lost[kind][numbers(PREVIOUS)].max())
    together = patch_paths(
        model,
        tokens,
        source,
        {
            kind: [f"{s}->{r}.{kind}" for s in sorted(PREVIOUS) for r in sorted(INDUCTION)]
            for kind in "qkv"
        },
        metric,
    )
    effects = together.scores()
    assert effects["k"] < -float(together.base.mean())  # the answer is not merely lost
    assert abs(effects["q"]) < 0.05
    assert abs(effects["v"]) < 0.05 * abs(effects["k"])
