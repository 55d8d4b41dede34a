"""Datasets whose files are damaged, of another set or links: all are refused by name."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from interp import InputError
from interp.harvest.dataset import ActivationDataset
from interp.harvest.manifest import HookSpec
from tests.interp.harvest.written import write_dataset


def _edit(path: Path, **fields: Any) -> None:
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document | fields) + "\n" * (path.suffix == ".jsonl"))


def _receipt(out: Path, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads((out / "journal.jsonl").read_text())
    change(document)
    (out / "journal.jsonl").write_text(json.dumps(document) + "\n")


def _replace_data(out: Path, tensors: dict[str, Tensor]) -> None:
    """Another file of the right size, as far as the receipt says."""
    path = out / "shards/00000.safetensors"
    save_file(tensors, path)
    _receipt(out, lambda line: line["files"]["data"].update(bytes=path.stat().st_size))


def _link_out(out: Path, name: str) -> None:
    elsewhere = out.parent / "elsewhere"
    (out / name).rename(elsewhere)
    (out / name).symlink_to(elsewhere)


HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no manifest": (lambda out: (out / "manifest.json").unlink(), "manifest.json does not exist"),
    "another format": (lambda out: _edit(out / "manifest.json", version=2), "not a whole manifest"),
    "no shards": (lambda out: _edit(out / "manifest.json", n_shards=5), "not a whole manifest"),
    "a path out": (
        lambda out: _receipt(out, lambda line: line["files"]["data"].update(name="../data")),
        "journal.jsonl, line 1, is damaged: the data file of shard 0 must be named",
    ),
    "a foreign shard": (
        lambda out: _edit(out / "journal.jsonl", shard=1), "journal.jsonl, line 1, is damaged"
    ),
    "a missing file": (
        lambda out: (out / "shards/00000.rows.parquet").unlink(),
        "shards/00000.rows.parquet is not there",
    ),
    "a shorter file": (
        lambda out: os.truncate(out / "shards/00000.safetensors", 60),
        r"shards/00000.safetensors has 60 bytes instead of",
    ),
    "a linked file": (
        lambda out: _link_out(out, "shards/00000.safetensors"),
        "shards/00000.safetensors is not there",
    ),
    "a linked folder": (lambda out: _link_out(out, "shards"), "shards is a link that leads out"),
    "a linked manifest": (
        lambda out: _link_out(out, "manifest.json"), "manifest.json is a link that leads out"
    ),
    "no safetensors": (
        lambda out: (out / "shards/00000.safetensors").write_bytes(
            b"x" * (out / "shards/00000.safetensors").stat().st_size
        ),
        "00000.safetensors is damaged",
    ),
    "other hooks": (
        lambda out: _replace_data(out, {"other": torch.zeros(3, 2)}),
        "00000.safetensors must hold the hooks as the manifest says",
    ),
    "one hook more": (
        lambda out: _replace_data(out, {"h": torch.zeros(3, 2), "other": torch.zeros(3)}),
        "00000.safetensors must hold the hooks as the manifest says",
    ),
    "another dtype": (
        lambda out: _replace_data(out, {"h": torch.zeros(3, 2, dtype=torch.bfloat16)}),
        r"must hold h as the manifest says, torch.float16 \[3, 2\]. It holds torch.bfloat16 \[3, 2",
    ),
    "more rows": (
        lambda out: _replace_data(out, {"h": torch.zeros(4, 2).half()}),
        r"torch.float16 \[3, 2\]. It holds torch.float16 \[4, 2\]",
    ),
    "another width": (
        lambda out: _replace_data(out, {"h": torch.zeros(3, 1).half()}), r"holds torch.float16 \[3"
    ),
    "rows that are not there": (
        lambda out: (
            _edit(out / "journal.jsonl", rows=4), _replace_data(out, {"h": torch.zeros(3, 9)})
        ),
        r"\[4, 2\]. It holds torch.float32 \[3, 9",
    ),
    "more rows than tokens": (
        lambda out: _edit(out / "journal.jsonl", rows=10**200), "shard 0 cannot have 10000"
    ),
    "rows wider than the file": (
        lambda out: _edit(out / "manifest.json", hooks={"h": {"shape": [10**8], "dtype": "int8"}}),
        "shard 0 cannot have 3 rows",
    ),
    "more shards than memory": (
        lambda out: _edit(
            out / "manifest.json", n_shards=2**31 - 1,
            tokens={"digest": "", "n_sequences": 2**31 - 1, "length": 4},
        ),
        r"has 1 of 2,147,483,647 shards; missing are 1, 2, 3",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files(tmp_path: Path, name: str) -> None:
    made = write_dataset(tmp_path / "set", {"h": HookSpec((2,), torch.float16)}, [3])
    spoil, rule = HOSTILE[name]
    spoil(made.out)
    with pytest.raises(InputError, match=rule):
        ActivationDataset(made.out)[0]


def test_a_file_cut_off_later_is_refused_too(tmp_path: Path) -> None:
    made = write_dataset(tmp_path / "set", {"h": HookSpec((2,), torch.float16)}, [3])
    data = ActivationDataset(made.out)
    os.truncate(made.out / "shards/00000.safetensors", 40)
    with pytest.raises(InputError, match=r"must have \d+ bytes. It has 40"):
        data[0]


def test_no_directory(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must be a directory that a harvest wrote"):
        ActivationDataset(tmp_path / "none")
