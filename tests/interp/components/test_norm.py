from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from interp import HookedTransformer, HookedTransformerConfig
from interp.components.norm import NoNorm, Norm, make_norm

KINDS = ["LN", "LNPre", "RMS", "RMSPre"]
AssertClose = Callable[..., None]


def _norm(kind: str | None, dtype: str = "float64", eps: float = 0.1) -> Norm | NoNorm:
    cfg = HookedTransformerConfig(
        n_layers=1, d_model=6, n_ctx=4, n_heads=2, attn_only=True, d_vocab=5, device="cpu",
        normalization_type=kind, dtype=dtype, eps=eps,
    )  # fmt: skip
    norm = make_norm(cfg)
    with torch.no_grad():
        for name, parameter in norm.named_parameters():
            drawn = torch.randn(6, generator=torch.Generator().manual_seed(len(name)))
            parameter.copy_(drawn + (name == "w"))
    return norm


def _x(dtype: torch.dtype = torch.float64, size: float = 2.0) -> Tensor:
    return (torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(0)) * size + 1).to(dtype)


def _by_hand(norm: Norm, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Scale, normalised, output: as TransformerLens 3.9's layer_norm.py and rms_norm.py."""
    if norm.centres:
        x = x - x.sum(-1, keepdim=True) / 6
    scale = ((x**2).sum(-1, keepdim=True) / 6 + norm.eps) ** 0.5
    normalised = x / scale
    out = normalised if norm.w is None else normalised * norm.w
    return scale, normalised, out if norm.b is None else out + norm.b


@pytest.mark.parametrize("kind", KINDS)
def test_both_paths(kind: str, assert_close: AssertClose) -> None:
    norm = _norm(kind)
    expected = _by_hand(norm, _x())[2]
    assert_close(norm(_x()), expected)
    assert_close(_spelled_out(kind)[2], expected)


def _spelled_out(kind: str) -> tuple[Tensor, Tensor, Tensor]:
    """What the hooks of a whole model's final norm see, and its output."""
    cfg = HookedTransformerConfig(
        n_layers=0, d_model=6, n_ctx=4, n_heads=2, attn_only=True, d_vocab=5, device="cpu",
        normalization_type=kind, dtype="float64", eps=0.1,
    )  # fmt: skip
    model = HookedTransformer(cfg)
    model.ln_final.load_state_dict(_norm(kind).state_dict())
    with (
        torch.no_grad(),
        model.hooks([("ln_final.*", lambda x, hook: seen.update({hook.name: x}))]),
    ):
        seen: dict[str, Tensor] = {}
        out = model.ln_final(_x(), explicit=True)
    return seen["ln_final.hook_scale"], seen["ln_final.hook_normalized"], out


@pytest.mark.parametrize("kind", KINDS)
def test_hooks_see_what_transformer_lens_shows(kind: str, assert_close: AssertClose) -> None:
    """`hook_normalized` is before weight and bias, in both kinds."""
    for found, expected in zip(_spelled_out(kind), _by_hand(_norm(kind), _x()), strict=True):
        assert_close(found, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_recording_without_gradients(kind: str, assert_close: AssertClose) -> None:
    """Where nobody edits, one kernel makes scale and result."""
    cfg = HookedTransformerConfig(
        n_layers=0, d_model=6, n_ctx=4, n_heads=2, attn_only=True, d_vocab=5, device="cpu",
        normalization_type=kind, dtype="float64", eps=0.1,
    )  # fmt: skip
    model = HookedTransformer(cfg)
    model.ln_final.load_state_dict(_norm(kind).state_dict())
    expected = _by_hand(_norm(kind), _x())
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            _, cache = model.run_with_cache(
                _x(), start_at_layer=0, names_filter=["ln_final.*", "unembed.hook_in"]
            )
        names = ("ln_final.hook_scale", "ln_final.hook_normalized", "unembed.hook_in")
        for name, wanted in zip(names, expected, strict=True):
            assert_close(cache[name], wanted, name)


def test_an_edited_scale_is_divided_by(assert_close: AssertClose) -> None:
    for kind in KINDS:
        norm = _norm(kind)
        norm.hook_scale.name = "hook_scale"
        norm.hook_scale.add_hook(lambda scale, hook: scale * 2)
        with torch.no_grad():
            _, normalised, _ = _by_hand(norm, _x())
            out = normalised / 2 if norm.w is None else normalised / 2 * norm.w
            assert_close(norm(_x(), explicit=True), out if norm.b is None else out + norm.b, kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_normalised_in_fp32(kind: str, dtype: str) -> None:
    """Squares of 300 would overflow fp16's 65504."""
    norm = _norm(kind, dtype)
    x = _x(getattr(torch, dtype), 300.0)
    wide = _norm(kind)
    wide.load_state_dict({k: v.double() for k, v in norm.state_dict().items()})
    expected = wide(x.double())
    for out in (norm(x), norm(x, explicit=True)):
        assert out.dtype == x.dtype
        rounding = torch.finfo(x.dtype).eps * expected.abs().max()
        assert (out.double() - expected).abs().max() <= 4 * rounding


def test_no_norm() -> None:
    norm = _norm(None)
    assert isinstance(norm, NoNorm)
    assert norm(_x(), explicit=True) is not None
    assert torch.equal(norm(_x()), _x())
    assert not list(norm.parameters())


@pytest.mark.parametrize(("kind", "names"), [("LN", {"w", "b"}), ("RMS", {"w"}), ("LNPre", set())])
def test_weights(kind: str, names: set[str]) -> None:
    assert set(_norm(kind).state_dict()) == names
