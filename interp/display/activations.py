"""Recorded activations as a table."""

from __future__ import annotations

from collections.abc import Mapping

from jaxtyping import Shaped
from torch import Tensor

from interp.devices.memory import bytes_by_name, bytes_kept, readable
from interp.devices.parsing import dtype_name
from interp.display.markup import count_text, folded, shape_text, table

_HEADER = ("name", "shape", "dtype", "bytes", "same memory as")
_SHORT = 12  # rows up to which a table stands open


def activations_html(named: Mapping[str, Shaped[Tensor, "..."]]) -> str:
    """Names, shapes, dtypes and bytes as an HTML fragment, in the notebook's own colours.

    The bytes are those that a name keeps alive. A storage is counted where its first name stands;
    names after it say which that is, so the column adds up to the total.
    """
    devices = sorted({str(tensor.device) for tensor in named.values()})
    summary = (
        f"ActivationCache: {count_text(len(named), 'tensor')}, "
        f"{readable(bytes_kept(named.values()))} on {', '.join(devices) or 'nowhere'}"
    )
    sizes = bytes_by_name(named)
    firsts = {named[name].untyped_storage()._cdata: name for name in sizes}
    rows = []
    for name, tensor in named.items():
        counted = name in sizes
        other = "" if counted else firsts[tensor.untyped_storage()._cdata]
        size = readable(sizes[name]) if counted else ""
        rows.append((name, shape_text(tensor.shape), dtype_name(tensor.dtype), size, other))
    return folded("cache", summary, table(_HEADER, rows), is_open=len(rows) <= _SHORT)
