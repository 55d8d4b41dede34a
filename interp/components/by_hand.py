"""Parts of a model that are called by hand, not by a run: `model.blocks[0].mlp(x)`.

Such a call finds out by itself what a run would have planned, from the hooks on the part. It is no
part of a run that may be under way, as where a hook function makes it: that does not record it. Of
the unembedding, heads and poolers it does: their calls look alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from interp.errors import InputError
from interp.hooks import HookPoint
from interp.run.plan import AttentionPlan, BlockPlan, plan_attention, plan_block


def _hook_points(part: nn.Module) -> dict[str, HookPoint]:
    return {name: m for name, m in part.named_modules() if isinstance(m, HookPoint)}


def _watched(part: nn.Module) -> tuple[set[str], set[str]]:
    """Names inside a part with anything attached, and those where more than a recorder is."""
    points = {n: p for n, p in _hook_points(part).items() if p.is_watched}
    return set(points), {n for n, p in points.items() if p.intervenes}


def block_plan(block: nn.Module, fused: bool) -> BlockPlan:
    """What a block computes beyond its output, given the hooks that are on it now."""
    return plan_block(*_watched(block), fused)


def attention_plan(attn: nn.Module, fused: bool) -> AttentionPlan:
    """What attention computes beyond its output, given the hooks that are on it now."""
    return plan_attention(_watched(attn)[0], fused)


def mlp_plan(mlp: nn.Module) -> BlockPlan:
    """What an MLP computes beyond its output, given the hooks that are on it now."""
    watched, intervening = ({f"mlp.{name}" for name in names} for names in _watched(mlp))
    return plan_block(watched, intervening, fused=True)


@contextmanager
def apart(part: nn.Module) -> Iterator[None]:
    """Let what this part computes be recorded by no run that is under way."""
    points = _hook_points(part).values()
    watchers = next((p.watchers for p in points if p.watchers is not None), None)
    if watchers is None or not watchers.run_depth:
        yield
        return
    watchers.run_depth += 1
    try:
        yield
    finally:
        watchers.run_depth -= 1


def check_tokens(part: str, tokens: object, n: int) -> None:
    """Raise `InputError` unless these are whole numbers from 0 to below `n`."""
    if not isinstance(tokens, Tensor) or tokens.dtype not in (torch.int64, torch.int32):
        found = tokens.dtype if isinstance(tokens, Tensor) else type(tokens).__name__
        raise InputError(f"{part} reads a tensor of int64 or int32. Received {found}.")
    if tokens.numel() and tokens.device.type == "cpu":
        low, high = tokens.aminmax()
        if low < 0 or high >= n:
            raise InputError(f"{part} reads numbers in 0 … {n - 1}. Received {low} … {high}.")


def check_width(part: str, x: object, d: int) -> None:
    """Raise `InputError` unless `x` is floating point and its last axis has this length."""
    if isinstance(x, Tensor) and x.is_floating_point() and x.ndim and x.shape[-1] == d:
        return
    raise InputError(
        f"{part} must be a floating-point tensor whose last axis has length {d}. "
        f"Received {_shape(x)}."
    )


def check_stream(part: str, x: object, d_model: int, by_head: bool = False) -> None:
    """Raise `InputError` unless `x` is what a part reads: floating point, `[batch, pos, d_model]`.

    `by_head`: it may have a head axis before the last.
    """
    if (
        isinstance(x, Tensor)
        and x.is_floating_point()
        and x.ndim in ((3, 4) if by_head else (3,))
        and x.shape[-1] == d_model
    ):
        return
    head = " (or [batch, pos, head, d_model])" if by_head else ""
    raise InputError(
        f"{part} reads a floating-point tensor [batch, pos, d_model = {d_model}]{head}. "
        f"Received {_shape(x)}."
    )


def _shape(x: object) -> str:
    return f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
