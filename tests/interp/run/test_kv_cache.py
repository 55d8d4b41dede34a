"""Keys and values kept with room for more: equal to putting them side by side each time."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from interp import HookedTransformer, HookPoint, KeyValueCache
from interp.run.kv_cache import LayerKeyValueCache

Make = Callable[..., HookedTransformer]
Check = Callable[..., None]

TOKENS = torch.randint(31, (3, 12), generator=torch.Generator().manual_seed(0))


def layer(capacity: int = 0, batch: int = 2, heads: int = 2) -> LayerKeyValueCache:
    empty = torch.empty(batch, 0, heads, 3)
    return LayerKeyValueCache(empty, empty, capacity=capacity)


def drawn(n: int, seed: int = 0, batch: int = 2, heads: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    keys, values = torch.randn(2, batch, n, heads, 3, generator=generator)
    return keys, values


def add(entry: LayerKeyValueCache, n: int, seed: int = 0) -> None:
    entry.join(*drawn(n, seed))
    entry.commit()


@torch.no_grad()
@given(
    st.integers(0, 9),
    st.lists(
        st.tuples(
            st.integers(1, 5), st.booleans(), st.sampled_from(["no_grad", "inference", "grad"])
        ),
        max_size=7,
    ),
)
@settings(deadline=None)
def test_all_that_was_committed_is_there(capacity: int, steps: list[tuple[int, bool, str]]) -> None:
    """Also when runs fail in between, and whatever mode each is in."""
    modes = {
        "no_grad": torch.no_grad, "inference": torch.inference_mode, "grad": torch.enable_grad,
    }  # fmt: skip
    entry, kept = layer(capacity), [drawn(0)]
    for i, (n, fails, mode) in enumerate(steps):
        new = drawn(n, seed=i)
        with modes[mode]():
            joined = entry.join(*new)
            for part, expected in zip(joined, zip(*kept, new, strict=True), strict=True):
                assert torch.equal(part, torch.cat(expected, 1))
            if not fails:
                entry.commit()
                kept.append(new)
        for part, expected in zip((entry.keys, entry.values), zip(*kept, strict=True), strict=True):
            assert torch.equal(part, torch.cat(expected, 1))


@torch.no_grad()
@pytest.mark.parametrize("capacity", [0, 20])
def test_a_step_copies_its_own_keys_alone(capacity: int) -> None:
    entry = layer(capacity)
    places = []
    for i in range(20):
        add(entry, 1, i)
        places.append((entry.keys.data_ptr(), entry.values.data_ptr()))
    moves = sum(a != b for a, b in itertools.pairwise(places))
    assert moves == (0 if capacity else 3)  # at 1 → 2, 6, 14 and 30 places


@torch.no_grad()
@pytest.mark.parametrize(
    "branch", [copy.copy, copy.deepcopy, lambda e: dataclasses.replace(e), lambda e: e.select(ALL)]
)
def test_branches_do_not_write_into_one_another(
    branch: Callable[[LayerKeyValueCache], LayerKeyValueCache],
) -> None:
    entry = layer(20)
    add(entry, 4)
    twin = branch(entry)
    before = entry.keys.clone()
    for i in range(3):
        add(entry, 2, seed=10 + i)
        add(twin, 2, seed=20 + i)
    mine = [drawn(2, 10 + i)[0] for i in range(3)]
    other = [drawn(2, 20 + i)[0] for i in range(3)]
    assert torch.equal(entry.keys, torch.cat([before, *mine], 1))
    assert torch.equal(twin.keys, torch.cat([before, *other], 1))


ALL = torch.arange(2)


@torch.no_grad()
def test_a_run_inside_a_run_takes_nothing_from_it() -> None:
    """The inner one joins and is kept first; what the outer one joined stays as it was."""
    entry = layer(20)
    add(entry, 4)
    inner = copy.copy(entry)
    outer, _ = entry.join(*drawn(2, 5))
    seen = outer.clone()
    inner.join(*drawn(2, 6))
    inner.commit()
    assert torch.equal(outer, seen)
    entry.commit()
    assert torch.equal(entry.keys, seen)


@torch.no_grad()
def test_what_a_user_writes_is_kept() -> None:
    entry = layer(20)
    add(entry, 4)
    entry.keys[:, 1] = 7.0
    add(entry, 1)
    assert (entry.keys[:, 1] == 7.0).all()
    entry.values = torch.zeros_like(entry.values)
    add(entry, 1, seed=3)
    assert (entry.values[:, :5] == 0).all()
    assert torch.equal(entry.values[:, 5:], drawn(1, 3)[1])


@torch.no_grad()
def test_wider_keys_and_other_dtypes() -> None:
    entry = layer(20)
    add(entry, 3)
    before = entry.keys.clone()
    wide = drawn(2, 1, heads=4)
    entry.join(*wide)
    entry.commit()
    assert torch.equal(entry.keys, torch.cat([before.repeat_interleave(2, 2), wide[0]], 1))
    add(entry, 1, seed=2)  # from two heads again
    assert entry.keys.shape == (2, 6, 4, 3)
    assert torch.equal(entry.keys[:, 5:], drawn(1, 2)[0].repeat_interleave(2, 2))
    entry.join(*(x.double() for x in drawn(1, 4, heads=4)))
    entry.commit()
    assert entry.keys.dtype == torch.float64


def test_gradients_flow_through_what_is_kept(make_model: Make, assert_close: Check) -> None:
    """Also where a cache with room is continued, and then by several."""
    model = make_model(dtype="float64")
    with torch.no_grad():
        past = KeyValueCache.init_cache(model.cfg, "cpu", 3, 12)
        model(TOKENS[:, :4], past_kv_cache=past)
    first = model(TOKENS[:, 4:8], past_kv_cache=past)
    with torch.no_grad():
        model(TOKENS[:, 8:9], past_kv_cache=past.select(torch.arange(3)))
    (first.sum() + model(TOKENS[:, 8:], past_kv_cache=past).sum()).backward()
    gradient = model.W_E.grad.clone()
    model.zero_grad()
    old = KeyValueCache.init_cache(model.cfg, "cpu", 3)
    with torch.no_grad():
        model(TOKENS[:, :4], past_kv_cache=old)
    model(TOKENS[:, 4:], past_kv_cache=old).sum().backward()
    assert_close(gradient, model.W_E.grad)


@torch.no_grad()
def test_a_run_that_fails_changes_nothing(make_model: Make, assert_close: Check) -> None:
    model = make_model(dtype="float64", n_key_value_heads=2, positional_embedding_type="rotary")
    past = KeyValueCache.init_cache(model.cfg, "cpu", 3, 16)
    model(TOKENS[:, :5], past_kv_cache=past)
    kept = [entry.keys.clone() for entry in past.layers]

    def fail(x: Tensor, hook: HookPoint) -> None:
        raise RuntimeError("on purpose")

    for _ in range(2):
        with pytest.raises(RuntimeError, match="on purpose"):
            model.run_with_hooks(
                TOKENS[:, 5:9], past_kv_cache=past, fwd_hooks=[("blocks.1.hook_attn_out", fail)]
            )
        assert len(past) == 5
        for entry, before in zip(past.layers, kept, strict=True):
            assert torch.equal(entry.keys, before)
    assert_close(model(TOKENS[:, 5:], past_kv_cache=past), model(TOKENS)[:, 5:])


@torch.no_grad()
def test_records_of_a_step_are_its_own(make_model: Make) -> None:
    """What was recorded before is not written over, and keeps no room alive."""
    model = make_model(dtype="float64")
    past = KeyValueCache.init_cache(model.cfg, "cpu", 3, 12)
    _, first = model.run_with_cache(TOKENS[:, :4], past_kv_cache=past)
    before = {name: tensor.clone() for name, tensor in first.items()}
    for i in range(4, 12):
        model(TOKENS[:, i : i + 1], past_kv_cache=past)
    for name, tensor in first.items():
        assert torch.equal(tensor, before[name]), name
    rooms = {entry.keys.untyped_storage()._cdata for entry in past.layers}
    assert rooms.isdisjoint(tensor.untyped_storage()._cdata for tensor in first.values())
