"""Records that are copied to another device beside the computation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from interp import HookedTransformer, HookPoint
from interp.run import recording

Make = Callable[..., HookedTransformer]
TOKENS = torch.tensor([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])


@pytest.fixture
def model(make_model: Make) -> HookedTransformer:
    return make_model(dtype="float64", n_key_value_heads=2)


def storage(x: Tensor) -> int:
    """Which memory a tensor lies in, on devices without addresses too."""
    return x.untyped_storage()._cdata


class Late:
    """Stands for copies beside the computation: they get their numbers at the end."""

    made: list[Late]

    @staticmethod
    def take(source: torch.device, target: torch.device) -> bool:
        return True  # also to where they are: the CPU stands for both devices

    def __init__(self) -> None:
        self.waiting: list[tuple[Tensor, Tensor]] = []
        self.asked: list[tuple[torch.dtype, torch.dtype | None]] = []
        self.finished = 0
        Late.made.append(self)

    def copy(self, source: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        assert not self.finished
        self.asked.append((source.dtype, dtype))
        self.waiting.append((torch.full_like(source, -77, dtype=dtype), source))
        return self.waiting[-1][0]

    def finish(self) -> None:
        self.finished += 1
        for target, source in self.waiting:
            target.copy_(source)


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> list[Late]:
    Late.made = []
    monkeypatch.setattr(recording, "PinnedCopies", Late)
    return Late.made


@pytest.mark.parametrize("incl_bwd", [False, True])
@pytest.mark.parametrize("kwargs", [{}, {"pos_slice": (1, 3)}])
def test_overlapped_copies_are_complete_when_the_cache_is_there(
    model: HookedTransformer, late: list[Late], kwargs: dict[str, Any], incl_bwd: bool
) -> None:
    kwargs = {"return_type": "loss", "incl_bwd": incl_bwd, **kwargs}
    _, whole = model.run_with_cache(TOKENS, **kwargs)
    assert not late  # no other device, no copies
    model.zero_grad()
    _, cache = model.run_with_cache(TOKENS, device="cpu", **kwargs)
    for name, value in whole.items():
        assert torch.equal(cache[name], value), name
    assert late[0].finished == 1
    assert len(late[0].asked) == len({storage(v) for v in cache.values()})


def test_dtypes_narrow_before_they_travel_and_widen_after(
    make_model: Make, late: list[Late]
) -> None:
    model = make_model(dtype="float32")
    for dtype, travels in ((torch.bfloat16, torch.bfloat16), (torch.float64, torch.float32)):
        with torch.no_grad():
            _, cache = model.run_with_cache(TOKENS, device="cpu", dtype=dtype)
        assert set(late[-1].asked) == {(travels, dtype)}
        assert {v.dtype for v in cache.values()} == {dtype}


def test_a_run_that_fails_waits_too(model: HookedTransformer, late: list[Late]) -> None:
    def fail(x: Tensor, hook: HookPoint) -> None:
        raise RuntimeError("on purpose")

    with (
        model.hooks([("blocks.1.hook_resid_mid", fail)]),
        pytest.raises(RuntimeError, match="on purpose"),
    ):
        model.run_with_cache(TOKENS, device="cpu")
    assert late[-1].asked
    assert late[-1].finished == 1
    assert not any(point.is_watched for point in model.hook_points())
    assert model._watchers.before_blocks is None


def test_a_recorder_left_in_place_copies_at_once(
    model: HookedTransformer, late: list[Late]
) -> None:
    """Nobody says when such a run has ended."""
    with torch.no_grad():
        _, cache = model.run_with_cache(TOKENS, device="cpu", reset_hooks_end=False)
        _, expected = model.run_with_cache((TOKENS + 1) % 31)
        model((TOKENS + 1) % 31)
    model.reset_hooks()
    for name, value in expected.items():
        assert torch.equal(cache[name], value), name


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("kwargs", [{}, {"pos_slice": -1}, {"dtype": torch.bfloat16}])
def test_from_a_gpu_to_the_cpu(make_model: Make, kwargs: dict[str, Any]) -> None:
    model = make_model(device="cuda")
    tokens = TOKENS.to("cuda")
    options: dict[str, Any] = {"return_type": "loss", "incl_bwd": True, **kwargs}
    _, here = model.run_with_cache(tokens, **options)
    model.zero_grad()
    _, there = model.run_with_cache(tokens, device="cpu", **options)
    assert {v.device.type for v in there.values()} == {"cpu"}
    for name, value in here.items():
        assert torch.equal(there[name], value.cpu()), name
    assert there.nbytes == here.nbytes
    _, same = model.run_with_cache(tokens, names_filter="hook_embed", device="cuda")
    assert same.nbytes == here["hook_embed"].numel() * 4 or kwargs
