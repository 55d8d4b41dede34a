"""Looking records up, and cutting, moving and showing a cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from interp import ActivationCache, HookedTransformer, InputError

Make = Callable[..., HookedTransformer]
Check = Callable[..., None]

TOKENS = torch.tensor([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3], [0, 0, 7, 8, 2]])


@pytest.fixture(scope="module")
def model(make_model: Make) -> HookedTransformer:
    return make_model(dtype="float64", n_layers=3)


@pytest.fixture
def cache(model: HookedTransformer) -> ActivationCache:
    with torch.no_grad():
        return model.run_with_cache(TOKENS)[1]


@pytest.mark.parametrize(
    ("key", "name"),
    [
        (("pattern", 0), "blocks.0.attn.hook_pattern"),
        (("attn", 0), "blocks.0.attn.hook_pattern"),
        (("pattern", 0, "attn"), "blocks.0.attn.hook_pattern"),
        (("attn_scores", 2), "blocks.2.attn.hook_attn_scores"),
        (("k", -1), "blocks.2.attn.hook_k"),
        (("z", -3), "blocks.0.attn.hook_z"),
        (("scale", 1, "ln1"), "blocks.1.ln1.hook_scale"),
        (("normalized", -1, "ln2"), "blocks.2.ln2.hook_normalized"),
        (("resid_pre", 1), "blocks.1.hook_resid_pre"),
        (("resid_mid", 1), "blocks.1.hook_resid_mid"),
        (("resid_post", -1), "blocks.2.hook_resid_post"),
        (("mlp_out", 1), "blocks.1.hook_mlp_out"),
        (("attn_out", 1), "blocks.1.hook_attn_out"),
        (("post", 1), "blocks.1.mlp.hook_post"),
        (("mlp_post", 1), "blocks.1.mlp.hook_post"),
        (("pre", 1, "mlp"), "blocks.1.mlp.hook_pre"),
        (("scale",), "ln_final.hook_scale"),
        ("scale", "ln_final.hook_scale"),
        ("embed", "hook_embed"),
        ("pos_embed", "hook_pos_embed"),
        ("hook_embed", "hook_embed"),
        ("blocks.1.attn.hook_q", "blocks.1.attn.hook_q"),
        ("q1", "blocks.1.attn.hook_q"),
    ],
)
def test_lookups(cache: ActivationCache, key: Any, name: str) -> None:
    assert cache[key] is cache.cache_dict[name]
    assert key in cache


def test_it_is_a_mapping(cache: ActivationCache, model: HookedTransformer) -> None:
    assert len(cache) == len(model.default_hook_names())
    assert list(cache) == list(cache.keys()) == [n for n, _ in cache.items()]
    assert all(a is b for a, b in zip(cache.values(), map(cache.__getitem__, cache), strict=True))
    assert "blocks.0.attn.hook_result" not in cache
    assert ("result", 0) not in cache
    assert "nonsense" not in cache


@pytest.mark.parametrize(
    ("key", "texts"),
    [
        (("result", 0), ["blocks.0.attn.hook_result", "not recorded", "names_filter"]),
        (("q_input", 1), ["blocks.1.hook_q_input", "names_filter"]),
        ("blocks.0.hook_resid_pre_grad", ["names_filter"]),
        (("pattern", 7), ["blocks.7.attn.hook_pattern", "no such hook"]),
        ("nonsense", ["nonsense", "no such hook"]),
    ],
)
def test_misses_say_what_to_do(cache: ActivationCache, key: Any, texts: list[str]) -> None:
    with pytest.raises(KeyError) as caught:
        cache[key]
    for text in texts:
        assert text in str(caught.value)


def test_a_key_must_begin_with_a_name(cache: ActivationCache) -> None:
    with pytest.raises(InputError, match="name"):
        cache[0, "pattern"]


@pytest.mark.parametrize("chosen", [1, -1, (0, 2), slice(1, None), [2, 0], torch.tensor([0]), None])
def test_rows(cache: ActivationCache, chosen: Any, assert_close: Check) -> None:
    part = cache.apply_slice_to_batch_dim(chosen)
    index = slice(None) if chosen is None else chosen
    index = slice(*index) if isinstance(index, tuple) else index
    assert part.keys() == cache.keys()
    for name, value in cache.items():
        assert torch.equal(part[name], value[index]), name
    assert part.has_batch_dim != isinstance(chosen, int)
    assert cache.has_batch_dim
    assert cache["embed"].shape == (3, 5, 24)
    # What follows from the part is the part of what follows.
    whole = cache.decompose_resid(2, apply_ln=True)
    assert isinstance(whole, torch.Tensor)
    found = part.decompose_resid(2, apply_ln=True)
    assert_close(found, whole[:, index])


@pytest.mark.parametrize("chosen", [3, -4, [0, 5]])
def test_rows_outside_are_an_error(cache: ActivationCache, chosen: Any) -> None:
    with pytest.raises(InputError, match="outside"):
        cache.apply_slice_to_batch_dim(chosen)
    single = cache.apply_slice_to_batch_dim([0])
    with pytest.raises(InputError, match="outside"):
        single.apply_slice_to_batch_dim(1)
    without = cache.apply_slice_to_batch_dim(0)
    with pytest.raises(InputError, match="no batch axis"):
        without.apply_slice_to_batch_dim(0)


def test_remove_batch_dim(model: HookedTransformer, cache: ActivationCache) -> None:
    with torch.no_grad():
        _, single = model.run_with_cache(TOKENS[:1])
        _, expected = model.run_with_cache(TOKENS[:1], remove_batch_dim=True)
    assert single.remove_batch_dim() is single
    assert not single.has_batch_dim
    for name, value in single.items():
        assert torch.equal(value, expected[name]), name
    assert single.remove_batch_dim() is single
    assert single["embed"].shape == (5, 24)
    with pytest.raises(InputError, match=r"batch of one.*\(3, 5"):
        cache.remove_batch_dim()
    assert cache.has_batch_dim


@pytest.mark.parametrize(
    ("name", "kind", "hook"),
    [
        ("z", None, "blocks.{}.attn.hook_z"),
        ("scale", "ln2", "blocks.{}.ln2.hook_scale"),
        ("resid_post", None, "blocks.{}.hook_resid_post"),
    ],
)
def test_stack_activation(cache: ActivationCache, name: str, kind: str | None, hook: str) -> None:
    stack = cache.stack_activation(name, sublayer_type=kind)
    assert torch.equal(stack, torch.stack([cache[hook.format(i)] for i in range(3)]))
    assert torch.equal(cache.stack_activation(name, 2, kind), stack[:2])


def test_bytes_and_summary(cache: ActivationCache) -> None:
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage() for t in cache.values()}
    assert cache.nbytes == sum(s.nbytes() for s in storages.values())
    one = cache["resid_pre", 1].numel() * 8
    without = {k: v for k, v in cache.items() if k != "blocks.1.hook_resid_pre"}
    assert ActivationCache(without, cache.model).nbytes == cache.nbytes
    # Once each: two resid_post that are the next resid_pre, and the positions, which are the same
    # for all three rows.
    listed = sum(t.numel() * t.element_size() for t in cache.values())
    assert listed == cache.nbytes + 2 * one + 2 * one // 3
    text = repr(cache)
    assert f"{len(cache)} tensors" in text
    assert "on cpu" in text
    assert "KiB" in text
    assert "blocks.0.attn.hook_pattern: (3, 4, 5, 5) float64" in text
    # [3, 5, 24] fp64 in three layers: 8640 bytes.
    assert "largest: ln1.hook_normalized of 3 layers: 8.4 KiB; attn.hook_q of 3 layers" in text
    assert "0 tensors, 0 B" in repr(ActivationCache({}, cache.model))


def test_bytes_on_a_device_without_memory(cache: ActivationCache) -> None:
    assert cache.to("meta").nbytes == cache.nbytes


@pytest.mark.parametrize("device", [None, "cpu", "meta"])
def test_another_dtype(model: HookedTransformer, device: str | None) -> None:
    """Names for one tensor, and views of it for every head, still share its memory."""
    with torch.no_grad():
        _, cache = model.run_with_cache(TOKENS, names_filter=lambda name: True)
    half = cache.to(device, dtype=torch.bfloat16)
    tokens = TOKENS.numel() * 8
    assert half.nbytes - tokens == (cache.nbytes - tokens) // 4
    for name, value in cache.items():
        expected = value if name == "hook_tokens" else value.bfloat16()
        assert half[name].dtype == expected.dtype
        assert half[name].shape == value.shape
        if device != "meta":
            assert torch.equal(half[name], expected), name
    assert half["embed"].device.type == (device or "cpu")
    assert cache["embed"].dtype == torch.float64


def test_the_model_may_move_too(make_model: Callable[..., HookedTransformer]) -> None:
    """TransformerLens's signature."""
    model = make_model()
    with torch.no_grad():
        _, cache = model.run_with_cache(TOKENS)
    assert cache.to("meta")["embed"].device.type == "meta"
    assert model.W_E.device.type == "cpu"
    assert cache.to("meta", True)["embed"].device.type == "meta"
    assert model.W_E.device.type == "meta"
    with pytest.raises(InputError, match="move_model needs a device"):
        cache.to(dtype=torch.bfloat16, move_model=True)


def test_heads_results_can_be_added(model: HookedTransformer, assert_close: Check) -> None:
    with torch.no_grad():
        _, cache = model.run_with_cache(TOKENS, names_filter="*.hook_z")
        _, expected = model.run_with_cache(TOKENS, names_filter="*.hook_result")
        cache.compute_head_results()
    for name, value in expected.items():
        assert_close(cache[name], value, name)
