"""Law 5 with norms on the way: parts of every kind of model sum to its streams and its logits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from interp import ActivationCache, HookedTransformer, HookedTransformerConfig, InputError
from interp.attribution import direct_logit_attribution, source_attribution
from interp.attribution.direct import hooks_needed
from tests.covering import covering

SHAPES = ("decoder", "encoder", "encoder-decoder")
PLACEMENTS = ("pre", "post", "sandwich", "output")
KINDS = (SHAPES, PLACEMENTS, ("LN", "RMS", None), (False, True))


@pytest.fixture(autouse=True)
def _without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def make(
    shape: str, placement: str, norm: str | None, post_embedding_ln: bool, **fields: Any
) -> HookedTransformer:
    given: dict[str, Any] = {
        "architecture": shape,
        "norm_placement": placement,
        "normalization_type": norm,
        "post_embedding_ln": post_embedding_ln,
        "n_layers": 2,
        "d_model": 12,
        "n_ctx": 12,
        "n_heads": 3,
        "act_fn": "gelu",
        "d_vocab": 11,
        "embed_scale": 2.0,
        "logit_scale": 0.5,
        "n_token_types": 2 if shape == "encoder" else 0,
        "dtype": torch.float64,
        "device": "cpu",
        **fields,
    }
    model = HookedTransformer(HookedTransformerConfig(**given))
    generator = torch.Generator().manual_seed(3)
    for name, weight in model.named_parameters():
        drawn = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
        weight.copy_((1.0 if name.endswith(".w") else 0.0) + 0.4 * drawn)
    return model


def run(model: HookedTransformer, **kwargs: Any) -> tuple[Tensor, ActivationCache]:
    generator = torch.Generator().manual_seed(4)
    given = {"input": torch.randint(0, 11, (2, 7), generator=generator)}
    if model.cfg.architecture == "encoder-decoder":
        given["decoder_input"] = torch.randint(0, 11, (2, 5), generator=generator)
    return model.run_with_cache(**given, **kwargs)


def check(found: Tensor, wanted: Tensor) -> None:
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() <= 1e-10 * max(1.0, wanted.abs().max().item())


@pytest.mark.parametrize(
    ("shape", "placement", "norm", "post_embedding_ln", "mlp"),
    covering(*KINDS, ("none", "plain", "gated"), strength=3),
)
def test_parts_sum_to_every_stream(
    shape: str, placement: str, norm: str | None, post_embedding_ln: bool, mlp: str
) -> None:
    model = make(
        shape,
        placement,
        norm,
        post_embedding_ln,
        attn_only=mlp == "none",
        act_fn=None if mlp == "none" else "gelu",
        gated_mlp=mlp == "gated",
    )
    _, cache = run(model)
    expand = (False,) if mlp == "none" else (False, True)
    for layer in (0, 1, 2):
        stream = cache["resid_pre", layer] if layer < 2 else cache["resid_post", 1]
        check(cache.decompose_resid(layer).sum(0), stream)
        check(cache.stack_head_results(layer, incl_remainder=True).sum(0), stream)
        for neurons in expand:
            check(cache.get_full_resid_decomposition(layer, expand_neurons=neurons).sum(0), stream)
            last = cache.get_full_resid_decomposition(layer, expand_neurons=neurons, pos_slice=-1)
            check(last.sum(0), stream[:, -1])
        if layer < 2 and mlp != "none":
            crosses = shape == "encoder-decoder"
            mid = cache["resid_mid_cross" if crosses else "resid_mid", layer]
            for neurons in expand:
                whole = cache.get_full_resid_decomposition(layer, True, neurons)
                check(whole.sum(0), mid)
            check(cache.decompose_resid(layer, mlp_input=True).sum(0), mid)


@pytest.mark.parametrize(
    ("shape", "placement", "norm", "post_embedding_ln"), covering(*KINDS, strength=3)
)
def test_parts_sum_to_the_logit(
    shape: str, placement: str, norm: str | None, post_embedding_ln: bool
) -> None:
    model = make(shape, placement, norm, post_embedding_ln, output_logits_soft_cap=3.0)
    _, cache = run(model)
    logits = cache["unembed.hook_out"]
    stack = model.main_stack
    parts = cache.get_full_resid_decomposition(expand_neurons=False)
    constant = model.b_U[3]
    if norm == "LN" and model.cfg.final_norm:
        constant = constant + 0.5 * stack.ln_final.b @ model.W_U[:, 3]
    check(cache.logit_attrs(parts, 3).sum(0) + constant, logits[..., 3])

    _, small = run(model, names_filter=hooks_needed(model))
    found = direct_logit_attribution(model, small, 3, wrong=4)
    check(found.total(), logits[..., 3] - logits[..., 4])
    by_source = source_attribution(model, cache, found, 1, 2)
    check(by_source.sum(-1), found.heads(2, 3)[1, 2])


def test_a_heads_share_is_what_its_path_says() -> None:
    """Post-norm, layer by layer: x ↦ ((x - mean) / scale · w) through each later norm."""
    model = make("decoder", "post", "LN", False)
    _, cache = run(model)
    found = cache.stack_head_results(return_labels=True)
    stack, labels = found
    x = cache["z", 0][..., 1, :] @ model.blocks[0].attn.W_O[1]
    for name in ("blocks.0.ln1", "blocks.0.ln2", "blocks.1.ln1", "blocks.1.ln2"):
        norm = model.get_submodule(name)
        x = (x - x.mean(-1, keepdim=True)) / cache[f"{name}.hook_scale"] * norm.w
    check(stack[labels.index("L0H1")], x)


def test_biases_alone_are_no_sum_of_weights_where_norms_lie_between() -> None:
    with pytest.raises(InputError, match="norm_placement='pre'"):
        make("decoder", "sandwich", "LN", False).accumulated_bias(1)


def test_logits_behind_another_head_are_not_linear() -> None:
    model = make("encoder", "post", "LN", True, head="mlm")
    _, cache = run(model)
    with pytest.raises(InputError, match="head='lm'"):
        direct_logit_attribution(model, cache, 3)
