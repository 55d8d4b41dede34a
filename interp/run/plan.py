"""Which hooks a run wants → what each block has to compute.

A plan is a pure function of the names that are watched, so it is made once for a set of names and
kept. Components ask the plan, never the hook points, which kernel to use.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

NORM_HOOKS = ("hook_scale", "hook_normalized")


@dataclass(frozen=True, slots=True)
class AttentionPlan:
    """What one attention layer computes beyond its output.

    Attributes:
        explicit_pattern: Scores and pattern are spelled out; otherwise attention is fused.
        per_head_result: Each head's output is kept apart before they are summed.
        separate_qkv: Queries, keys and values are tensors of their own, not parts of one: whoever
            keeps some of them would keep all.
        explicit_norms: Which of `q_norm` and `k_norm` are spelled out.
    """

    explicit_pattern: bool = False
    per_head_result: bool = False
    separate_qkv: bool = False
    explicit_norms: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class BlockPlan:
    """What one block computes beyond its output.

    Attributes:
        attn, cross_attn: What its attention layers compute.
        copies_for_heads: Every head reads its own copy of `resid_pre`, because someone may change
            `attn_in` or gradients flow to it.
        copies_for_qkv: Queries, keys and values read copies of their own, likewise.
        inputs_watched: Someone sees what each head reads, if only to record it.
        explicit_norms: Norms (`ln1`, `ln2_post`, `mlp.ln`, …) whose scale and result are spelled
            out.
        every_expert: Every expert of a mixture computes for every token.
    """

    attn: AttentionPlan = field(default_factory=AttentionPlan)
    cross_attn: AttentionPlan = field(default_factory=AttentionPlan)
    copies_for_heads: bool = False
    copies_for_qkv: bool = False
    inputs_watched: bool = False
    explicit_norms: frozenset[str] = frozenset()
    every_expert: bool = False


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What a whole run of one stack computes.

    Attributes:
        blocks: One plan per block.
        blocks_wanted: How many blocks have to run for every watched hook to fire.
        anything_wanted: Whether anything at all of this stack is watched.
        final_norm_wanted: Whether something after the last block is watched.
        head_wanted: Whether the head before the unembedding, or that itself, is.
        unembedding_wanted: Whether the unembedding is.
        explicit_norms: Norms outside the blocks that are spelled out: `ln_embed`, `ln_final`,
            `mlm_head.ln`.
    """

    blocks: tuple[BlockPlan, ...]
    blocks_wanted: int
    anything_wanted: bool
    final_norm_wanted: bool
    head_wanted: bool
    unembedding_wanted: bool
    explicit_norms: frozenset[str]


@lru_cache(maxsize=256)
def plan_run(
    watched: frozenset[str],
    intervening: frozenset[str],
    n_layers: int,
    prefix: str = "",
    fused: bool = True,
    every_expert: bool = False,
) -> RunPlan:
    """The plan for these hooks.

    Args:
        watched: Full names of the hook points with anything attached.
        intervening: Those of them where more than a forward recorder is attached.
        n_layers: Number of blocks.
        prefix: Of the stack's names: empty, `encoder.` or `decoder.`.
        fused: Whether attention may be fused at all.
        every_expert: Whether every expert of a mixture computes whatever is watched.
    """
    by_block: list[set[str]] = [set() for _ in range(n_layers)]
    intervening_by_block: list[set[str]] = [set() for _ in range(n_layers)]
    outside: set[str] = set()
    head = unembedding = False
    start = f"{prefix}blocks."
    for name in watched:
        if name.startswith(start):
            layer, local = name[len(start) :].split(".", 1)
            by_block[int(layer)].add(local)
            if name in intervening:
                intervening_by_block[int(layer)].add(local)
        elif name.startswith(("unembed.", "mlm_head.", "pooler.")):
            if prefix != "encoder.":
                head = True
                unembedding |= name.startswith("unembed.")
                outside.add(name)
        elif name.startswith(prefix):
            outside.add(name.removeprefix(prefix))
    explicit = _explicit_norms(outside)
    final_norm = head or "ln_final" in explicit
    blocks_wanted = max((i + 1 for i, names in enumerate(by_block) if names), default=0)
    return RunPlan(
        blocks=tuple(
            plan_block(names, edited, fused, every_expert)
            for names, edited in zip(by_block, intervening_by_block, strict=True)
        ),
        blocks_wanted=n_layers if final_norm else blocks_wanted,
        anything_wanted=bool(blocks_wanted or outside),
        final_norm_wanted=final_norm,
        head_wanted=head,
        unembedding_wanted=unembedding,
        explicit_norms=explicit,
    )


_QKV_INPUTS = frozenset({"hook_q_input", "hook_k_input", "hook_v_input"})
_INSIDE_EXPERTS = frozenset(
    f"mlp.{hook}" for hook in ("hook_pre", "hook_pre_linear", "hook_post", "hook_expert_out")
)


def plan_block(
    watched: set[str], intervening: set[str], fused: bool, every_expert: bool = False
) -> BlockPlan:
    """The plan of one block; names are those inside it, and the rest is as for `plan_run`."""
    return BlockPlan(
        attn=plan_attention(_inside("attn", watched), fused),
        cross_attn=plan_attention(_inside("cross_attn", watched), fused),
        copies_for_heads="hook_attn_in" in intervening,
        copies_for_qkv=not intervening.isdisjoint(_QKV_INPUTS),
        inputs_watched="hook_attn_in" in watched or not watched.isdisjoint(_QKV_INPUTS),
        explicit_norms=_explicit_norms(watched),
        every_expert=every_expert
        or not watched.isdisjoint(_INSIDE_EXPERTS)
        # A weight of zero has a gradient too: what its expert would have added.
        or "mlp.hook_expert_weights" in intervening,
    )


def plan_attention(watched: set[str], fused: bool) -> AttentionPlan:
    """The plan of one attention layer, whose watched hooks have these names inside it."""
    return AttentionPlan(
        explicit_pattern=not fused or not watched.isdisjoint({"hook_attn_scores", "hook_pattern"}),
        per_head_result="hook_result" in watched,
        separate_qkv=not watched.isdisjoint({"hook_q", "hook_k", "hook_v"}),
        explicit_norms=_explicit_norms(watched),
    )


def _inside(part: str, names: set[str]) -> set[str]:
    return {n.removeprefix(f"{part}.") for n in names if n.startswith(f"{part}.")}


def _explicit_norms(watched: set[str]) -> frozenset[str]:
    return frozenset(n.rpartition(".")[0] for n in watched if n.endswith(NORM_HOOKS))
