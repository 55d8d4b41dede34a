"""Frozen patterns and norms: what is held, and what a frozen model is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from interp import HookedTransformer, InputError
from interp.interventions import (
    FreezeNorms,
    FreezePatterns,
    KnockOutEdge,
    Patch,
    Place,
    Reference,
    Steer,
    Zero,
    applied,
    hooks_for,
)
from tests.interp.interventions.loop import edited, recorded
from tests.interp.kinds import KINDS, given_to, some_tokens, with_padding


def run(model: HookedTransformer, items: Any, given: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return model.run_with_hooks(**given, fwd_hooks=hooks_for(model, items, **given))


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("left", [False, True])
def test_holding_a_run_at_itself_changes_nothing(
    kind: Callable[[str], HookedTransformer], name: str, left: bool, assert_close: Any
) -> None:
    model = kind(name)
    given = with_padding(given_to(model), [0, 1, 2], left)
    items: list[Any] = [FreezePatterns()]
    if model.cfg.normalization_type is not None:
        items.append(FreezeNorms())
    if model.cfg.architecture == "encoder-decoder":
        items += [FreezePatterns(part="encoder.attn"), FreezePatterns(part="cross_attn")]
    with torch.no_grad():
        expected = model(**given)
    found = run(model, items, given)
    real = given.get("decoder_attention_mask", given["attention_mask"]).bool()
    if not model.cfg.classifies:
        found, expected = found[real], expected[real]
    assert_close(found, expected, name)


def test_patterns_are_held_while_the_rest_changes(
    kind: Callable[[str], HookedTransformer], assert_close: Any
) -> None:
    model = kind("gpt2")
    given = {"input": some_tokens()}
    base = recorded(model, "blocks.1.attn.hook_pattern", **given)

    def hold(x: torch.Tensor) -> torch.Tensor:
        x[:, 2] = base[:, 2]
        return x

    zeroed = torch.zeros_like
    expected = edited(
        model, given, blocks__0__hook_mlp_out=zeroed, blocks__1__attn__hook_pattern=hold
    )
    ablation = Zero(Place("mlp_out", layers=0))
    held = FreezePatterns(layers=-1, heads=2)
    assert_close(run(model, [ablation, held], given), expected)
    assert float((run(model, ablation, given) - expected).abs().max()) > 1e-3


def test_patterns_of_another_run(
    kind: Callable[[str], HookedTransformer], assert_close: Any
) -> None:
    model, other = kind("gpt2"), some_tokens(seed=7)
    pattern = recorded(model, "blocks.0.attn.hook_pattern", input=other)
    expected = edited(
        model, {"input": some_tokens()}, blocks__0__attn__hook_pattern=lambda x: pattern
    )
    item = FreezePatterns(layers=0, reference=Reference(other))
    assert_close(run(model, item, {"input": some_tokens()}), expected)


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "bert"])
def test_with_patterns_and_norms_held_attention_is_linear(
    kind: Callable[[str], HookedTransformer], name: str, assert_close: Any
) -> None:
    """Twice the step has twice the effect, once nothing but values is left that can change."""
    model = kind(name)
    given = given_to(model)
    hook = "blocks.0.hook_resid_mid"
    last = "blocks.1.attn.hook_z"
    direction = torch.randn(24, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def z(coefficient: float) -> torch.Tensor:
        # The MLP of layer 0 is held too: it is no norm.
        held = [FreezePatterns(), FreezeNorms(), Patch("mlp_out", Reference(given["input"]))]
        if name == "bert":
            held[2] = Patch("mlp_out", Reference(given["input"], None, given["token_type_ids"]))
        step = [Steer(hook, direction, coefficient)] if coefficient else []
        with model.hooks(fwd_hooks=hooks_for(model, [*held, *step], **given)):
            return recorded(model, last, **given)

    base = z(0.0)
    assert float((z(1.0) - base).abs().max()) > 1e-3
    assert_close(z(2.0) - base, 2 * (z(1.0) - base))


def test_norms_by_name_and_layer(kind: Callable[[str], HookedTransformer]) -> None:
    model = kind("gemma3")
    assert FreezeNorms(layers=1, norms=("ln1", "q_norm")).hooks(model) == (
        "blocks.1.ln1.hook_scale",
        "blocks.1.attn.q_norm.hook_scale",
    )
    assert FreezeNorms(norms="ln_final").hooks(model) == ("ln_final.hook_scale",)
    every = [name for name in model.hook_dict if name.endswith("hook_scale")]
    assert list(FreezeNorms().hooks(model)) == every


def test_a_norm_whose_readers_are_edited_apart(
    kind: Callable[[str], HookedTransformer], assert_close: Any
) -> None:
    """With the inputs of heads split, ln1's scale has a head axis; it is held all the same."""
    model, given = kind("gpt2"), {"input": some_tokens()}
    scale = recorded(model, "blocks.1.ln1.hook_scale", **given)
    result = recorded(model, "blocks.0.attn.hook_result", **given)[:, :, 1]

    def take_off(x: torch.Tensor) -> torch.Tensor:
        x[:, :, 0] -= result
        return x

    expected = edited(
        model,
        given,
        blocks__1__hook_k_input=take_off,
        blocks__1__ln1__hook_scale=lambda x: scale.unsqueeze(2).expand_as(x),
    )
    items = [KnockOutEdge("L0H1->L1H0.k"), FreezeNorms(layers=1, norms="ln1")]
    assert_close(run(model, items, given), expected)


