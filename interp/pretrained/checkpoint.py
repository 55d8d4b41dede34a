"""The weights of a Hugging Face directory, read one tensor at a time."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from interp.errors import InputError
from interp.saving import read_json

_SINGLE = ("model.safetensors", "pytorch_model.bin")
_INDEX = ("model.safetensors.index.json", "pytorch_model.bin.index.json")


class SafetensorsWeights(Mapping[str, Tensor]):
    """Name → tensor over one or more safetensors files, read when looked up.

    A file is opened anew for each tensor, so that the pages of those already read can leave memory.
    """

    def __init__(self, files: list[Path]) -> None:
        self._place: dict[str, Path] = {}
        for path in files:
            try:
                with safe_open(path, framework="pt") as file:
                    self._place.update(dict.fromkeys(file.keys(), path))
            except (SafetensorError, OSError) as fault:
                raise InputError(f"{path} cannot be read: {fault}") from fault

    def __getitem__(self, name: str) -> Tensor:
        with safe_open(self._place[name], framework="pt") as file:
            return file.get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._place)

    def __len__(self) -> int:
        return len(self._place)


def open_weights(directory: Path, allow_pickle: bool = False) -> Mapping[str, Tensor]:
    """The weights of a directory, from a single file or from shards.

    Args:
        directory: With `model.safetensors`, or shards and their index.
        allow_pickle: Also read `pytorch_model.bin` (with torch's restricted unpickler).

    Raises:
        InputError: if there are none, an index names a file that is not there, or only pickled
            weights are there without `allow_pickle`.
    """
    safe, pickled = (_files(directory, *names) for names in zip(_SINGLE, _INDEX, strict=True))
    if safe:
        return SafetensorsWeights(safe)
    if not pickled:
        raise InputError(
            f"{directory} has no weights: neither {_SINGLE[0]} nor {_INDEX[0]} is there."
        )
    if not allow_pickle:
        raise InputError(
            f"{directory} has pickled weights only ({pickled[0].name}). Pickle can run code: "
            "convert them to safetensors, or pass allow_pickle=True if you trust their source."
        )
    weights: dict[str, Tensor] = {}
    for path in pickled:
        weights.update(_unpickle(path))
    return weights


def _unpickle(path: Path) -> dict[str, Tensor]:
    # Files from before 2020 are no zip archives and cannot be mapped into memory.
    mapped = zipfile.is_zipfile(path)
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError) as fault:
        reason = str(fault).strip().splitlines()[0]
        raise InputError(f"{path} cannot be read: {reason}") from fault
    if not isinstance(weights, dict) or not all(isinstance(w, Tensor) for w in weights.values()):
        raise InputError(f"{path} must hold a dictionary of tensors.")
    return weights


def _files(directory: Path, single: str, index: str) -> list[Path]:
    if (directory / single).is_file():
        return [directory / single]
    if not (directory / index).is_file():
        return []
    weight_map = read_json(directory / index).get("weight_map")
    if not isinstance(weight_map, dict):
        raise InputError(f"{directory / index} must hold a weight_map from names to files.")
    shards = sorted(set(weight_map.values()))
    files = [directory / shard for shard in shards]
    missing = [path.name for path in files if not path.is_file()]
    if missing or not files:
        raise InputError(f"{directory / index} names files that are not there: {missing}.")
    return files
