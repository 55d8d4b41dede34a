"""Small definitions, written from the papers that the config's docstrings cite."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


def activation(name: str, x: Tensor) -> Tensor:
    if name == "relu":
        return torch.where(x > 0, x, torch.zeros_like(x))
    if name == "gelu":
        return x * (1 + torch.erf(x / math.sqrt(2))) / 2
    tanh_gelus = {
        "gelu_new": math.sqrt(2 / math.pi),
        "gelu_pytorch_tanh": math.sqrt(2 / math.pi),
        "gelu_fast": 0.7978845608,
        "gelu_bloom": 0.79788456,
    }
    if name in tanh_gelus:
        return x / 2 * (1 + torch.tanh(tanh_gelus[name] * (x + 0.044715 * x**3)))
    if name == "silu":
        return x / (1 + torch.exp(-x))
    if name == "tanh":
        return (torch.exp(2 * x) - 1) / (torch.exp(2 * x) + 1)
    assert name in ("solu", "solu_ln")
    return x * torch.exp(x) / torch.exp(x).sum(-1, keepdim=True)


def capped(x: Tensor, cap: float) -> Tensor:
    return x if cap == -1 else cap * torch.tanh(x / cap)


def sinusoid(place: int, d_model: int, layout: str) -> list[float]:
    """Vaswani et al. 2017, §3.5; `halves`: first all sines."""
    angles = [place / 10_000 ** (2 * i / d_model) for i in range(d_model // 2)]
    if layout == "halves":
        return [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
    return [wave(a) for a in angles for wave in (math.sin, math.cos)]


def alibi_slopes(n_heads: int, max_bias: float) -> list[float]:
    """Press et al. 2022: a geometric sequence, and what its authors do for other numbers."""
    if math.log2(n_heads).is_integer():
        return [2 ** (-max_bias * (i + 1) / n_heads) for i in range(n_heads)]
    below = 2 ** math.floor(math.log2(n_heads))
    more = alibi_slopes(2 * below, max_bias)[0::2]
    return alibi_slopes(below, max_bias) + more[: n_heads - below]


def relative_bucket(offset: int, causal: bool, n_buckets: int, max_distance: int) -> int:
    """T5's bucket of key position - query position (Raffel et al. 2020)."""
    first = 0
    if not causal:
        n_buckets //= 2
        first = n_buckets if offset > 0 else 0
        offset = -abs(offset)
    distance = max(-offset, 0)
    exact = n_buckets // 2
    if distance < exact:
        return first + distance
    share = math.log(distance / exact) / math.log(max_distance / exact)
    return first + min(exact + math.floor(share * (n_buckets - exact)), n_buckets - 1)


def frequency(cfg: Any, pair: int, length: int, local: bool) -> float:
    """Radians per position of one rotated pair in a text of this length."""
    dim, base, how = cfg.rotary_dim, cfg.rotary_base, cfg.rotary_scaling
    if local and cfg.rotary_base_local is not None:
        return cfg.rotary_base_local ** (-2 * pair / dim)
    plain = base ** (-2 * pair / dim)
    if how is None:
        return plain
    if how.kind == "linear":
        return plain / how.factor
    if how.kind == "dynamic":
        if length <= how.original_n_ctx:
            return plain
        stretch = how.factor * length / how.original_n_ctx - (how.factor - 1)
        return (base * stretch ** (dim / (dim - 2))) ** (-2 * pair / dim)
    if how.kind == "llama3":
        turns = how.original_n_ctx * plain / (2 * math.pi)
        if turns > how.high_freq_factor:
            return plain
        if turns < how.low_freq_factor:
            return plain / how.factor
        kept = (turns - how.low_freq_factor) / (how.high_freq_factor - how.low_freq_factor)
        return (1 - kept) * plain / how.factor + kept * plain
    assert how.kind == "yarn"

    def pair_that_turns(times: float) -> float:
        # base^(-2 pair / dim) · original = 2π · times, solved for the pair
        return dim * math.log(how.original_n_ctx / (2 * math.pi * times)) / (2 * math.log(base))

    low, high = pair_that_turns(how.beta_fast), pair_that_turns(how.beta_slow)
    if how.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    ramp = min(max((pair - low) / ((high - low) or 0.001), 0.0), 1.0)
    return ramp * plain / how.factor + (1 - ramp) * plain


def turned(cfg: Any, x: Tensor, places: Tensor, lengths: list[int], local: bool) -> Tensor:
    dim, how = cfg.rotary_dim, cfg.rotary_scaling
    times = 1.0
    if how is not None and how.kind == "yarn" and not (local and cfg.rotary_base_local):
        times = how.attention_factor or (0.1 * math.log(how.factor) + 1 if how.factor > 1 else 1)
    columns = list(x.unbind(-1))
    for i in range(dim // 2):
        first, second = (2 * i, 2 * i + 1) if cfg.rotary_adjacent_pairs else (i, i + dim // 2)
        speeds = torch.tensor([frequency(cfg, i, n, local) for n in lengths], dtype=torch.float64)
        angle = (places.double() * speeds[:, None])[:, :, None]
        a, b = columns[first], columns[second]
        columns[first] = times * (a * angle.cos() - b * angle.sin())
        columns[second] = times * (a * angle.sin() + b * angle.cos())
    return torch.stack(columns, -1)
