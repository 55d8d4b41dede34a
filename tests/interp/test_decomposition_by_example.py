"""Decompositions by example: rows, labels, modes, neurons, and what cannot be decomposed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from interp import ActivationCache, HookedTransformer, InputError

Make = Callable[..., HookedTransformer]
Check = Callable[..., None]
TOKENS = torch.tensor([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3], [0, 0, 7, 8, 2]])


@pytest.fixture(scope="module")
def model(make_model: Make) -> HookedTransformer:
    return make_model(dtype="float64")


@pytest.fixture
def cache(model: HookedTransformer) -> ActivationCache:
    with torch.no_grad():
        return model.run_with_cache(TOKENS)[1]


def test_rows_of_logit_attributions(
    model: HookedTransformer, cache: ActivationCache, assert_close: Check
) -> None:
    stack = cache.decompose_resid()
    whole = cache.logit_attrs(stack, torch.tensor([1, 2, 3]))
    for rows in ((0, 2), [2, 0], slice(1, None)):
        index = slice(*rows) if isinstance(rows, tuple) else rows
        tokens = torch.tensor([1, 2, 3])[index]
        assert_close(cache.logit_attrs(stack, tokens, batch_slice=rows), whole[:, index])
    assert_close(cache.logit_attrs(stack, 2, batch_slice=1), whole[:, 1])
    assert_close(cache.logit_attrs(stack[:, 1], 2, batch_slice=1, has_batch_dim=False), whole[:, 1])


def test_tokens_of_both_kinds_must_match(cache: ActivationCache) -> None:
    with pytest.raises(InputError, match="same shape"):
        cache.logit_attrs(cache.decompose_resid(), torch.tensor([1, 2, 3]), 4)


def test_several_tokens_need_as_many_rows(cache: ActivationCache) -> None:
    """`[pos]` is not `[batch]`: five positions for three rows must not pass for either."""
    with pytest.raises((InputError, RuntimeError)):
        cache.logit_attrs(cache.decompose_resid(), torch.tensor([1, 2, 3, 4, 5]))


@pytest.mark.parametrize("mode", ["all", "attn", "mlp"])
@pytest.mark.parametrize("incl_embeds", [True, False])
def test_modes(cache: ActivationCache, mode: Any, incl_embeds: bool, assert_close: Check) -> None:
    stack, labels = cache.decompose_resid(mode=mode, incl_embeds=incl_embeds, return_labels=True)
    wanted = (["embed", "pos_embed"] if incl_embeds else []) + [
        f"{i}_{w}_out" for i in range(2) for w in ("attn", "mlp") if mode in ("all", w)
    ]
    assert labels == wanted
    for part, label in zip(stack, labels, strict=True):
        name = f"hook_{label}" if "embed" in label else f"blocks.{label[0]}.hook_{label[2:]}"
        assert_close(part, cache[name].expand_as(part), label)


def test_layers_by_default_and_by_minus_one(cache: ActivationCache) -> None:
    for method in (
        cache.decompose_resid,
        cache.accumulated_resid,
        cache.get_full_resid_decomposition,
        cache.stack_head_results,
        cache.stack_neuron_results,
    ):
        assert torch.equal(method(None), method(2))  # type: ignore[operator]
        assert torch.equal(method(-1), method(2))  # type: ignore[operator]
        assert torch.equal(method(), method(2))  # type: ignore[operator]
        for bad in (3, -2):
            with pytest.raises(InputError, match="layer must lie in 0 … 2"):
                method(bad)  # type: ignore[operator]


def test_empty_stacks_have_the_right_shape(cache: ActivationCache) -> None:
    for stack in (
        cache.stack_head_results(0),
        cache.stack_neuron_results(0),
        cache.decompose_resid(0, incl_embeds=False),
    ):
        assert isinstance(stack, Tensor)
        assert stack.shape == (0, 3, 5, 24)
    stack = cache.stack_head_results(0, pos_slice=1, apply_ln=True)
    assert isinstance(stack, Tensor)
    assert stack.shape == (0, 3, 24)


def test_what_cannot_be_decomposed(make_model: Make, cache: ActivationCache) -> None:
    with pytest.raises(InputError, match="mode"):
        cache.decompose_resid(mode="neurons")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="resid_mid"):
        cache.decompose_resid(2, mlp_input=True)
    for fields in ({"attn_only": True}, {"parallel_attn_mlp": True}):
        _, other = make_model(**fields).run_with_cache(TOKENS)
        for method in (
            other.decompose_resid,
            other.accumulated_resid,
            other.get_full_resid_decomposition,
        ):
            with pytest.raises(InputError, match="resid_mid"):
                method(1, mlp_input=True)
    _, other = make_model(attn_only=True).run_with_cache(TOKENS)
    with pytest.raises(InputError, match="no neurons"):
        other.stack_neuron_results()
    with pytest.raises(KeyError, match="names_filter"):
        ActivationCache({}, cache.model).decompose_resid()


@pytest.mark.parametrize(
    ("neurons", "index"),
    [(3, [3]), ((2, 5), [2, 3, 4]), ([7, 0], [7, 0]), (None, list(range(20)))],
)
def test_neurons(
    model: HookedTransformer,
    cache: ActivationCache,
    neurons: Any,
    index: list[int],
    assert_close: Check,
) -> None:
    W_out = model.W_out[1].detach()
    expected = torch.einsum("bpn,nd->bpnd", cache["post", 1][..., index], W_out[index])
    assert_close(cache.get_neuron_results(1, neurons), expected)
    assert_close(cache.get_neuron_results(1, neurons, pos_slice=2), expected[:, 2])
    stack, labels = cache.stack_neuron_results(neuron_slice=neurons, return_labels=True)
    assert labels == [f"L{i}N{n}" for i in range(2) for n in index]
    assert_close(stack[len(index) :], expected.permute(2, 0, 1, 3))
    rest = cache.stack_neuron_results(neuron_slice=neurons, incl_remainder=True)
    assert isinstance(rest, Tensor)
    assert_close(rest.sum(0), cache["resid_post", 1])


def test_heads_from_results_or_from_z(
    model: HookedTransformer, cache: ActivationCache, assert_close: Check
) -> None:
    with torch.no_grad():
        _, with_results = model.run_with_cache(TOKENS, names_filter=["*hook_result", "hook_embed"])
    for positions in (None, 1, (0, 2)):
        one = cache.stack_head_results(pos_slice=positions)
        other = with_results.stack_head_results(pos_slice=positions)
        assert_close(one, other)
    assert_close(one[5], with_results["result", 1][:, :2, 1])  # type: ignore[index]


def test_apply_ln_to_stack_freezes_the_scale(
    model: HookedTransformer, cache: ActivationCache, assert_close: Check
) -> None:
    stack = torch.randn(4, 3, 5, 24, dtype=torch.float64)
    found = cache.apply_ln_to_stack(stack, 1)
    centred = stack - stack.mean(-1, keepdim=True)
    expected = centred / cache["scale", 1, "ln1"] * model.blocks[1].ln1.w.detach()
    assert_close(found, expected)
    assert_close(
        cache.apply_ln_to_stack(stack[:, :, 2], 1, pos_slice=2, batch_slice=(0, 2)),
        expected[:, :2, 2],
    )
    assert_close(
        cache.apply_ln_to_stack(stack[:, 1], 1, batch_slice=1, has_batch_dim=False), expected[:, 1]
    )
    assert_close(cache.apply_ln_to_stack(stack, 1, batch_slice=1), expected[:, 1])


@pytest.mark.parametrize("flag", ["use_split_qkv_input", "use_attn_in"])
def test_scales_recorded_head_by_head_are_not_misread(make_model: Make, flag: str) -> None:
    model = make_model(dtype="float64", **{flag: True})
    _, cache = model.run_with_cache(TOKENS, return_type="loss", incl_bwd=True)
    for positions in (None, 0):
        with pytest.raises(InputError, match="head by head"):
            cache.decompose_resid(1, apply_ln=True, pos_slice=positions)
    stack = cache.decompose_resid(apply_ln=True)  # ln_final has no heads
    assert isinstance(stack, Tensor)


def test_decompositions_of_one_position_run(model: HookedTransformer, assert_close: Check) -> None:
    """A cache recorded with pos_slice decomposes what it holds."""
    with torch.no_grad():
        _, whole = model.run_with_cache(TOKENS)
        _, last = model.run_with_cache(TOKENS, pos_slice=(-1, None))
        _, only = model.run_with_cache(TOKENS, pos_slice=-1)
    expected = whole.get_full_resid_decomposition(apply_ln=True, pos_slice=(-1, None))
    assert_close(last.get_full_resid_decomposition(apply_ln=True), expected)
    assert_close(only.get_full_resid_decomposition(apply_ln=True), expected)
    assert_close(only.stack_activation("resid_pre", 1)[0], whole["resid_pre", 0][:, -1:])
