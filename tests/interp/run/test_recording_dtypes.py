"""Records in a dtype of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from interp import HookedTransformer, InputError

Make = Callable[..., HookedTransformer]
TOKENS = torch.tensor([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])


@pytest.fixture
def model(make_model: Make) -> HookedTransformer:
    return make_model(dtype="float64", n_key_value_heads=2)


def everything(name: str) -> bool:
    return True


def storage(x: Tensor) -> int:
    """Which memory a tensor lies in, on devices without addresses too."""
    return x.untyped_storage()._cdata


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"pos_slice": (1, 3)},
        {"pos_slice": -1, "remove_batch_dim": True},
        {"device": "cpu", "remove_batch_dim": True},
    ],
)
@pytest.mark.parametrize("of_model", [torch.bfloat16, torch.float32])
def test_floating_records_are_kept_in_the_dtype(
    make_model: Make, dtype: torch.dtype, kwargs: dict[str, Any], of_model: torch.dtype
) -> None:
    model = make_model(dtype=of_model, n_key_value_heads=2)
    with torch.no_grad():
        logits, whole = model.run_with_cache(TOKENS[:1], names_filter=everything, **kwargs)
        kwargs = {"names_filter": everything, "dtype": dtype, **kwargs}
        found, cache = model.run_with_cache(TOKENS[:1], **kwargs)
    assert torch.equal(found, logits)
    assert found.dtype == of_model
    assert cache.keys() == whole.keys()
    for name, value in whole.items():
        if name == "hook_tokens":
            assert cache[name].dtype == torch.int64
        else:
            assert cache[name].dtype == dtype
        assert torch.equal(cache[name], value.to(cache[name].dtype)), name

    def groups(of: Any) -> list[set[str]]:
        return [{n for n in of if storage(of[n]) == storage(v)} for v in of.values()]

    assert groups(cache) == groups(whole)
    tokens = cache["hook_tokens"].untyped_storage().nbytes()
    if of_model == torch.float32:
        assert (cache.nbytes - tokens) * 4 == (whole.nbytes - tokens) * dtype.itemsize


def test_gradients_in_a_dtype(model: HookedTransformer) -> None:
    kwargs: dict[str, Any] = {"return_type": "loss", "incl_bwd": True}
    _, whole = model.run_with_cache(TOKENS, **kwargs)
    model.zero_grad()
    _, cache = model.run_with_cache(TOKENS, dtype=torch.bfloat16, **kwargs)
    assert cache.keys() == whole.keys()
    assert any(name.endswith("_grad") for name in cache)
    for name, value in whole.items():
        assert cache[name].dtype == torch.bfloat16
        assert torch.equal(cache[name], value.bfloat16()), name
    assert all(p.grad is None or p.grad.dtype == torch.float64 for p in model.parameters())


@pytest.mark.parametrize("bad", [torch.int64, torch.bool, torch.complex64, "bfloat16", 16])
def test_dtypes_that_are_none_to_keep_records_in(model: HookedTransformer, bad: Any) -> None:
    rule = r"dtype must be a floating-point torch\.dtype\. Received"
    with pytest.raises(InputError, match=rule):
        model.run_with_cache(TOKENS, dtype=bad)
    with pytest.raises(InputError, match=rule):
        model.run_with_cache(TOKENS)[1].to("cpu", dtype=bad)


@pytest.mark.parametrize("bad", ["nope", "cuda"])
def test_devices_that_are_none(model: HookedTransformer, bad: Any) -> None:
    if bad == "cuda" and torch.cuda.is_available():
        pytest.skip("here it is one")
    with torch.no_grad():
        for ask in (
            lambda: model.run_with_cache(TOKENS, device=bad),
            lambda: model.run_with_cache(TOKENS)[1].to(bad),
            lambda: model.get_caching_hooks(device=bad),
        ):
            with pytest.raises(InputError, match="device"):
                ask()
