"""Which hooks a run wants → what each block has to compute.

A plan is a pure function of the names that are watched, so it is made once for a set of names and
kept. Components ask the plan, never the hook points, which kernel to use.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

NORM_HOOKS = ("hook_scale", "hook_normalized")


@dataclass(frozen=True, slots=True)
class BlockPlan:
    """What one block computes beyond its output.

    Attributes:
        explicit_pattern: Scores and pattern are spelled out; otherwise attention is fused.
        per_head_result: Each head's output is kept apart before they are summed.
        copies_for_heads: Every head reads its own copy of `resid_pre`, because someone may change
            `attn_in` or gradients flow to it.
        copies_for_qkv: Queries, keys and values read copies of their own, likewise.
        inputs_watched: Someone sees what each head reads, if only to record it.
        explicit_norm1, explicit_norm2, explicit_mlp_norm: The scale and result of ln1, ln2, or the
            MLP's own norm are spelled out.
    """

    explicit_pattern: bool = False
    per_head_result: bool = False
    copies_for_heads: bool = False
    copies_for_qkv: bool = False
    inputs_watched: bool = False
    explicit_norm1: bool = False
    explicit_norm2: bool = False
    explicit_mlp_norm: bool = False


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What a whole run computes.

    Attributes:
        blocks: One plan per block.
        blocks_wanted: How many blocks have to run for every watched hook to fire.
        final_norm_wanted: Whether something after the last block is watched.
        unembedding_wanted: Whether the unembedding is.
        explicit_final_norm: The final norm's scale and result are spelled out.
    """

    blocks: tuple[BlockPlan, ...]
    blocks_wanted: int
    final_norm_wanted: bool
    unembedding_wanted: bool
    explicit_final_norm: bool


@lru_cache(maxsize=256)
def plan_run(
    watched: frozenset[str],
    intervening: frozenset[str],
    n_layers: int,
    prefix: str = "",
    fused: bool = True,
) -> RunPlan:
    """The plan for these hooks.

    Args:
        watched: Full names of the hook points with anything attached.
        intervening: Those of them where more than a forward recorder is attached.
        n_layers: Number of blocks.
        prefix: Of the stack's names: empty, `encoder.` or `decoder.`.
        fused: Whether attention may be fused at all.
    """
    by_block: list[set[str]] = [set() for _ in range(n_layers)]
    intervening_by_block: list[set[str]] = [set() for _ in range(n_layers)]
    final_norm = unembedding = False
    start = f"{prefix}blocks."
    for name in watched:
        if name.startswith(start):
            layer, local = name[len(start) :].split(".", 1)
            by_block[int(layer)].add(local)
            if name in intervening:
                intervening_by_block[int(layer)].add(local)
        elif name.startswith(f"{prefix}ln_final."):
            final_norm = True
        elif name.startswith(f"{prefix}unembed."):
            unembedding = True
    blocks_wanted = max((i + 1 for i, names in enumerate(by_block) if names), default=0)
    return RunPlan(
        blocks=tuple(
            _plan_block(names, edited, fused)
            for names, edited in zip(by_block, intervening_by_block, strict=True)
        ),
        blocks_wanted=n_layers if final_norm or unembedding else blocks_wanted,
        final_norm_wanted=final_norm or unembedding,
        unembedding_wanted=unembedding,
        explicit_final_norm=final_norm,
    )


_QKV_INPUTS = frozenset({"hook_q_input", "hook_k_input", "hook_v_input"})


def _plan_block(watched: set[str], intervening: set[str], fused: bool) -> BlockPlan:
    def norm_watched(norm: str) -> bool:
        return any(f"{norm}.{hook}" in watched for hook in NORM_HOOKS)

    return BlockPlan(
        explicit_pattern=not fused
        or not watched.isdisjoint({"attn.hook_attn_scores", "attn.hook_pattern"}),
        per_head_result="attn.hook_result" in watched,
        copies_for_heads="hook_attn_in" in intervening,
        copies_for_qkv=not intervening.isdisjoint(_QKV_INPUTS),
        inputs_watched="hook_attn_in" in watched or not watched.isdisjoint(_QKV_INPUTS),
        explicit_norm1=norm_watched("ln1"),
        explicit_norm2=norm_watched("ln2"),
        explicit_mlp_norm=norm_watched("mlp.ln"),
    )
