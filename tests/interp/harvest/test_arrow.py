"""Arrow tables of a dataset hold its numbers, and lie where the files are mapped."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from interp import InputError
from interp.harvest.arrow import arrow_schema
from interp.harvest.dataset import ActivationDataset
from interp.harvest.manifest import STORED_DTYPES, HookSpec
from interp.harvest.shard_files import INDEX_COLUMNS
from tests.interp.harvest.written import write_dataset

SHAPES = [(), (3,), (2, 4)]
SPECS = {
    f"{name}.{len(shape)}": HookSpec(shape, dtype)
    for name, dtype in STORED_DTYPES.items()
    for shape in SHAPES
}


def test_every_dtype_and_shape(tmp_path: Path) -> None:
    made = write_dataset(tmp_path / "set", SPECS, [5, 0, 9])
    data = ActivationDataset(made.out)
    table = data.to_arrow()
    assert table.num_rows == 14
    assert table.schema.equals(arrow_schema(data), check_metadata=True)
    for hook, spec in SPECS.items():
        field = table.schema.field(hook)
        assert tuple(json.loads(field.metadata[b"shape"])) == spec.shape
        assert "torch." + field.metadata[b"dtype"].decode() == str(spec.dtype)
        flat = table[hook].combine_chunks()
        values = flat.flatten() if spec.shape else flat
        found = torch.from_numpy(values.to_numpy(zero_copy_only=False).copy())
        expected = made.rows[hook].float() if spec.dtype == torch.bfloat16 else made.rows[hook]
        assert found.dtype == expected.dtype
        assert torch.equal(found.reshape(expected.shape), expected)
    assert table["row"].to_pylist() == list(range(14))
    for name in INDEX_COLUMNS:
        assert table[name].to_pylist() == made.index[name].tolist()


def test_batches_and_other_files(tmp_path: Path) -> None:
    made = write_dataset(tmp_path / "set", {"h": HookSpec((2,), torch.float16)}, [5, 9])
    data = ActivationDataset(made.out)
    batches = list(data.arrow_batches(4))
    assert [batch.num_rows for batch in batches] == [4, 1, 4, 4, 1]  # of one shard each
    table = pa.Table.from_batches(batches)
    assert table.equals(data.to_arrow())
    pq.write_table(table, tmp_path / "copy.parquet")
    copied = pq.read_table(tmp_path / "copy.parquet")
    assert copied["h"].to_pylist() == table["h"].to_pylist()
    assert copied.schema.field("h").metadata == table.schema.field("h").metadata
    frame = table.to_pandas()
    assert np.array_equal(np.stack(frame["h"]), made.rows["h"].numpy())


def test_numbers_are_not_copied(tmp_path: Path) -> None:
    made = write_dataset(tmp_path / "set", {"h": HookSpec((1000,), torch.float32)}, [500])
    before = pa.total_allocated_bytes()
    table = ActivationDataset(made.out).to_arrow()
    values = table["h"].chunk(0).flatten()
    assert pa.total_allocated_bytes() - before < 200_000  # of two million bytes
    assert not values.buffers()[1].is_mutable


def test_refusals(tmp_path: Path) -> None:
    made = write_dataset(tmp_path / "set", {"token": HookSpec((2,), torch.float32)}, [3])
    with pytest.raises(InputError, match="must not be called as columns of the row index"):
        ActivationDataset(made.out).arrow_batches()
    with pytest.raises(InputError, match="batch_rows must be a whole number"):
        ActivationDataset(made.out).arrow_batches(0)
