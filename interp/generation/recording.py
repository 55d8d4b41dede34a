"""What is recorded step by step while generating, joined into what one run would record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Shaped
from torch import Tensor

from interp.generation.reader import Reader
from interp.run.recording import CacheRecorder, position_axis

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

Records = dict[str, Shaped[Tensor, "..."]]

# What score-like tensors hold for keys after the query: nothing is attended there.
_LATER_KEYS = {"hook_pattern": 0.0, "hook_attn_scores": -torch.inf}


def joins(reader: Reader, length: int) -> bool:
    """Whether the steps up to this length, put side by side, are one run over the whole.

    They are if each reads its new tokens only and leaves earlier ones as they were.
    """
    return reader.past is not None and reader.may_cache(length)


@contextmanager
def recording(
    model: HookedTransformer,
    names: Sequence[str],
    device: torch.device | str | None,
    in_run: bool = True,
) -> Iterator[Records]:
    """Record these hooks; `in_run`: in a call of the model, not of its encoder alone."""
    recorder = CacheRecorder(device)
    recorder.run_depth = model._watchers.run_depth + int(in_run)
    with model._recording(names, recorder):
        yield recorder.cache


def join(steps: Sequence[Records], reader: Reader) -> Records:
    """Records of successive steps along the position axis, as one run over the whole has them.

    Patterns and scores get the keys after each query, at 0 and -inf; `hook_pos_bias` gets there
    what the positions would add. Names for the same tensor share its memory still.
    """
    made: dict[tuple[object, ...], Tensor] = {}
    return {
        name: _join_one(name, [step[name] for step in steps if name in step], reader, made)
        for name in steps[0]
    }


def _join_one(
    name: str, parts: list[Tensor], reader: Reader, made: dict[tuple[object, ...], Tensor]
) -> Tensor:
    scope, _, last = name.rpartition(".")
    if last == "hook_pos_bias" and len(parts) > 1:
        return _pos_bias(parts, reader)
    axis = position_axis(name, parts[0])
    if len(parts) == 1 or axis is None:  # nothing new in later steps
        return parts[-1]
    if last in _LATER_KEYS and not scope.endswith("cross_attn"):
        n_keys, value = parts[-1].shape[-1], _LATER_KEYS[last]
        return torch.cat([F.pad(p, (0, n_keys - p.shape[-1]), value=value) for p in parts], axis)
    # An axis that only repeats one entry (heads that read the same) is joined once and repeated.
    once, shape = list(parts), list(parts[0].shape)
    shape[axis] = sum(part.shape[axis] for part in parts)
    for other in range(len(shape)):
        if other != axis and all(p.stride(other) == 0 and p.shape[other] > 1 for p in parts):
            once = [part.narrow(other, 0, 1) for part in once]
    place = (axis, *((p.data_ptr(), p.shape, p.stride()) for p in once))
    if place not in made:
        made[place] = torch.cat(once, axis)
    return made[place].expand(shape)


def _pos_bias(parts: list[Tensor], reader: Reader) -> Tensor:
    """The biases seen, on top of those that positions add wherever nobody looked."""
    last = parts[-1]
    if reader.real is None:
        positions = torch.arange(last.shape[-1], device=reader.tokens.device)[None]
    else:
        positions = (reader.real.cumsum(1) - 1).clamp(min=0)
    whole = reader.stack.pos_embed.score_bias(positions, positions, last.dtype).to(last.device)
    whole = whole.expand(last.shape[0], -1, -1, -1).clone()
    start = 0
    for part in parts:
        whole[:, :, start : start + part.shape[2], : part.shape[3]] = part
        start += part.shape[2]
    return whole
