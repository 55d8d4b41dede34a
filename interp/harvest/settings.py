"""What is harvested: which hooks and rows, as what, in which batches and shards."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from interp.devices.parsing import DTYPES, dtype_name
from interp.errors import InputError, require, require_whole
from interp.harvest.statistics import check_names

SHARD_TOKENS = 65_536
BATCH_SIZE = 32

PositionsInput = str | slice | Sequence[int]
"""`all`, `last`, a range (`"4:-1"` or a slice), or a list of positions.

Positions count the tokens of a sequence without its padding, from 0, or from the end where they
are negative. A shorter sequence has fewer of them.
"""


@dataclass(frozen=True, kw_only=True)
class HarvestSettings:
    """What decides, besides model and corpus, which rows a dataset has and what they hold.

    A row is one token of one sequence.

    Attributes:
        hooks: Hook names or globs; in a manifest: full names, in the order of the module tree.
        dtype: What floating-point hooks are stored as: `float16`, `bfloat16`, `float32` or
            `float64`. None: as the model computes them. Whole numbers stay as they are.
        positions: See `PositionsInput`. Padding is never a row.
        sample: A fraction (float) of those rows, each kept or not by itself; or at most so many
            (int) of every sequence. None: all of them.
        seed: Of the sample. Which rows it keeps of a sequence depends on the seed and the
            sequence's number alone.
        skip_special: Leave out tokens that belong to no document: BOS and others that were put
            around and between documents.
        batch_size: Sequences of one run of the model. Part of the settings because the last bits
            of what a model computes depend on it.
        shard_tokens: A shard has as many sequences as hold at most so many tokens, at least one.
        statistics: What is summed up of every hook on the way, by the names of
            `interp.harvest.statistics`.

    Raises:
        InputError: for a value that breaks one of these rules.
    """

    hooks: tuple[str, ...]
    dtype: str | None = None
    positions: str | tuple[int, ...] = "all"
    sample: float | int | None = None
    seed: int = 0
    skip_special: bool = False
    batch_size: int = BATCH_SIZE
    shard_tokens: int = SHARD_TOKENS
    statistics: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require(
            isinstance(self.hooks, tuple)
            and len(self.hooks) > 0
            and all(isinstance(hook, str) for hook in self.hooks),
            f"hooks must be at least one hook name or glob. Received {self.hooks!r}",
        )
        require(
            self.dtype is None or self.dtype in tuple(DTYPES),
            f"dtype must be one of {', '.join(DTYPES)}, or None. Received {self.dtype!r}",
        )
        require(
            self.positions == checked_positions(self.positions),
            f"positions must be in their shortest form. Received {self.positions!r}",
        )
        _check_sample(self.sample)
        require_whole("seed", self.seed, 0)
        require(self.seed < 2**64, f"seed must be below 2**64. Received {self.seed}")
        require(
            self.sample is not None or self.seed == 0,
            f"seed is of a sample, and there is none. Received seed={self.seed} with sample=None",
        )
        require(
            isinstance(self.skip_special, bool),
            f"skip_special must be a bool. Received {self.skip_special!r}",
        )
        require_whole("batch_size", self.batch_size, 1)
        require_whole("shard_tokens", self.shard_tokens, 1)
        require(
            isinstance(self.statistics, tuple)
            and all(isinstance(name, str) for name in self.statistics)
            and len(set(self.statistics)) == len(self.statistics),
            f"statistics must be different names. Received {self.statistics!r:.200}",
        )
        check_names(self.statistics)

    @classmethod
    def make(
        cls,
        hooks: str | Iterable[str],
        dtype: torch.dtype | str | None = None,
        positions: PositionsInput = "all",
        statistics: str | Iterable[str] = (),
        **others: Any,
    ) -> HarvestSettings:
        """Settings from what is convenient to write: single names, slices, torch's dtypes."""
        return cls(
            hooks=_names("hooks", hooks),
            dtype=dtype_name(dtype) if isinstance(dtype, torch.dtype) else dtype,
            positions=checked_positions(positions),
            statistics=_names("statistics", statistics),
            **others,
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        found = dataclasses.asdict(self)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in found.items()}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> HarvestSettings:
        """What `to_dict` gave.

        Raises:
            InputError: for fields that are missing, unknown or break a rule.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        require(
            isinstance(fields, Mapping) and set(fields) == known,
            f"settings must have the fields {', '.join(sorted(known))}. Received {fields!r:.300}",
        )
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in fields.items()
        }
        return cls(**values)


def checked_positions(positions: PositionsInput) -> str | tuple[int, ...]:
    """Positions in the one form that they are kept in: `all`, `last`, `start:stop[:step]`, a tuple.

    Raises:
        InputError: for anything that is not a `PositionsInput`.
    """
    if isinstance(positions, str):
        if positions in ("all", "last"):
            return positions
        return _range_text(_parse_range(positions))
    if isinstance(positions, slice):
        return _range_text(positions)
    if not isinstance(positions, Sequence) or not all(map(_is_int, positions)) or not positions:
        raise _not_positions(positions)
    listed: list[int] = sorted(positions)  # type: ignore[arg-type]
    require(
        len(set(listed)) == len(listed), f"positions must be different. Received {listed!r:.200}"
    )
    return tuple(listed)


def positions_slice(positions: str) -> slice:
    """What a range of positions, `all` or `last` means, as a slice of a sequence's real tokens."""
    if positions == "all":
        return slice(None)
    return slice(-1, None) if positions == "last" else _parse_range(positions)


def _parse_range(text: str) -> slice:
    parts = text.split(":")
    try:
        if not 2 <= len(parts) <= 3 or len(text) > 64:
            raise ValueError
        return slice(*(int(part) if part.strip() else None for part in parts))
    except ValueError:
        raise _not_positions(text) from None


def _range_text(positions: slice) -> str:
    ends = (positions.start, positions.stop, positions.step)
    if not all(end is None or _is_int(end) for end in ends):
        raise _not_positions(positions)
    start, stop, step = ends
    require(step is None or step > 0, f"positions must not run backwards. Received {positions!r}")
    if (start or 0, stop, step or 1) == (0, None, 1):
        return "all"
    text = f"{'' if start is None else start}:{'' if stop is None else stop}"
    return text if step in (None, 1) else f"{text}:{step}"


def _not_positions(found: object) -> InputError:
    return InputError(
        "positions must be 'all', 'last', a range such as '4:-1', or a list of whole numbers. "
        f"Received {found!r:.200}."
    )


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_sample(sample: object) -> None:
    if sample is None:
        return
    fraction = isinstance(sample, float) and math.isfinite(sample) and 0 < sample <= 1
    require(
        fraction or (_is_int(sample) and sample >= 1),  # type: ignore[operator]
        "sample must be a fraction (a float above 0, at most 1) or a number of rows of every "
        f"sequence (an int of at least 1). Received {sample!r}",
    )


def _names(what: str, names: str | Iterable[str]) -> tuple[str, ...]:
    if isinstance(names, str):
        return (names,)
    require(isinstance(names, Iterable), f"{what} must be names. Received {names!r}")
    return tuple(names)
