"""How much memory a recording may keep."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from interp import HookedRootModule, HookedTransformer, HookPoint, InputError
from interp.run.recording import CacheRecorder

Make = Callable[..., HookedTransformer]
TOKENS = torch.tensor([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])


@pytest.fixture
def model(make_model: Make) -> HookedTransformer:
    return make_model(dtype="float64", n_key_value_heads=2)


class Plain(HookedRootModule):
    """A module whose sizes nobody can tell before it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.hook_one, self.hook_two = HookPoint(), HookPoint()
        self.setup()

    def forward(self, x: Tensor) -> Tensor:
        return self.hook_two(self.hook_one(x * 2) + 1)


def test_a_limit_is_kept_while_recording() -> None:
    module, x = Plain(), torch.randn(10)
    _, cache = module.run_with_cache(x, max_bytes=80)
    assert list(cache) == ["hook_one", "hook_two"]
    with pytest.raises(InputError, match=r"kept 80 B.*max_bytes \(79 B\).*hook_one: 40 B"):
        module.run_with_cache(x, max_bytes=79)
    assert not any(point.is_watched for point in module.hook_points())
    found, fwd, _ = module.get_caching_hooks(max_bytes=79, dtype=torch.float64)
    with pytest.raises(InputError, match=r"kept 80 B.*hook_one: 80 B"):
        module.run_with_hooks(x, fwd_hooks=fwd)
    assert list(found) == ["hook_one"]


def test_a_limit_counts_gradients_once_they_are_there(model: HookedTransformer) -> None:
    kwargs: dict[str, Any] = {"return_type": "loss", "incl_bwd": True, "names_filter": "*.hook_z"}
    _, cache = model.run_with_cache(TOKENS, **kwargs)
    _, again = model.run_with_cache(TOKENS, max_bytes=cache.nbytes, **kwargs)
    assert again.nbytes == cache.nbytes
    with pytest.raises(InputError, match=r"has kept .*hook_z_grad|has kept .*hook_z"):
        model.run_with_cache(TOKENS, max_bytes=cache.nbytes - 1, **kwargs)
    assert not any(point.is_watched for point in model.hook_points())


def test_a_limit_counts_what_is_kept_not_what_was(model: HookedTransformer) -> None:
    """Runs that fill the same dictionary put new records in the place of the old."""
    with torch.no_grad():
        _, cache = model.run_with_cache(TOKENS)
        # Where two names share a tensor, the old one stays until the second is replaced too.
        limit = cache.nbytes + cache["resid_pre", 1].nbytes
        _, kept = model.run_with_cache(TOKENS, max_bytes=limit, reset_hooks_end=False)
        for _ in range(3):
            model(TOKENS)
        assert kept.nbytes == cache.nbytes
        with pytest.raises(InputError, match="has kept"):
            model(TOKENS.repeat(2, 1))
    model.reset_hooks()


def test_a_limit_counts_nothing_that_the_holder_has_dropped(model: HookedTransformer) -> None:
    with torch.no_grad():
        cache = model.add_caching_hooks("blocks.*.hook_resid_post")
        model(TOKENS)
        model.reset_hooks()
        n_bytes = sum(t.nbytes for t in cache.values())
        cache = model.add_caching_hooks("blocks.*.hook_resid_post", max_bytes=n_bytes)
        for drop in (dict.clear, dict.clear, dict.popitem, dict.copy):
            model(TOKENS)
            drop(cache)
        assert len(cache) == 2
        cache["mine"] = torch.zeros(1)
        with pytest.raises(InputError, match="has kept"):
            model(TOKENS)
    model.reset_hooks()


def test_a_limit_sees_what_lies_where_others_lay() -> None:
    """Memory that was freed is given out again at the same address."""
    recorder = CacheRecorder(max_bytes=200)
    for _ in range(20):
        recorder.record("a", torch.zeros(1))
        recorder.cache.clear()
    with pytest.raises(InputError, match="has kept 204 B"):
        recorder.record("a", torch.zeros(51))


def test_a_limit_counts_a_record_as_its_holder_left_it() -> None:
    recorder = CacheRecorder(max_bytes=200)
    whole = torch.zeros(50)
    recorder.record("a", whole)
    recorder.cache["a"] = whole[:1].clone()
    recorder.record("b", torch.zeros(49))
    with pytest.raises(InputError, match="has kept 204 B"):
        recorder.record("c", torch.zeros(1))


@pytest.mark.parametrize("bad", [-1, 1.5, True, "1 GiB"])
def test_limits_that_are_none(model: HookedTransformer, bad: Any) -> None:
    with pytest.raises(InputError, match="max_bytes must be a whole number"):
        model.run_with_cache(TOKENS, max_bytes=bad)
