"""Recorded activations as a table in a notebook."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from torch import Tensor

from interp.devices.memory import bytes_by_name, bytes_kept, readable

_STYLE = (
    "border-collapse:collapse;font-size:.875rem;font-variant-numeric:tabular-nums;"
    "text-align:left;white-space:nowrap"
)
_HEADER = ("name", "shape", "dtype", "bytes", "same memory as")


def activations_html(named: Mapping[str, Tensor]) -> str:
    """Names, shapes, dtypes and bytes as an HTML fragment, in the notebook's own colours.

    The bytes are those that a name keeps alive. A storage is counted where its first name stands;
    names after it say which that is, so the column adds up to the total.
    """
    devices = sorted({str(tensor.device) for tensor in named.values()})
    summary = (
        f"ActivationCache: {len(named)} tensors, {readable(bytes_kept(named.values()))} "
        f"on {', '.join(devices) or 'nowhere'}"
    )
    sizes = bytes_by_name(named)
    firsts = {named[name].untyped_storage()._cdata: name for name in sizes}
    rows = []
    for name, tensor in named.items():
        shape = "[" + ", ".join(map(str, tensor.shape)) + "]"
        dtype = str(tensor.dtype).removeprefix("torch.")
        counted = name in sizes
        other = "" if counted else firsts[tensor.untyped_storage()._cdata]
        size = readable(sizes[name]) if counted else ""
        rows.append((name, shape, dtype, size, other))
    body = "\n".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    head = "".join(f'<th scope="col" style="text-align:left">{column}</th>' for column in _HEADER)
    return (
        f'<details class="interp-cache"{" open" if len(rows) <= 12 else ""}>'
        f"<summary>{escape(summary)}</summary>\n"
        '<div style="overflow:auto;max-height:30rem" tabindex="0">'
        f'<table style="{_STYLE}"><thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div></details>"
    )


def _cell(text: str) -> str:
    return f'<td style="text-align:left;padding:.1rem 1rem .1rem 0">{escape(text)}</td>'
