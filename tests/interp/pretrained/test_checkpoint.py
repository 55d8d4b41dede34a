from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from interp import InputError
from interp.pretrained.checkpoint import open_weights

WEIGHTS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4, dtype=torch.bfloat16)}


def _sharded(folder: Path, weights: Mapping[str, Tensor]) -> Path:
    """Every weight in a file of its own, with an index."""
    place = {name: f"model-{i}.safetensors" for i, name in enumerate(weights)}
    for name, file in place.items():
        save_file({name: weights[name]}, folder / file)
    index = {"metadata": {}, "weight_map": place}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def _same(found: Mapping[str, Tensor]) -> bool:
    return set(found) == set(WEIGHTS) and all(
        torch.equal(found[k], v) and found[k].dtype == v.dtype for k, v in WEIGHTS.items()
    )


def test_single_file(tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "model.safetensors")
    weights = open_weights(tmp_path)
    assert len(weights) == 2
    assert _same(weights)


def test_shards(tmp_path: Path) -> None:
    assert _same(open_weights(_sharded(tmp_path, WEIGHTS)))


def test_missing_shard_is_named(tmp_path: Path) -> None:
    (_sharded(tmp_path, WEIGHTS) / "model-1.safetensors").unlink()
    with pytest.raises(InputError, match=r"model-1\.safetensors"):
        open_weights(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"weight_map": {}}', '{"weight_map": ["a"]}'])
def test_damaged_index(text: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(InputError, match=r"model\.safetensors\.index\.json"):
        open_weights(tmp_path)


@pytest.mark.parametrize("keep", [0, 4, 30, -1])
def test_truncated_file(keep: int, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file(WEIGHTS, path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"model\.safetensors cannot be read"):
        open_weights(tmp_path)


def test_no_weights(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no weights"):
        open_weights(tmp_path)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("sharded", [True, False])
def test_pickles_only_when_allowed(zipped: bool, sharded: bool, tmp_path: Path) -> None:
    """Also those in the format that torch wrote before 1.6, as the first GPT-2s on the hub are."""
    shards = {f"shard-{k}.bin": {k: v} for k, v in WEIGHTS.items()}
    files = shards if sharded else {"pytorch_model.bin": WEIGHTS}
    for name, content in files.items():
        torch.save(content, tmp_path / name, _use_new_zipfile_serialization=zipped)
    if sharded:
        index = {"weight_map": {k: f"shard-{k}.bin" for k in WEIGHTS}}
        (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match="allow_pickle=True"):
        open_weights(tmp_path)
    assert _same(open_weights(tmp_path, allow_pickle=True))


def test_safetensors_are_preferred_to_pickles(tmp_path: Path) -> None:
    torch.save({"c": torch.ones(1)}, tmp_path / "pytorch_model.bin")
    save_file(WEIGHTS, tmp_path / "model.safetensors")
    assert _same(open_weights(tmp_path, allow_pickle=True))


class _Bomb:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (self.path, "w")


def test_pickled_code_is_not_run(tmp_path: Path) -> None:
    torch.save({"a": _Bomb(str(tmp_path / "ran"))}, tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"pytorch_model\.bin"):
        open_weights(tmp_path, allow_pickle=True)
    assert not (tmp_path / "ran").exists()


def test_damaged_pickle(tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    torch.save(WEIGHTS, path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match=r"pytorch_model\.bin"):
        open_weights(tmp_path, allow_pickle=True)
