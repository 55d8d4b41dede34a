"""Toys under training, written and read back; what is damaged is passed over."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dashboards.jobs.toy_snapshots import FILE, Snapshot, read, write


def _snapshot(untied):
    numbers = torch.arange(12, dtype=torch.float64)
    return Snapshot(
        step=20,
        densities=[0.5, 0.1],
        W=numbers.view(2, 2, 3),
        W_out=numbers.view(2, 3, 2) if untied else None,
        steps=[0, 10, 20],
        losses=torch.tensor([[3.0, 2.0], [2.0, 1.0], [1.0, 0.5]], dtype=torch.float64),
    )


@pytest.mark.parametrize("untied", [False, True])
def test_what_is_written_is_read(tmp_path, untied):
    assert read(tmp_path) is None
    left = _snapshot(untied)
    write(tmp_path, left)
    found = read(tmp_path)
    assert (found.step, found.densities, found.steps) == (20, [0.5, 0.1], [0, 10, 20])
    assert torch.equal(found.W, left.W) and torch.equal(found.losses, left.losses)
    assert (found.W_out is None) is not untied
    assert not untied or torch.equal(found.W_out, left.W_out)


@pytest.mark.parametrize(
    "kind", ["cut", "text", "empty", "pickle", "lacking", "packed", "many", "words"]
)
def test_what_is_damaged_is_passed_over(tmp_path, kind):
    write(tmp_path, _snapshot(False))
    file = tmp_path / FILE
    if kind == "cut":
        file.write_bytes(file.read_bytes()[:-40])
    elif kind == "text":
        file.write_text("toys")
    elif kind == "pickle":
        np.savez(file, step=np.array([{"a": 1}], dtype=object))
    elif kind == "empty":
        file.write_bytes(b"")
    elif kind == "packed":
        with np.load(file) as found:
            np.savez_compressed(file, **{**found, "extra": np.zeros(10**7)})
        assert file.stat().st_size < 100_000
    elif kind == "many":
        np.savez(file, step=np.array([1, 2]))
    elif kind == "words":
        with np.load(file) as found:
            np.savez(file, **{**found, "W": np.array(["a"])})
    else:
        np.savez(file, step=np.array(3))
    assert read(tmp_path) is None
