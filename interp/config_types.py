"""What kind of value each field of a configuration takes, checked before any of them is used."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from interp.errors import InputError, require

if TYPE_CHECKING:
    from interp.config import HookedTransformerConfig

# Far above every model there is, and below what a config could ask of memory by itself: there is
# an entry of `attn_types` for each layer.
MOST_LAYERS = 2**16
MOST = 2**31 - 1  # of a size
_MOST_SEED = 2**63 - 1
_ROWS: dict[str, tuple[type, str]] = {
    "attn_types": (str, "names"), "weight_processing": (str, "names"),
    "suppress_tokens": (int, "whole numbers"),
}  # fmt: skip


def check_types(cfg: HookedTransformerConfig) -> None:
    """Raise `InputError` for the first field whose value is of the wrong kind, or beyond all size.

    What `-1` or `None` stand for is not filled in yet.
    """
    for field in dataclasses.fields(cfg):
        value = getattr(cfg, field.name)
        optional = "None" in str(field.type)
        if value is None and optional:
            continue
        if field.name in _ROWS:
            _check_row(field.name, value, *_ROWS[field.name])
        elif field.type in ("int", "int | None"):
            _check_whole(field.name, value)
        elif field.type in ("float", "float | None"):
            _check_number(field.name, value)
        elif field.type in ("str", "str | None"):
            require(isinstance(value, str), f"{field.name} must be a text. Received {value!r:.80}")


def _check_whole(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise InputError(f"{name} must be a whole number. Received {value!r:.80}.")
    most = MOST_LAYERS if name in ("n_layers", "n_encoder_layers") else MOST
    most = _MOST_SEED if name == "seed" else most
    require(value <= most, f"{name} must be at most {most}. Received {value!r:.80}")


def _check_number(name: str, value: object) -> None:
    try:
        fits = not isinstance(value, bool) and math.isfinite(value)  # type: ignore[arg-type]
    except (TypeError, OverflowError):
        fits = False
    require(fits, f"{name} must be a finite number. Received {value!r:.80}")


def _check_row(name: str, value: object, kind: type, told: str) -> None:
    fits = (
        isinstance(value, Iterable)
        and not isinstance(value, str)
        and all(isinstance(each, kind) for each in value)
    )
    require(fits, f"{name} must be a list of {told}. Received {value!r:.80}")
