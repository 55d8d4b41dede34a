"""What a sublayer writes into a residual stream, as it arrives there.

Norms may lie between what is written and the stream (`interp.frozen_norms`): with their scales held
they are linear, so that each part of what is written passes them by itself. Hooks may lie there
too: what they changed is no part of what a head read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.components.norm import Norm
from interp.errors import require
from interp.frozen_norms import Step
from interp.precision import wide

if TYPE_CHECKING:
    from interp.cache import ActivationCache
    from interp.transformer import HookedTransformer

Stream = Float[Tensor, "batch pos d_model"]
PerPosition = Float[Tensor, "batch pos"]


@dataclass(frozen=True, slots=True)
class Arrival:
    """The norms between a part and the sum, their scales held.

    Attributes:
        norms: In the order in which they are passed.
        scale: All of their scales together, `[batch, pos, 1]`; None: there are none.
    """

    norms: tuple[Norm, ...]
    scale: Float[Tensor, "batch pos 1"] | None

    @classmethod
    def of(
        cls, model: HookedTransformer, cache: ActivationCache, step: Step, added: bool
    ) -> Arrival:
        """The norms behind one sublayer, with their scales as recorded.

        Args:
            model: The model that was run.
            cache: Holding the scales of these norms.
            step: The sublayer.
            added: Whether the part has yet to pass the norm of what the sublayer adds.
        """
        names = [name for name in (step.added if added else None, step.summed) if name is not None]
        stack: Any = model.main_stack
        norms = tuple(stack.get_submodule(name) for name in names)
        scales = [wide(cache[f"{name}.hook_scale"]) for name in names]
        return cls(norms, math.prod(scales[1:], start=scales[0]) if scales else None)

    def part(self, written: Float[Tensor, "*axes d_model"]) -> Float[Tensor, "*axes d_model"]:
        """What is written, as it arrives but for the scales, which differ from place to place."""
        for norm in self.norms:
            w = None if norm.w is None else norm.w.detach().to(written)
            written = written - written.mean(-1, keepdim=True) if norm.centres else written
            written = written if w is None else written * w
        return written

    def whole(self, written: Stream) -> Stream:
        """What is written at each position, as it arrives."""
        found = self.part(written)
        return found if self.scale is None else found / self.scale

    def factor(self, like: Stream) -> PerPosition:
        """What `part` has yet to be multiplied by at each position."""
        ones = torch.ones_like(like[..., 0])
        return ones if self.scale is None else ones / self.scale[..., 0]


def norm_bias(model: HookedTransformer, name: str | None, like: Stream) -> Stream:
    """What the bias of a norm adds at each position; zeros where there is none."""
    norm: Any = None if name is None else model.main_stack.get_submodule(name)
    if norm is None or norm.b is None:
        return torch.zeros_like(like)
    return norm.b.detach().to(like).expand_as(like)


@dataclass(frozen=True, slots=True)
class ArrivingHeads:
    """What attention writes into a stream, as it arrives there.

    Attributes:
        pattern: Zero for heads that were edited, and divided by the scales of the norms on the way.
        written: What each head would write of each source, `[batch, key_pos, head, d_model]`,
            behind the norms but for their scales.
        by_source: Sum over heads and sources.
        bias: b_O, and the bias of a norm of what attention adds.
        edited: What heads that were edited write, and edits of them all together.
    """

    pattern: Float[Tensor, "batch head pos key_pos"]
    written: Float[Tensor, "batch key_pos head d_model"]
    by_source: Stream
    bias: Stream
    edited: Stream

    def proximity(self, y: Stream, room: int) -> Float[Tensor, "batch head pos key_pos"]:
        """max(‖y‖₁ − ‖y − z‖₁, 0) of each head's part z of each source.

        Args:
            y: The sum.
            room: How many numbers may be there at once.
        """
        near = torch.zeros_like(self.pattern)
        sizes = y.abs().sum(-1)
        _, n_heads, _, _ = self.pattern.shape
        room //= n_heads * y.shape[-1]
        for row, pattern in enumerate(self.pattern):
            for begin, end, first, last in _blocks(_seen(pattern), room):
                a = pattern[:, begin:end, first:last, None]
                sources = self.written[row, first:last].transpose(0, 1)[:, None]
                whole = y[row, None, begin:end, None]
                size = torch.linalg.vector_norm(
                    torch.addcmul(whole, a, sources, value=-1), ord=1, dim=-1
                )
                near[row, :, begin:end, first:last] = sizes[row, None, begin:end, None] - size
        return near.masked_fill_(self.pattern == 0, 0.0).clamp_(min=0)


def _seen(pattern: Float[Tensor, "head pos key_pos"]) -> list[tuple[int, int]]:
    """Of each destination, the first source that a head looks at and one behind the last."""
    found = []
    for row in (pattern != 0).any(0).cpu():
        places = row.nonzero().flatten().tolist()
        found.append((places[0], places[-1] + 1) if places else (0, 0))
    return found


def _blocks(seen: Sequence[tuple[int, int]], room: int) -> Iterator[tuple[int, int, int, int]]:
    """Destinations (begin, end) and sources (first, last) to be done at once, `room` pairs each.

    Where no destination looks, nothing comes from: masked sources cost nothing.
    """
    begin = 0
    while begin < len(seen):
        end, (first, last) = begin + 1, seen[begin]
        while end < len(seen):
            wider = min(first, seen[end][0]), max(last, seen[end][1])
            if (end + 1 - begin) * (wider[1] - wider[0]) > room:
                break
            end, (first, last) = end + 1, wider
        yield begin, end, first, last
        begin = end


def arriving_heads(
    model: HookedTransformer, cache: ActivationCache, step: Step, out: Stream
) -> ArrivingHeads:
    """What each head of one layer writes of each source.

    Args:
        model: The model that was run.
        cache: Holding `pattern`, `v` and `z` of the layer, and the scales of norms on the way.
        step: The layer's self-attention.
        out: Its record of hook_attn_out.

    Raises:
        InputError: unless the records are of all positions.
        KeyError: if the cache lacks a hook.
    """
    attn: Any = model.main_stack.blocks[step.layer].attn
    pattern, z = wide(cache["pattern", step.layer]), wide(cache["z", step.layer])
    v = wide(cache["v", step.layer])
    _, n_heads, n_pos, n_keys = pattern.shape
    require(
        n_pos == n_keys == out.shape[1] == v.shape[1],
        f"importance by proximity needs records of all positions. Received a pattern of {n_pos} "
        f"destinations and {n_keys} sources, and {out.shape[1]} positions",
    )
    v = v.repeat_interleave(n_heads // v.shape[2], 2)
    W_O, b_O = attn.W_O.detach().to(v), attn.b_O.detach().to(v)
    through = Arrival.of(model, cache, step, added=True)
    summed = Arrival.of(model, cache, step, added=False)
    bias = through.whole(b_O.expand_as(out))
    bias = bias + summed.whole(norm_bias(model, step.added, out))
    # What hooks changed: a head's z that is not its pattern's mean of values, or what all add.
    read = torch.einsum("bhqk,bkhe->bqhe", pattern, v)
    mixed = _differs(z, read, model)
    added = through.whole(torch.einsum("bqhe,hed->bqd", z, W_O))
    arrived = summed.whole(out)
    replaced = _differs(arrived[:, :, None], (added + bias)[:, :, None], model)
    kept = ~(mixed | replaced)  # [batch, pos, head]
    by_source = through.whole(torch.einsum("bqhe,hed->bqd", read * kept[..., None], W_O))
    # Where all together was replaced, b_O went with it.
    bias = bias.masked_fill(replaced, 0.0)
    edited = torch.where(kept.all(-1, keepdim=True), 0.0, arrived - by_source - bias)
    scaled = pattern * through.factor(out)[:, None, :, None] * kept.transpose(1, 2)[..., None]
    written = through.part(torch.einsum("bkhe,hed->bkhd", v, W_O))
    return ArrivingHeads(scaled, written, by_source, bias, edited)


def _differs(
    found: Float[Tensor, "batch pos some d"],
    expected: Float[Tensor, "batch pos some d"],
    model: HookedTransformer,
) -> Bool[Tensor, "batch pos some"]:
    """Where they differ by more than rounding can do."""
    most = torch.finfo(model.cfg.dtype).eps ** 0.5
    return (found - expected).abs().amax(-1) > most * expected.abs().amax().clamp(min=1e-30)
