"""What interp aims at, as ratios within one run, and what was found."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

from benchmarks.contenders import hugging_face, ours, plain_torch, transformer_lens

Quantity = Literal["time", "memory"]
Side = tuple[str, str]  # task and contender
RECORDED = "what it recorded, and the logits"


@dataclass(frozen=True, slots=True)
class Limit:
    """At most this ratio, on one device, at shapes and dtypes that fit the globs."""

    device: str
    ratio: float
    shape: str = "*"
    dtype: str = "*"


@dataclass(frozen=True, slots=True)
class Aim:
    """A ratio that should be small.

    Attributes:
        what: In words.
        ours: Task and contender above the line.
        beside: Task and contender below it; `RECORDED` as contender: the bytes of the recording.
        limits: How small.
        quantity: Of time, or of peak memory.
    """

    what: str
    ours: Side
    beside: Side
    limits: tuple[Limit, ...]
    quantity: Quantity = "time"


@dataclass(frozen=True, slots=True)
class Found:
    """An aim, and the ratio that one run gave.

    Attributes:
        aim: Which.
        limit: The one that holds there; None: no aim is set for this shape.
        ratio: What was measured.
        shape, dtype: Where.
    """

    aim: Aim
    limit: float | None
    ratio: float
    shape: str
    dtype: str

    @property
    def is_met(self) -> bool | None:
        """None: there is no limit."""
        return None if self.limit is None else self.ratio <= self.limit


_BARE = ("forward", ours.OURS)
_LENS = transformer_lens.BRIDGE

_ATTRIBUTION: tuple[tuple[Quantity, float, float], ...] = (
    ("time", 0.2, 0.05),
    ("memory", 0.2, 0.1),
)
_STATISTICS: tuple[tuple[Quantity, float], ...] = (("time", 0.4), ("memory", 0.05))

AIMS = (
    Aim(
        "forward, nothing watched, beside Hugging Face SDPA",
        ("forward", ours.OURS),
        ("forward", hugging_face.SDPA),
        (Limit("cpu", 0.9), Limit("cuda", 0.75)),
    ),
    Aim(
        "compiled forward beside compiled Hugging Face",
        ("forward", ours.COMPILED),
        ("forward", hugging_face.COMPILED),
        (Limit("cuda", 1.0),),
    ),
    Aim(
        "record all beside TransformerLens 4",
        ("record_all", ours.OURS),
        ("record_all", _LENS),
        (
            Limit("cpu", 0.45, "small"),
            Limit("cpu", 0.9, "small-8x128"),
            Limit("cpu", 0.9, "gpt2-8x128"),
            Limit("cuda", 0.6),
        ),
    ),
    Aim(
        "record all, compiled, beside TransformerLens 4",
        ("record_all", ours.COMPILED),
        ("record_all", _LENS),
        (Limit("cuda", 0.35),),
    ),
    Aim(
        "record all, compiled, beside Hugging Face's bare SDPA forward",
        ("record_all", ours.COMPILED),
        ("forward", hugging_face.SDPA),
        (Limit("cuda", 0.8),),
    ),
    Aim(
        "record one layer's pattern beside a bare forward",
        ("record_pattern", ours.OURS),
        _BARE,
        (Limit("cpu", 1.1), Limit("cuda", 1.1)),
    ),
    Aim(
        "one edit hook beside a bare forward",
        ("edit", ours.OURS),
        _BARE,
        (Limit("cpu", 1.05), Limit("cuda", 1.1)),
    ),
    Aim(
        "peak memory of a recording beside what it recorded and the logits",
        ("record_all", ours.OURS),
        ("record_all", RECORDED),
        (Limit("cpu", 1.1), Limit("cuda", 1.1)),
        "memory",
    ),
    *(
        Aim(
            f"head attribution ({where}) beside stack_head_results"
            + (", memory" if quantity == "memory" else ""),
            (f"attribution:{task}", ours.OURS),
            (f"attribution:{task}", _LENS),
            (Limit("cpu", on_cpu, "gpt2*"), Limit("cuda", on_cuda, "gpt2*")),
            quantity,
        )
        for task, where in (("last", "last position"), ("all", "all positions"))
        for quantity, on_cpu, on_cuda in _ATTRIBUTION
    ),
    Aim(
        "resid_pre sweep beside TransformerLens",
        ("sweep:resid_pre", ours.OURS),
        ("sweep:resid_pre", _LENS),
        (
            Limit("cpu", 0.13, "gpt2-1x32"),
            Limit("cuda", 1 / 150, "gpt2-1x32", "float32"),
            Limit("cuda", 1 / 800, "gpt2-1x32", "bfloat16"),
        ),
    ),
    Aim(
        "head sweep beside TransformerLens",
        ("sweep:attn_head_out_all_pos", ours.OURS),
        ("sweep:attn_head_out_all_pos", _LENS),
        (Limit("cpu", 0.2, "gpt2-1x32"), Limit("cuda", 1 / 100, "gpt2-1x32")),
    ),
    *(
        Aim(
            "pattern statistics beside materialising"
            + (", memory" if quantity == "memory" else ""),
            ("pattern_statistics:all", ours.OURS),
            ("pattern_statistics:all", plain_torch.MATERIALISED),
            (Limit("cpu", ratio, "heads-2k"), Limit("cuda", ratio, "heads-2k")),
            quantity,
        )
        for quantity, ratio in _STATISTICS
    ),
    Aim(
        "five simple statistics beside a second pass of fused attention",
        ("pattern_statistics:simple", ours.OURS),
        ("pattern_statistics:simple", plain_torch.TWO_SDPA),
        (Limit("cuda", 1.0),),
    ),
    Aim(
        "import interp beside import transformer_lens, both after torch",
        ("import", ours.OURS),
        ("import", "transformer_lens"),
        (Limit("cpu", 0.4), Limit("cuda", 0.4)),
    ),
)


def evaluate(rows: Sequence[Mapping[str, Any]], device: str) -> list[Found]:
    """Every aim at every shape and dtype where both sides were measured."""
    by_place: dict[tuple[str, str], dict[Side, Mapping[str, Any]]] = {}
    for row in rows:
        if not row["problem"]:
            place = by_place.setdefault((row["shape"], row["dtype"]), {})
            place[row["task"], row["contender"]] = row
    found = []
    for aim in AIMS:
        for (shape, dtype), measured in by_place.items():
            ratio = _ratio(aim, measured)
            if ratio is not None:
                limit = _limit(aim.limits, device, shape, dtype)
                found.append(Found(aim, limit, ratio, shape, dtype))
    return found


def _ratio(aim: Aim, measured: Mapping[Side, Mapping[str, Any]]) -> float | None:
    above = measured.get(aim.ours)
    if above is None:
        return None
    if aim.beside[1] == RECORDED:
        below = above["recorded_bytes"]
    else:
        row = measured.get(aim.beside)
        below = None if row is None else value(row, aim.quantity)
    top = value(above, aim.quantity)
    return None if top is None or not below else top / below


def value(row: Mapping[str, Any], quantity: Quantity) -> float | None:
    """A row's median milliseconds, or its peak bytes."""
    if quantity == "memory":
        peak: float | None = row["peak_bytes"]
        return peak
    return statistics.median(row["milliseconds"]) if row["milliseconds"] else None


def _limit(limits: Iterable[Limit], device: str, shape: str, dtype: str) -> float | None:
    return next((one.ratio for one in limits if fits(one, device, shape, dtype)), None)


def fits(limit: Limit, device: str, shape: str, dtype: str) -> bool:
    """Whether the limit holds there."""
    there = fnmatchcase(shape, limit.shape) and fnmatchcase(dtype, limit.dtype)
    return limit.device == device and there
