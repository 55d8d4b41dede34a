"""Every file that is not as it was written is found, by whichever bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from interp import InputError
from interp.harvest.dataset import ActivationDataset
from interp.harvest.manifest import HookSpec
from interp.progress import listening
from tests.interp.harvest.written import write_dataset

SPECS = {"h": HookSpec((2,), torch.float16)}


def test_flipped_bits_are_found(tmp_path: Path) -> None:
    made = write_dataset(tmp_path / "set", SPECS, [3, 4, 5, 6])
    data = ActivationDataset(made.out, verify=True)
    assert data.verify() == []
    for name, at in (("00001.safetensors", -1), ("00003.rows.parquet", 40)):
        path = made.out / "shards" / name
        content = bytearray(path.read_bytes())
        content[at] ^= 1
        path.write_bytes(content)
    heard: list[float] = []
    with listening(lambda done, line: heard.append(done)):
        assert data.verify() == [1, 3]
    assert heard == [0, 0.25, 0.5, 0.75]
    (made.out / "shards/00000.safetensors").unlink()
    assert data.verify() == [0, 1, 3]


def test_opening_with_verify_names_the_shards(tmp_path: Path) -> None:
    made = write_dataset(tmp_path / "set", SPECS, [3, 4])
    path = made.out / "shards/00001.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    ActivationDataset(made.out)
    with pytest.raises(InputError, match=r"the shards \[1\] are not as they were written"):
        ActivationDataset(made.out, verify=True)