@pytest.mark.parametrize("padded", [False, True])
def test_patterns_of_longer_texts(kind: Callable[[str], HookedTransformer], padded: bool) -> None:
    """Causal ones are cut; of a model that looks both ways a part would not sum to 1."""
    longer = given_to(kind("gpt2"), 1, 7, 3)["input"]
    for name, hook in (
        ("gpt2", "blocks.0.attn.hook_pattern"),
        ("bert", "blocks.0.attn.hook_pattern"),
        ("t5", "decoder.blocks.0.attn.hook_pattern"),
        ("t5", "decoder.blocks.0.cross_attn.hook_pattern"),
        ("t5", "encoder.blocks.0.attn.hook_pattern"),
    ):
        model = kind(name)
        given = given_to(model)
        if padded:
            given = with_padding(given, [1] * len(given["input"]), True)
        crosses = model.cfg.architecture == "encoder-decoder"
        reference = Reference(longer, longer if crosses else None)
        with applied(model, Patch(hook, reference), **given):
            if name == "gpt2" or hook.startswith("decoder.blocks.0.attn"):
                sums = recorded(model, hook, **given).sum(-1)
                real = sums > 0.5
                assert real.any() and torch.allclose(sums[real], torch.ones(1, dtype=sums.dtype))
            else:
                with pytest.raises(InputError, match="looks both ways must be of as many tokens"):
                    model(**given)


@pytest.mark.parametrize(
    ("name", "make", "rule"),
    [
        ("gpt2", lambda: FreezePatterns(), "give hooks_for that run's input"),
        ("gpt2", lambda: FreezeNorms(), "give hooks_for that run's input"),
        ("no-norm", lambda: FreezeNorms(), "in a model without any"),
        ("gpt2", lambda: FreezeNorms(norms="ln3"), "norms must be some of ln1, ln2, ln_final"),
        ("gpt2", lambda: FreezeNorms(norms=[3]), "norms must be names"),
        ("gpt2", lambda: FreezePatterns(part="mlp"), "part must be one of attn"),
        ("gpt2", lambda: FreezePatterns(heads=9), "must lie in -4 … 3"),
    ],
)  # fmt: skip
def test_refusals(
    kind: Callable[[str], HookedTransformer], name: str, make: Callable[[], Any], rule: str
) -> None:
    with pytest.raises(InputError, match=rule):
        hooks_for(kind(name), make())
