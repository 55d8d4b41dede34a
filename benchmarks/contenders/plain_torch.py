"""Pattern statistics in plain PyTorch: of a pattern written down, and with fused attention."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.contenders.base import Contenders, Job, Reading

if TYPE_CHECKING:
    from benchmarks.given import Given

MATERIALISED = "pattern materialised"
TWO_SDPA = "a second pass of fused attention"
FUSED = "fused attention alone"
SIMPLE = ("lse", "entropy", "first_mass", "previous_mass", "self_mass")
"""What a second pass of fused attention gives; sets of tokens and the largest share it does not."""


class PlainTorch(Contenders):
    """Of one layer's queries and keys, drawn at random."""

    package = "torch"

    @cached_property
    def heads(self) -> tuple[Tensor, Tensor, Tensor]:
        """q, k and tokens."""
        return random_heads(self.given)

    def pattern_statistics(self, which: str) -> dict[str, Job]:
        """All statistics, or the simple ones beside fused attention alone."""
        q, k, tokens = self.heads
        scale = q.shape[-1] ** -0.5
        if which == "all":
            return {MATERIALISED: Job(lambda: materialised(q, k, tokens, scale), _as_it_is)}
        note = "what a model runs anyway; no statistics"
        return {
            TWO_SDPA: Job(lambda: two_sdpa(q, k, scale), _as_it_is),
            FUSED: Job(lambda: _attention_alone(q, k, scale), lambda _: {}, note=note),
        }


def _as_it_is(found: Reading) -> Reading:
    return found


def random_heads(given: Given) -> tuple[Tensor, Tensor, Tensor]:
    """q and k `[batch, pos, head, d_head]`, and tokens as frequent as in a text; never others."""
    shape = given.shape
    generator = torch.Generator().manual_seed(2)
    size = (2, shape.batch, shape.pos, shape.n_heads, shape.d_head)
    q, k = torch.randn(size, generator=generator).to(given.device, given.dtype)
    frequency = 1.0 / (torch.arange(shape.d_vocab) + 2.7)  # Zipf's law, as Mandelbrot has it
    n_tokens = shape.batch * shape.pos
    tokens = torch.multinomial(frequency, n_tokens, replacement=True, generator=generator)
    return q, k, tokens.view(shape.batch, shape.pos).to(given.device)


def materialised(q: Tensor, k: Tensor, tokens: Tensor, scale: float) -> Reading:
    """All statistics of a causal pattern `[batch, head, pos, pos]` that is written down."""
    q, k = q.transpose(1, 2), k.transpose(1, 2)
    places = torch.arange(q.shape[2], device=q.device)
    scores = (q @ k.mT).float().mul_(scale)
    scores.masked_fill_(places[:, None] < places, -torch.inf)
    lse = scores.logsumexp(-1)
    pattern = scores.sub_(lse[..., None]).exp_()
    same = (tokens[:, :, None] == tokens[:, None, :]).tril(-1)
    after = torch.zeros_like(same)
    after[:, :, 1:] = same[:, :, :-1]
    top = pattern.max(-1)
    return {
        "lse": lse,
        "entropy": torch.special.entr(pattern).sum(-1),
        "first_mass": pattern[..., 0].clone(),
        "previous_mass": F.pad(pattern.diagonal(-1, -2, -1), (1, 0)),
        "self_mass": pattern.diagonal(0, -2, -1).clone(),
        "same_token_mass": torch.einsum("bhij,bij->bhi", pattern, same.float()),
        "induction_mass": torch.einsum("bhij,bij->bhi", pattern, after.float()),
        "mean_distance": places - pattern @ places.float(),
        "top_share": top.values,
    }


def two_sdpa(q: Tensor, k: Tensor, scale: float) -> Reading:
    """The simple statistics from fused attention run once more, with the keys as values.

    Σ p s = scale · q · Σ p k is what the entropy lacks, and p on one source is exp(s - lse).
    """
    q, k = q.transpose(1, 2), k.transpose(1, 2)
    read, lse = _with_lse(q, k, k, scale)

    def share(sources: Tensor) -> Tensor:
        return torch.exp(scale * torch.linalg.vecdot(q.float(), sources.float()) - lse)

    previous = share(torch.cat([k[:, :, :1], k[:, :, :-1]], 2))
    previous[..., 0] = 0.0
    return {
        "lse": lse,
        "entropy": lse - scale * torch.linalg.vecdot(q.float(), read.float()),
        "first_mass": share(k[:, :, :1].expand_as(q)),
        "previous_mass": previous,
        "self_mass": share(k),
    }


def _with_lse(q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Fused causal attention and its log-sum-exp; `[batch, head, pos, d_head]` throughout."""
    aten: Any = torch.ops.aten
    if q.device.type == "cpu":
        found = aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, True, scale=scale)
    elif q.dtype == torch.float32:
        found = aten._scaled_dot_product_efficient_attention(
            q, k, v, None, True, 0.0, True, scale=scale
        )
    else:
        found = aten._scaled_dot_product_flash_attention(q, k, v, 0.0, True, scale=scale)
    return found[0], found[1][..., : q.shape[2]]


def _attention_alone(q: Tensor, k: Tensor, scale: float) -> Tensor:
    q, k = q.transpose(1, 2), k.transpose(1, 2)
    return F.scaled_dot_product_attention(q, k, k, is_causal=True, scale=scale)
