"""The same numbers on every device and, within its precision, in every dtype."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor

from interp import HookedTransformer, HookedTransformerConfig

CUDA = pytest.param(
    "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
)
DEVICES = ["cpu", CUDA]


def make(device: str, dtype: torch.dtype = torch.float32, **changes: object) -> HookedTransformer:
    fields = {
        "n_layers": 3,
        "d_model": 48,
        "n_heads": 6,
        "n_key_value_heads": 2,
        "d_head": 8,
        "n_ctx": 40,
        "d_vocab": 61,
        "act_fn": "silu",
        "gated_mlp": True,
        "normalization_type": "RMS",
        "positional_embedding_type": "rotary",
        "seed": 3,
        "device": device,
        "dtype": dtype,
        **changes,
    }
    return HookedTransformer(HookedTransformerConfig.from_dict(fields))


def tokens_for(model: HookedTransformer, batch: int = 3, length: int = 17) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 61, (batch, length), generator=generator).to(model.cfg.torch_device)


def scaled_error(found: Tensor, expected: Tensor) -> float:
    """Largest |difference| over max(1, largest |expected|), on the CPU in fp64."""
    found, expected = found.detach().double().cpu(), expected.detach().double().cpu()
    finite = expected.isfinite()
    assert torch.equal(finite, found.isfinite())
    scale = max(1.0, float(expected[finite].abs().max()))
    return float((found - expected)[finite].abs().max()) / scale


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("positions", ["standard", "rotary"])
def test_fp64_on_every_device_equals_the_cpu(device: str, positions: str) -> None:
    here = make(device, torch.float64, positional_embedding_type=positions)
    there = make("cpu", torch.float64, positional_embedding_type=positions)
    logits, cache = here.run_with_cache(tokens_for(here), names_filter="*")
    expected, oracle = there.run_with_cache(tokens_for(there), names_filter="*")
    assert logits.device.type == device
    assert logits.dtype == torch.float64
    assert scaled_error(logits, expected) <= 1e-10
    for name, value in cache.items():
        assert value.device.type == device, name
        assert scaled_error(value, oracle[name]) <= 1e-10, name


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.06), (torch.float16, 0.008)]
)
@pytest.mark.parametrize("padding", ["none", "left", "right"])
def test_every_dtype_follows_fp64_watched_and_unwatched(
    device: str, dtype: torch.dtype, tolerance: float, padding: str
) -> None:
    """Half precision is held to about eight units in the last place of its largest logit."""
    if device == "cuda" and dtype == torch.float32:
        torch.backends.cuda.matmul.allow_tf32 = False
    exact = make("cpu", torch.float64)
    model = copy.deepcopy(make(device)).to(dtype)
    exact.load_state_dict({k: v.double().cpu() for k, v in model.state_dict().items()})
    mask = torch.ones(3, 17, dtype=torch.long)
    if padding == "left":
        mask[0, :5] = mask[1, :2] = 0
    if padding == "right":
        mask[0, -5:] = mask[1, -2:] = 0
    kwargs = {} if padding == "none" else {"attention_mask": mask}
    expected = exact(tokens_for(exact), **kwargs)
    fused = model(tokens_for(model), **kwargs)
    watched, cache = model.run_with_cache(tokens_for(model), names_filter="*", **kwargs)
    real = mask.bool()
    for logits in (fused, watched):
        assert logits.dtype == dtype
        assert not logits.isnan().any()
        assert scaled_error(logits.cpu()[real], expected[real]) <= tolerance
    pattern = cache["pattern", 1].float().cpu()
    sums = pattern.sum(-1).transpose(1, 2)[real]
    assert torch.allclose(
        sums, torch.ones_like(sums), atol=0.02 if dtype != torch.float32 else 1e-5
    )


@pytest.mark.parametrize("device", DEVICES)
def test_a_model_moves_and_its_config_says_so(device: str, tmp_path: Path) -> None:
    model = make("cpu").to(device)
    assert model.cfg.torch_device.type == device
    model.save(tmp_path / "model")
    again = HookedTransformer.load(tmp_path / "model", device=device, dtype="float64")
    assert again.cfg.torch_device.type == device
    assert again.W_E.dtype == again.cfg.dtype == torch.float64
    # The layout that makes all heads one matrix survives moving and saving.
    for W in (model.blocks[0].attn.W_Q, again.blocks[1].attn.W_Q):
        assert W.transpose(1, 2).is_contiguous()


@pytest.mark.parametrize("device", DEVICES)
def test_generation_with_and_without_a_key_value_cache(device: str) -> None:
    model = make(device, torch.float64)
    prompt = tokens_for(model)[:, :6]
    cached = model.generate(prompt, max_new_tokens=12, do_sample=False)
    plain = model.generate(prompt, max_new_tokens=12, do_sample=False, use_past_kv_cache=False)
    assert cached.device.type == device
    assert torch.equal(cached, plain)


@pytest.mark.parametrize("device", DEVICES)
def test_records_can_go_to_the_cpu(device: str) -> None:
    model = make(device)
    _, cache = model.run_with_cache(tokens_for(model), device="cpu")
    assert {t.device.type for t in cache.values()} == {"cpu"}
