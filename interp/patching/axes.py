"""Which axes the tensor at a hook has, and which of its positions a run covers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from interp.run.recording import position_axis

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

_OF_PAIRS = ("hook_attn_scores", "hook_pattern", "hook_pos_bias")
_OF_QUERIES = ("hook_q", "hook_rot_q", "hook_z", "hook_result", "hook_q_input", "hook_attn_in")
_OF_KEYS = ("hook_k", "hook_rot_k", "hook_v", "hook_k_input", "hook_v_input")


@dataclass(frozen=True)
class HookAxes:
    """The axes of the tensor at a hook, behind the batch.

    Attributes:
        names: Of the leading axes: `pos`, `head`, `src_pos`. What follows them is never split.
        n_heads: Length of `head`; 0 where there is none.
        of_source: Whether `pos` counts another sequence's positions (an encoder's), all of which
            every position of the main stack may read.
        reads_source: Whether `src_pos` does.
    """

    names: tuple[str, ...]
    n_heads: int = 0
    of_source: bool = False
    reads_source: bool = False


def axes_of(model: HookedTransformer, hook: str) -> HookAxes:
    """The axes at a hook of this model."""
    cfg = model.cfg
    last = hook.rsplit(".", 1)[-1]
    in_encoder, crosses = hook.startswith("encoder."), ".cross_attn." in hook
    if last in _OF_PAIRS:
        return HookAxes(("head", "pos", "src_pos"), cfg.n_heads, in_encoder, in_encoder or crosses)
    if hook.startswith(("pooler.", "unembed.")) and cfg.classifies:
        return HookAxes(())
    probe = torch.empty(1, 1, 1)
    of_source = in_encoder or position_axis(hook, probe) is None
    n_heads = 0
    if last in _OF_QUERIES:
        n_heads = cfg.n_heads
    elif last in _OF_KEYS:
        n_heads = cfg.n_heads if cfg.ungroup_grouped_query_attention else cfg.n_kv_heads
    elif ("q_norm." in hook or "k_norm." in hook) and cfg.qk_norm != "full":
        grouped = "k_norm." in hook and not cfg.ungroup_grouped_query_attention
        n_heads = cfg.n_kv_heads if grouped else cfg.n_heads
    return HookAxes(("pos", "head") if n_heads else ("pos",), n_heads, of_source)


@dataclass(frozen=True)
class Window:
    """Which positions a tensor covers: those from `start` to before `end`, or of them `kept`.

    Attributes:
        start, end: The range.
        kept: Positions in rising order; None: the whole range.
    """

    start: int
    end: int
    kept: tuple[int, ...] | None = None

    @property
    def length(self) -> int:
        """How many positions it covers."""
        return self.end - self.start if self.kept is None else len(self.kept)

    def cut(self, x: Shaped[Tensor, "..."], axis: int) -> Shaped[Tensor, "..."]:
        """These positions of a tensor that covers all of them."""
        if self.kept is None:
            return x.narrow(axis, self.start, self.end - self.start)
        return x.index_select(axis, as_index(self.kept, x.device))

    def places(self, positions: np.ndarray) -> np.ndarray:
        """Where these positions, all of them covered, stand along a tensor that was cut."""
        if self.kept is None:
            return positions - self.start
        return np.searchsorted(np.array(self.kept), positions)

    def keeping(self, positions: list[int]) -> Window:
        """Of the range these positions alone, as far as it covers them."""
        kept = tuple(p for p in positions if self.start <= p < self.end)
        whole = len(kept) == self.end - self.start
        return self if whole else Window(self.start, self.end, kept)


def window_for(axes: HookAxes, window: Window, length: int) -> Window:
    """The window along a hook's `pos` axis, `length` positions long where it is a source's."""
    return Window(0, length) if axes.of_source else window


def rows(x: Shaped[Tensor, "batch *axes"], n: int) -> Shaped[Tensor, "row *axes"]:
    """`[batch, …]` n times over: `[world * batch, …]`, a view where there is one prompt."""
    return x.expand(n, *x.shape).flatten(0, 1) if n != 1 else x


def as_index(positions: np.ndarray | Sequence[int], device: torch.device) -> Int[Tensor, "*axes"]:
    """Whole numbers as an index on a device, which nobody waits for."""
    index = torch.as_tensor(positions, dtype=torch.long)
    if torch.device(device).type == "cuda":
        return index.pin_memory().to(device, non_blocking=True)
    return index.to(device)
