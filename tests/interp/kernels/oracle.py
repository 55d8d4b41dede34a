"""The statistics of a pattern that is written down, in fp64 and by loops over its definition."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


def pattern_of(
    q: Tensor,
    k: Tensor,
    *,
    scale: float,
    causal: bool = True,
    real_keys: Tensor | None = None,
    window: int | None = None,
    soft_cap: float = 0.0,
    slopes: Tensor | None = None,
    bias: Tensor | None = None,
    sinks: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The pattern `[batch, head, pos, key_pos]` and its log-normaliser `[batch, head, pos]`."""
    q, k = q.double(), k.double()
    batch, pos, n_heads, _ = q.shape
    key_pos, shared = k.shape[1], n_heads // k.shape[2]
    real = torch.ones(batch, key_pos, dtype=torch.bool) if real_keys is None else real_keys
    is_real = real.tolist()
    place = [[max(int(row[: j + 1].sum()) - 1, 0) for j in range(key_pos)] for row in real]
    pattern = torch.zeros(batch, n_heads, pos, key_pos, dtype=torch.float64)
    lse = torch.full((batch, n_heads, pos), -math.inf, dtype=torch.float64)
    dots = torch.stack([torch.einsum("bqe,bke->bqk", q[:, :, h], k[:, :, h // shared])
                        for h in range(n_heads)], 1).tolist()  # fmt: skip
    for b in range(batch):
        for query in range(pos):
            i = query + key_pos - pos
            seen = [
                j
                for j in range(key_pos)
                if is_real[b][j]
                and (j <= i or not causal)
                and (window is None or abs(place[b][i] - place[b][j]) < window)
            ]
            if not seen:
                continue
            for h in range(n_heads):
                scores = []
                for j in seen:
                    score = scale * dots[b][h][query][j]
                    if soft_cap:
                        score = soft_cap * math.tanh(score / soft_cap)
                    if slopes is not None:
                        score -= float(slopes[h]) * abs(place[b][i] - place[b][j])
                    if bias is not None:
                        score += float(bias[b % bias.shape[0], h, query, j])
                    scores.append(score)
                terms = scores if sinks is None else [*scores, float(sinks[h])]
                top = max(terms)
                total = top + math.log(sum(math.exp(s - top) for s in terms))
                lse[b, h, query] = total
                for j, score in zip(seen, scores, strict=True):
                    pattern[b, h, query, j] = math.exp(score - total)
    return pattern, lse


def statistics_of(
    pattern: Tensor, tokens: Tensor | None = None, real_keys: Tensor | None = None
) -> dict[str, Tensor]:
    """Every statistic but `lse` of a pattern."""
    pattern = pattern.double()
    batch, n_heads, pos, key_pos = pattern.shape
    real = torch.ones(batch, key_pos, dtype=torch.bool) if real_keys is None else real_keys
    found: dict[str, Tensor] = {
        name: torch.zeros(batch, n_heads, pos, dtype=torch.float64)
        for name in ("first_mass", "previous_mass", "self_mass", "same_token_mass",
                     "induction_mass", "mean_distance")
    }  # fmt: skip
    for b in range(batch):
        there = [j for j in range(key_pos) if real[b, j]]
        place = [max(sum(1 for t in there if t <= j) - 1, 0) for j in range(key_pos)]
        for query in range(pos):
            i = query + key_pos - pos
            p = pattern[b, :, query]
            before = [j for j in there if j < i]
            if there:
                found["first_mass"][b, :, query] = p[:, there[0]]
            if before:
                found["previous_mass"][b, :, query] = p[:, before[-1]]
            found["self_mass"][b, :, query] = p[:, i]
            mass = p.sum(-1)
            distances = place[i] - torch.tensor(place, dtype=torch.float64)
            mean = p @ distances / torch.where(mass > 0, mass, 1)
            found["mean_distance"][b, :, query] = mean
            if tokens is None:
                continue
            held = tokens[b].tolist()
            same = [j for j in before if held[j] == held[i]]
            after = [j for n, j in enumerate(there)
                     if n and j <= i and held[there[n - 1]] == held[i]]  # fmt: skip
            found["same_token_mass"][b, :, query] = p[:, same].sum(-1)
            found["induction_mass"][b, :, query] = p[:, after].sum(-1)
    found["entropy"] = -torch.special.xlogy(pattern, pattern).sum(-1)
    found["top_share"] = pattern.amax(-1)
    if tokens is None:
        del found["same_token_mass"], found["induction_mass"]
    return found


def check(
    found: Any,
    pattern: Tensor,
    assert_close: Any,
    tokens: Tensor | None = None,
    real_keys: Tensor | None = None,
    lse: Tensor | None = None,
) -> None:
    """Compare statistics with those of a pattern that is written down."""
    expected = statistics_of(pattern, tokens, real_keys)
    if lse is not None:
        expected["lse"] = lse
    for name in found:
        if name == "top_source":
            check_top(found[name], pattern, found["entropy"].dtype)
        elif name in expected:
            assert_close(found[name], expected[name].to(found[name].dtype), name)
        else:
            assert name == "lse"


def check_top(top: Tensor, pattern: Tensor, dtype: torch.dtype) -> None:
    """The source named has the largest share, up to rounding; none is named where none is seen."""
    blind = pattern.sum(-1) == 0
    assert torch.equal(top == -1, blind)
    share = pattern.gather(-1, top.clamp(min=0)[..., None])[..., 0]
    slack = 1e-12 if dtype == torch.float64 else 1e-5
    assert bool((share >= pattern.amax(-1) - slack).all())
