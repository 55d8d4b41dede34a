"""A dataset as Arrow tables, for pandas, DuckDB, Polars and whatever else reads them.

A hook's rows are a column of fixed-size lists, their shape and the dtype they are stored as in the
field's metadata; after the hooks come `row` and the columns of the row index.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from interp.errors import require, require_whole
from interp.harvest.manifest import HookSpec
from interp.harvest.shard_files import INDEX_COLUMNS

if TYPE_CHECKING:
    from interp.harvest.dataset import ActivationDataset

_TYPES: dict[torch.dtype, pa.DataType] = {
    torch.float64: pa.float64(), torch.float32: pa.float32(), torch.float16: pa.float16(),
    torch.bfloat16: pa.float32(), torch.int64: pa.int64(), torch.int32: pa.int32(),
    torch.int16: pa.int16(), torch.int8: pa.int8(), torch.uint8: pa.uint8(), torch.bool: pa.bool_(),
}  # fmt: skip
"""What a hook's numbers become. Arrow has no bfloat16: float32 holds the same numbers exactly."""


def arrow_schema(data: ActivationDataset) -> pa.Schema:
    """The columns of a dataset: its hooks, `row`, and those of the row index.

    A hook's field has the metadata `shape` (JSON, of one row) and `dtype` (as stored).
    """
    fields = [_field(hook, spec) for hook, spec in data.specs.items()]
    return pa.schema([*fields, *((name, pa.int64()) for name in ("row", *INDEX_COLUMNS))])


def arrow_batches(data: ActivationDataset, batch_rows: int = 8192) -> Iterator[pa.RecordBatch]:
    """All rows in order, as record batches; a batch has rows of one shard alone.

    Numbers stay where they are, in the mapped files, but for bfloat16 and bool, which become
    float32 and Arrow's bits.

    Args:
        data: The dataset.
        batch_rows: How many rows a batch has at most.

    Raises:
        InputError: for a number of rows that is no whole number from 1 on, hooks whose names are
            those of the row index, and damaged files.
    """
    require_whole("batch_rows", batch_rows, 1)
    schema = arrow_schema(data)
    require(
        len(set(schema.names)) == len(schema.names),
        f"hooks must not be called as columns of the row index. Received {', '.join(data.hooks)}",
    )
    return _batches(data, batch_rows, schema)


def _batches(
    data: ActivationDataset, batch_rows: int, schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    starts = data.shards.starts
    for shard, (first, end) in enumerate(itertools.pairwise(starts)):
        maps = data.shards.tensors(shard)
        for start in range(first, end, batch_rows):
            stop = min(start + batch_rows, end)
            places = data.rows.places(slice(start, stop))
            columns = [
                _column(maps[hook][start - first : stop - first], spec, schema.field(hook).type)
                for hook, spec in data.specs.items()
            ]
            index = [getattr(places, name).numpy() for name in ("row", *INDEX_COLUMNS)]
            yield pa.record_batch([*columns, *map(pa.array, index)], schema=schema)


def to_arrow(data: ActivationDataset, batch_rows: int = 8192) -> pa.Table:
    """The whole dataset as a table, without a copy of numbers that Arrow has a type for.

    Raises:
        InputError: as `arrow_batches`.
    """
    return pa.Table.from_batches(arrow_batches(data, batch_rows), arrow_schema(data))


def _field(hook: str, spec: HookSpec) -> pa.Field:
    kind = _TYPES[spec.dtype]
    if spec.shape:
        kind = pa.list_(kind, math.prod(spec.shape))
    stored = str(spec.dtype).removeprefix("torch.")
    return pa.field(hook, kind, metadata={"shape": json.dumps(spec.shape), "dtype": stored})


def _column(rows: Tensor, spec: HookSpec, kind: pa.DataType) -> pa.Array:
    flat = (rows.float() if spec.dtype == torch.bfloat16 else rows).reshape(-1).numpy()
    # A view of the map that Arrow may keep and nobody can write to.
    held = np.asarray(flat)
    held.flags.writeable = False
    values = pa.array(held)
    if not spec.shape:
        return values
    return pa.FixedSizeListArray.from_arrays(values, type=kind)
