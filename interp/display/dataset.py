"""A harvested dataset: its rows, its hooks, and what they were made of."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from interp.devices.memory import readable
from interp.devices.parsing import dtype_name
from interp.display.markup import count_text, folded, one_line, shape_text, table

if TYPE_CHECKING:
    from interp.harvest import ActivationDataset
    from interp.harvest.manifest import HookSpec

_HEADER = ("hook", "shape of a row", "dtype", "bytes")


def dataset_html(data: ActivationDataset) -> str:
    """What `repr` tells, as a table. No row is read."""
    rows = [
        (hook, shape_text(spec.shape), dtype_name(spec.dtype), readable(len(data) * _bytes(spec)))
        for hook, spec in data.specs.items()
    ]
    about = f'<p style="margin:.25rem 0">{one_line(_origin(data))}</p>'
    return folded("dataset", _headline(data), table(_HEADER, rows) + about, is_open=True)


def dataset_text(data: ActivationDataset) -> str:
    """Rows, bytes and origin, and a line for each hook."""
    lines = [f"  {h}: {shape_text(s.shape)} {dtype_name(s.dtype)}" for h, s in data.specs.items()]
    return "\n".join([_headline(data), *lines, f"  {_origin(data)}"])


def _headline(data: ActivationDataset) -> str:
    size = len(data) * sum(map(_bytes, data.specs.values()))
    counts = f"{count_text(len(data), 'row')} of {count_text(len(data.hooks), 'hook')}"
    return f"ActivationDataset: {counts}, {readable(size)} on disk"


def _origin(data: ActivationDataset) -> str:
    made = data.manifest
    shards = f"{len(data.shards.receipts)} of {count_text(made.n_shards, 'shard')}"
    sequences = count_text(made.tokens["n_sequences"], "sequence")
    return (
        f"{made.model.get('name', 'a model')} on {sequences} of {made.tokens['length']} tokens; "
        f"{shards} in {data.directory}"
    )


def _bytes(spec: HookSpec) -> int:
    return math.prod(spec.shape) * spec.dtype.itemsize
