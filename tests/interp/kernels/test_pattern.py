"""Statistics of given queries and keys against a pattern that is written down by loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from interp.errors import InputError
from interp.kernels import STATISTICS, pattern_statistics
from interp.kernels.statistics import OF_TOKENS
from tests.covering import every_nth, examples
from tests.interp.kernels.oracle import check, pattern_of


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def padding(kind: str, batch: int, n: int) -> Tensor | None:
    """Which keys are real: of the last row always all but the first two or so."""
    real = torch.ones(batch, n, dtype=torch.bool)
    if kind == "left":
        real[-1, : min(2, n)] = False
    elif kind == "right":
        real[-1, max(n - 2, 0) :] = False
    elif kind == "holes":
        real[-1, ::3] = False
    elif kind == "nothing but":
        real[-1] = False
    return None if kind == "none" else real


@st.composite
def cases(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor, dict[str, Any]]:
    """q, k, tokens, and the rest."""
    batch, key_pos = draw(st.integers(1, 2)), draw(st.integers(1, 12))
    pos = key_pos if draw(st.booleans()) else draw(st.integers(1, key_pos))
    kv, group, seed = draw(st.integers(1, 2)), draw(st.integers(1, 2)), draw(st.integers(0, 99))
    heads = kv * group
    options: dict[str, Any] = {
        "scale": draw(st.sampled_from([0.3, 2.0])),
        "causal": draw(st.booleans()),
        "window": draw(st.sampled_from([None, None, 1, 3, 20])),
        "soft_cap": draw(st.sampled_from([0.0, 0.0, 1.5])),
        "slopes": random(heads, seed=seed).abs() if draw(st.booleans()) else None,
        "sinks": random(heads, seed=seed + 1) if draw(st.booleans()) else None,
        "real_keys": padding(
            draw(st.sampled_from(["none", "left", "right", "holes", "nothing but"])), batch, key_pos
        ),
        "bias": None,
    }
    if draw(st.booleans()):
        rows = draw(st.sampled_from([1, batch]))
        options["bias"] = random(rows, heads, pos, key_pos, seed=seed + 2)
    n_vocab = draw(st.sampled_from([1, 3, 50]))
    tokens = torch.randint(n_vocab, (batch, key_pos), generator=torch.Generator().manual_seed(seed))
    q = random(batch, pos, heads, 5, seed=seed + 3)
    k = random(batch, key_pos, kv, 5, seed=seed + 4)
    return q, k, tokens, options


@settings(max_examples=examples(120), deadline=None)
@given(cases())
def test_equals_a_pattern_written_down(
    assert_close: Any, case: tuple[Tensor, Tensor, Tensor, dict[str, Any]]
) -> None:
    q, k, tokens, options = case
    found = pattern_statistics(q, k, tokens=tokens, **options)
    assert tuple(found) == STATISTICS
    pattern, lse = pattern_of(q, k, **options)
    check(found, pattern, assert_close, tokens, options["real_keys"], lse)


OPTIONS: list[dict[str, Any]] = [
    {}, {"window": 30}, {"causal": False}, {"causal": False, "window": 70}, {"padded": "left"},
    {"padded": "holes", "window": 40},
]  # fmt: skip


@pytest.mark.parametrize(
    ("n", "options"),
    [(n, some) for i, n in enumerate([64, 130, 65]) for some in every_nth(OPTIONS, 2, i)],
)
def test_across_blocks(
    assert_close: Any, monkeypatch: Any, n: int, options: dict[str, Any]
) -> None:
    """Lengths around those of a group of keys; blocks small enough for there to be several."""
    monkeypatch.setattr("interp.kernels.reference._CACHED_SCORES", 4096)
    real = padding(options.get("padded", "none"), 1, n)
    options = {key: value for key, value in options.items() if key != "padded"}
    q, k = random(1, n, 2, 4, seed=1), random(1, n, 1, 4, seed=2)
    tokens = torch.randint(2 if n == 65 else 40, (1, n), generator=torch.Generator().manual_seed(0))
    found = pattern_statistics(q, k, tokens=tokens, scale=1.0, real_keys=real, **options)
    pattern, lse = pattern_of(q, k, scale=1.0, real_keys=real, **options)
    check(found, pattern, assert_close, tokens, real, lse)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_half_precision_scores_are_fp32(assert_close: Any, dtype: torch.dtype) -> None:
    q, k = random(2, 20, 4, 16, dtype=dtype), random(2, 20, 2, 16, seed=1, dtype=dtype)
    tokens = torch.arange(20).remainder(6).expand(2, -1)
    found = pattern_statistics(q, k, tokens=tokens)
    assert found["entropy"].dtype == found["lse"].dtype == torch.float32
    pattern, lse = pattern_of(q, k, scale=16**-0.5)
    check(found, pattern, assert_close, tokens, None, lse)


def test_by_hand() -> None:
    """Equal scores: every destination spreads evenly over what it sees."""
    q = k = torch.zeros(1, 4, 1, 2)
    found = pattern_statistics(q, k, tokens=torch.tensor([[7, 8, 7, 7]]))

    def is_near(name: str, expected: list[float]) -> None:
        torch.testing.assert_close(found[name], torch.tensor([[expected]]), rtol=0, atol=1e-6)

    is_near("lse", [0.0, 0.6931472, 1.0986123, 1.3862944])
    is_near("entropy", [0.0, 0.6931472, 1.0986123, 1.3862944])
    is_near("first_mass", [1.0, 1 / 2, 1 / 3, 1 / 4])
    is_near("previous_mass", [0.0, 1 / 2, 1 / 3, 1 / 4])
    is_near("self_mass", [1.0, 1 / 2, 1 / 3, 1 / 4])
    is_near("same_token_mass", [0.0, 0.0, 1 / 3, 2 / 4])  # 7 7 at 2 and 3
    is_near("induction_mass", [0.0, 0.0, 1 / 3, 2 / 4])  # after the 7 at 0, and that at 2
    is_near("mean_distance", [0.0, 1 / 2, 1.0, 3 / 2])
    is_near("top_share", [1.0, 1 / 2, 1 / 3, 1 / 4])


def test_near_sources_keep_their_distance_far_into_a_text(assert_close: Any) -> None:
    """In fp32 a mean of positions near 3,000 would hold distances of 1 only to 1e-4."""
    n = 3000
    q = torch.zeros(1, n, 1, 1)
    slopes = torch.tensor([2.0])
    found = pattern_statistics(q, q, slopes=slopes, statistics=["mean_distance"])
    weights = torch.exp(-2.0 * torch.arange(40, dtype=torch.float64))
    expected = (weights * torch.arange(40)).sum() / weights.sum()
    last = found["mean_distance"][0, 0, 100:]
    assert_close(last, expected.float().expand_as(last), tolerance=1e-6)


def test_very_unequal_scores(assert_close: Any) -> None:
    """Differences whose exponential is 0, or would overflow, in either order; exact in fp32."""
    q = torch.full((1, 6, 1, 1), 32.0)
    k = torch.tensor([1.0, 300.0, -300.0, 300.0 - 1 / 64, 0.0, -1e4])[None, :, None, None]
    for real in (None, torch.tensor([[False, True, True, True, True, True]])):
        found = pattern_statistics(q, k, scale=1.0, real_keys=real)
        pattern, lse = pattern_of(q, k, scale=1.0, real_keys=real)
        check(found, pattern, assert_close, None, real, lse)


@pytest.mark.parametrize("sinks", [None, torch.tensor([0.5])])
def test_a_bias_may_hide_everything(assert_close: Any, sinks: Tensor | None) -> None:
    q, k = random(1, 5, 1, 3), random(1, 5, 1, 3, seed=1)
    bias = torch.zeros(1, 1, 5, 5, dtype=torch.float64)
    bias[..., 2, :] = -torch.inf
    bias[..., 4, 1:] = -torch.inf
    found = pattern_statistics(q, k, bias=bias, sinks=sinks)
    assert found["lse"][0, 0, 2] == -torch.inf and found["top_source"][0, 0, 2] == -1
    for name in found:
        assert name in ("lse", "top_source") or found[name][0, 0, 2] == 0
    assert found["top_source"][0, 0, 4] == 0
    if sinks is None:
        assert_close(found["first_mass"][0, 0, 4], torch.tensor(1.0, dtype=torch.float64))


def test_only_what_is_asked_for() -> None:
    q = random(1, 9, 2, 4)
    everything = pattern_statistics(q, q, tokens=torch.arange(9)[None])
    for name in STATISTICS:
        tokens = torch.arange(9)[None] if name in OF_TOKENS else None
        found = pattern_statistics(q, q, tokens=tokens, statistics=[name])
        assert tuple(found) == (name,)
        torch.testing.assert_close(found[name], everything[name], rtol=0, atol=1e-14)
    assert not set(pattern_statistics(q, q)) & set(OF_TOKENS)


def test_rows_are_alone(assert_close: Any) -> None:
    """A row of a padded batch gives what it gives alone."""
    q, k = random(2, 10, 2, 4), random(2, 10, 2, 4, seed=1)
    tokens = torch.arange(20).remainder(4).view(2, 10)
    real = torch.ones(2, 10, dtype=torch.bool)
    real[1, :3] = False
    together = pattern_statistics(q, k, tokens=tokens, real_keys=real, window=4)
    alone = pattern_statistics(q[1:, 3:], k[1:, 3:], tokens=tokens[1:, 3:], window=4)
    for name in STATISTICS:
        shift = 3 if name == "top_source" else 0
        assert_close(together[name][1, :, 3:], alone[name][0] + shift, name, 1e-12)


def test_no_gradient_and_no_change_of_what_is_given() -> None:
    q, k = random(1, 6, 2, 4).requires_grad_(), random(1, 6, 2, 4, seed=1)
    before = (q.detach().clone(), k.clone())
    assert not pattern_statistics(q, k)["entropy"].requires_grad
    assert torch.equal(q, before[0]) and torch.equal(k, before[1])


class Largest(TorchDispatchMode):
    """The size in bytes of the largest tensor that any operation gives."""

    size = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for x in found if isinstance(found, tuple | list) else [found]:
            if isinstance(x, Tensor):
                self.size = max(self.size, x.numel() * x.element_size())
        return found


@pytest.mark.parametrize("window", [None, 50])
@pytest.mark.parametrize("n_threads", [1, 2])
def test_nothing_is_as_large_as_a_pattern(
    window: int | None, n_threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does it grow when all tokens are the same, or in a longer text."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: n_threads)
    tokens = torch.arange(2048)
    sizes = []
    for n, held in ((1024, tokens), (1024, tokens * 0), (2048, tokens)):
        q = random(1, n, 2, 16, dtype=torch.float32)
        with Largest() as seen:
            pattern_statistics(q, q, tokens=held[None, :n], window=window)
        sizes.append(seen.size)
    # Two blocks of scores; a pattern here has 8 and 32 MiB.
    assert max(sizes) <= 2 * 2**18 * 4 * (1 if n_threads == 1 else 4)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"q": torch.zeros(1, 5, 3, 4)}, "heads that divide"),
    ({"q": torch.zeros(1, 6, 2, 4)}, "at least as many positions"),
    ({"q": torch.zeros(5, 2, 4)}, "q must be"),
    ({"q": torch.zeros(1, 5, 2, 4, dtype=torch.float64)}, "one dtype"),
    ({"scale": 0.0}, "scale must be"),
    ({"scale": float("nan")}, "scale must be"),
    ({"window": 0}, "window must be"),
    ({"soft_cap": -1.0}, "soft_cap must be"),
    ({"tokens": torch.zeros(1, 4, dtype=torch.int64)}, "tokens must have the shape"),
    ({"tokens": torch.zeros(1, 5)}, "whole numbers"),
    ({"tokens": torch.zeros(1, 5, dtype=torch.int64), "statistics": ["lse"]}, "no use"),
    ({"real_keys": torch.ones(1, 5)}, "real_keys must be bool"),
    ({"slopes": torch.ones(3)}, "slopes must have"),
    ({"sinks": torch.ones(2, 1)}, "sinks must have"),
    ({"bias": torch.ones(2, 2, 5, 5)}, r"shape \(1, 2, 5, 5\)\. Received"),
    ({"tokens": [[0] * 5]}, "tokens must be a tensor. Received a list"),
    ({"q": np.zeros((1, 5, 2, 4))}, "q must be a tensor. Received a ndarray"),
    ({"q": torch.zeros(1, 5, 0, 4)}, "none but batch may be empty"),
    ({"scale": -0.5}, "scale must be a number and positive"),
    ({"statistics": ["entropie"]}, "did you mean 'entropy'"),
    ({"statistics": []}, "at least one"),
    ({"statistics": "entropy"}, "a sequence of names"),
    ({"statistics": ["induction_mass"]}, "needs tokens"),
    ({"route": "fast"}, "route must be"),
]


@pytest.mark.parametrize(("change", "message"), BAD, ids=[m for _, m in BAD])
def test_refuses(change: dict[str, Any], message: str) -> None:
    arguments = {"q": torch.zeros(1, 5, 2, 4), "k": torch.zeros(1, 5, 2, 4), **change}
    with pytest.raises(InputError, match=message):
        pattern_statistics(**arguments)


def test_the_kernel_is_refused_where_it_does_not_apply() -> None:
    wide, exact = torch.zeros(1, 2, 1, 257), torch.zeros(1, 2, 1, 4, dtype=torch.float64)
    for q in (wide, exact):
        with pytest.raises(InputError, match="the kernel takes"):
            pattern_statistics(q, q, route="kernel")
