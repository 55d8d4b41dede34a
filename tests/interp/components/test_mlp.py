from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from interp import HookedTransformer
from interp.components.mlp import MLP, GatedMLP

MakeModel = Callable[..., HookedTransformer]
AssertClose = Callable[..., None]
TOKENS = torch.randint(31, (2, 7), generator=torch.Generator().manual_seed(0))


def test_kind_follows_the_config(make_model: MakeModel) -> None:
    assert isinstance(make_model().blocks[0].mlp, MLP)
    assert isinstance(make_model(gated_mlp=True).blocks[0].mlp, GatedMLP)
    assert not hasattr(make_model(attn_only=True).blocks[0], "mlp")


@pytest.mark.parametrize("gated", [True, False])
def test_hooks(gated: bool, make_model: MakeModel, assert_close: AssertClose) -> None:
    """With a gate, `hook_pre` is what the non-linearity reads and b_in comes after the product."""
    model = make_model(dtype="float64", gated_mlp=gated, act_fn="relu", normalization_type=None)
    mlp = model.blocks[0].mlp
    _, cache = model.run_with_cache(TOKENS)
    x = cache["resid_mid", 0]
    if gated:
        pre, linear = x @ mlp.W_gate, x @ mlp.W_in
        assert_close(cache["blocks.0.mlp.hook_pre_linear"], linear)
        post = pre.clamp(min=0) * linear + mlp.b_in
    else:
        pre = x @ mlp.W_in + mlp.b_in
        post = pre.clamp(min=0)
    assert_close(cache["pre", 0], pre)
    assert_close(cache["post", 0], post)
    assert_close(cache["mlp_out", 0], post @ mlp.W_out + mlp.b_out)


@pytest.mark.parametrize("kind", ["LN", "LNPre", "RMS", "RMSPre", None])
def test_solu_ln_has_a_norm_of_its_own(
    kind: str | None, make_model: MakeModel, assert_close: AssertClose
) -> None:
    """A LayerNorm over the neurons, with weights only where the model's norms are `LN`."""
    model = make_model(dtype="float64", act_fn="solu_ln", normalization_type=kind)
    mlp = model.blocks[0].mlp
    _, cache = model.run_with_cache(TOKENS)
    mid = cache["blocks.0.mlp.hook_mid"]
    assert_close(mid, cache["pre", 0] * cache["pre", 0].softmax(-1))
    centred = mid - mid.mean(-1, keepdim=True)
    expected = centred / (centred.square().mean(-1, keepdim=True) + model.cfg.eps).sqrt()
    if kind == "LN":
        expected = expected * mlp.ln.w + mlp.ln.b
    assert (mlp.ln.w is None) == (kind != "LN")
    assert_close(cache["post", 0], expected)
    assert cache["blocks.0.mlp.ln.hook_scale"].shape == (2, 7, 1)
