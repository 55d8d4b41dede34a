"""Rotary positions as Hugging Face's configs write them down, old and new."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from interp.errors import InputError
from interp.pretrained.family import HfConfig, required
from interp.rotary_scaling import RotaryScaling

_KINDS = ("default", "linear", "dynamic", "yarn", "llama3")


def rotary_fields(config: HfConfig, base: float = 10_000.0) -> dict[str, Any]:
    """Our `rotary_*` fields.

    Read are `rope_parameters` (transformers 5) and `rope_theta` with `rope_scaling` (before it),
    where the kind of scaling may be called `rope_type` or `type`.

    Args:
        config: Theirs.
        base: Where it gives none.

    Raises:
        InputError: for a kind of scaling that interp does not have, or one without its numbers.
    """
    given = config.get("rope_parameters") or config.get("rope_scaling") or {}
    return {
        "positional_embedding_type": "rotary",
        "rotary_base": float(given.get("rope_theta") or config.get("rope_theta") or base),
        "rotary_scaling": rotary_scaling(config, given),
    }


def rotary_scaling(config: HfConfig, given: Mapping[str, Any]) -> RotaryScaling | None:
    """The stretching that `given`, their dictionary of rotary parameters, asks for."""
    kind: Any = given.get("rope_type") or given.get("type") or "default"
    if kind not in _KINDS:
        raise InputError(
            f"rotary scaling must be one of {', '.join(_KINDS)}. The model's is {kind!r}, which is "
            "not supported."
        )
    if kind == "default":
        return None
    n_ctx = required(config, "max_position_embeddings")
    original = (
        config.get("original_max_position_embeddings")
        or given.get("original_max_position_embeddings")
        or n_ctx
    )
    needed = ["factor"]
    if kind == "yarn":
        given = {"factor": n_ctx / original, **{k: v for k, v in given.items() if v is not None}}
    if kind == "llama3":
        needed += ["low_freq_factor", "high_freq_factor"]
    absent = [name for name in needed if given.get(name) is None]
    if absent:
        raise InputError(f"rotary scaling {kind!r} must give {', '.join(absent)}.")
    if kind == "dynamic":  # grows beyond the whole context
        original = n_ctx
    fields = {name: given[name] for name in needed}
    fields |= _yarn(given) if kind == "yarn" else {}
    return RotaryScaling(kind=kind, original_n_ctx=original, **fields)


def _yarn(given: Mapping[str, Any]) -> dict[str, Any]:
    factor, more = given["factor"], given.get("attention_factor")
    mscale, all_dim = given.get("mscale"), given.get("mscale_all_dim")
    if more is None and mscale and all_dim and factor > 1:
        more = (0.1 * mscale * math.log(factor) + 1) / (0.1 * all_dim * math.log(factor) + 1)
    return {
        "beta_fast": given.get("beta_fast") or 32.0,
        "beta_slow": given.get("beta_slow") or 1.0,
        "attention_factor": more,
        "truncate": given.get("truncate", True),
    }


def rotary_dim(config: HfConfig, d_head: int, part: float = 1.0) -> int:
    """How many of a head's dimensions turn: their `partial_rotary_factor`, wherever it stands.

    Args:
        config: Theirs.
        d_head: Width of a head.
        part: Where it gives none.
    """
    given = config.get("rope_parameters") or config.get("rope_scaling") or {}
    name = "partial_rotary_factor"
    return int(d_head * (given.get(name) or config.get(name) or part))
