"""What is timed on which machine, at which shapes and for how long."""

from __future__ import annotations

from dataclasses import dataclass, replace

from benchmarks import shapes
from benchmarks.measure import Effort
from benchmarks.shapes import Shape

COMPILED = ("forward", "record_all")
RUNS = ("forward", "record_all", "record_pattern", "edit")
STATISTICS = ("pattern_statistics:all", "pattern_statistics:simple")
ATTRIBUTION = ("attribution:last", "attribution:all")
ATTRIBUTION_PATCHING = ("attribution_patching",)
# By TransformerLens's names, without its `get_act_patch_`.
BY_LAYER = tuple(
    f"sweep:{name}"
    for name in (
        "attn_head_out_all_pos",
        "attn_head_q_all_pos",
        "attn_head_k_all_pos",
        "attn_head_v_all_pos",
        "attn_head_pattern_all_pos",
    )
)
BY_POSITION = tuple(f"sweep:{name}" for name in ("resid_pre", "resid_mid", "attn_out", "mlp_out"))
BY_HEAD_AND_POSITION = tuple(
    f"sweep:{name}"
    for name in (
        "attn_head_out_by_pos",
        "attn_head_q_by_pos",
        "attn_head_k_by_pos",
        "attn_head_v_by_pos",
        "attn_head_pattern_by_pos",
    )
)
EVERY_SWEEP = (*BY_POSITION, *BY_LAYER, *BY_HEAD_AND_POSITION)


@dataclass(frozen=True, slots=True)
class Entry:
    """Tasks whose jobs are all timed in turns, at one shape.

    Attributes:
        shape: Of models and input.
        tasks: What is done; `name` or `name:detail`.
        effort: For all tasks together, or with `apart` for each.
        dtypes: One after the other.
        compiles: The tasks in which compiled contenders take part.
        memory: Whether the peak of allocations is measured (on CUDA it always is).
        apart: Time each task by itself: where jobs of different tasks are never compared.
    """

    shape: Shape
    tasks: tuple[str, ...]
    effort: Effort
    dtypes: tuple[str, ...] = ("float32",)
    compiles: tuple[str, ...] = ()
    memory: bool = False
    apart: bool = False


CPU = (
    Entry(shapes.SMALL, RUNS, Effort(20, at_least=10), compiles=COMPILED, memory=True),
    Entry(shapes.SMALL_GPT2_VOCAB, RUNS, Effort(15, at_least=10), memory=True),
    Entry(shapes.SMALL_BATCH, RUNS, Effort(25, at_least=5), memory=True),
    Entry(shapes.GPT2, RUNS, Effort(75, at_least=3, warmups=1), memory=True),
    Entry(shapes.GPT2, ATTRIBUTION, Effort(25, at_least=2, warmups=1), memory=True),
    Entry(shapes.SMALL_PROMPT, EVERY_SWEEP, Effort(3, at_least=2, at_most=5), apart=True),
    Entry(
        shapes.GPT2_PROMPT,
        ("sweep:resid_pre", "sweep:attn_head_out_all_pos"),
        Effort(30, at_least=2, at_most=5),
        apart=True,
    ),
    Entry(shapes.SMALL_PROMPT, ATTRIBUTION_PATCHING, Effort(5)),
    Entry(shapes.GPT2, ATTRIBUTION_PATCHING, Effort(40, at_least=3, warmups=1), memory=True),
    Entry(shapes.GPT2_PROMPT, ("generation",), Effort(20)),
    Entry(shapes.HEADS_2K, STATISTICS, Effort(15), memory=True),
    Entry(shapes.HEADS_8K, STATISTICS, Effort(25, at_least=2), memory=True),
)

_BOTH = ("float32", "bfloat16")
_HALF = ("bfloat16",)
# Warm-ups: a CUDA graph is recorded in a call after the one that compiles.
GPU = (
    Entry(shapes.SMALL, RUNS, Effort(8, warmups=4), compiles=COMPILED),
    Entry(shapes.GPT2, RUNS, Effort(12, warmups=4), dtypes=_BOTH, compiles=COMPILED),
    Entry(shapes.GPT2_LONG, RUNS, Effort(20)),
    Entry(shapes.GPT2_LONG, RUNS, Effort(20, warmups=4), dtypes=_HALF, compiles=COMPILED),
    Entry(shapes.GPT2_XL, RUNS, Effort(15), dtypes=_HALF),
    Entry(shapes.GPT2, ATTRIBUTION, Effort(5), dtypes=_BOTH),
    Entry(shapes.SMALL_PROMPT, ATTRIBUTION_PATCHING, Effort(3)),
    Entry(shapes.GPT2, ATTRIBUTION_PATCHING, Effort(5), dtypes=_BOTH),
    Entry(
        shapes.GPT2_PROMPT,
        ("sweep:resid_pre", "sweep:attn_head_out_all_pos"),
        Effort(25, at_least=2, at_most=5),
        dtypes=_BOTH,
        apart=True,
    ),
    Entry(shapes.SMALL_PROMPT, EVERY_SWEEP, Effort(3, at_least=2, at_most=5), apart=True),
    Entry(shapes.GPT2_PROMPT, ("generation",), Effort(8)),
    Entry(shapes.HEADS_2K, STATISTICS, Effort(3), dtypes=_BOTH),
    Entry(shapes.HEADS_8K, STATISTICS, Effort(3), dtypes=_BOTH),
    Entry(shapes.HEADS_32K, STATISTICS, Effort(5), dtypes=_HALF),
)


def quick(suite: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """The same tasks at small shapes, a call or two each: whether all of it still works."""
    found: list[Entry] = []
    for entry in suite:
        shape = entry.shape
        if shape.n_layers == 1:
            shape = shapes.HEADS_512
        elif shape.d_model > shapes.SMALL.d_model:
            shape = shapes.SMALL_PROMPT
        if any(set(entry.tasks) <= set(f.tasks) for f in found):
            continue
        effort = Effort(0.5, at_least=1, at_most=5, warmups=entry.effort.warmups)
        found.append(replace(entry, shape=shape, effort=effort))
    return tuple(found)
