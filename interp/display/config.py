"""A configuration: what was chosen, what followed from it, and what was left as it is."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from interp.config import HookedTransformerConfig
from interp.devices.parsing import dtype_name
from interp.display.markup import count_text, folded, table

_HEADER = ("field", "value")


def config_html(cfg: HookedTransformerConfig) -> str:
    """Fields with another value than their default; those filled in from others; the rest, folded.

    A field that was given its default cannot be told from one that was not given.
    """
    chosen, filled_in, rest = grouped(cfg)
    summary = f"HookedTransformerConfig of {cfg.model_name}: {count_text(len(chosen), 'field')} set"
    others = {"filled in from these": filled_in, "at their default": rest}
    parts = [_table(chosen)]
    parts += [
        folded("config", f"{len(f)} {which}", _table(f), is_open=False)
        for which, f in others.items()
    ]
    return folded("config", summary, "\n".join(parts), is_open=True)


def grouped(
    cfg: HookedTransformerConfig,
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The fields by name: set, filled in from others, and at their default."""
    chosen: dict[str, Any] = {}
    filled_in: dict[str, Any] = {}
    rest: dict[str, Any] = {}
    for field in dataclasses.fields(cfg):
        if not field.init:
            continue
        value = getattr(cfg, field.name)
        if field.default is not dataclasses.MISSING and value == field.default:
            rest[field.name] = value
        elif cfg.is_filled_in(field.name):
            filled_in[field.name] = value
        else:
            chosen[field.name] = value
    return chosen, filled_in, rest


def _table(fields: dict[str, Any]) -> str:
    return table(_HEADER, [(name, _text(value)) for name, value in fields.items()])


def _text(value: Any) -> str:
    if isinstance(value, torch.dtype):
        return dtype_name(value)
    return str(value) if isinstance(value, torch.device) else repr(value)
