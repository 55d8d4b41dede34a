"""The weights of a Hugging Face directory, read one tensor at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from jaxtyping import Shaped
from torch import Tensor

from interp import saving
from interp.errors import InputError
from interp.files import (
    TensorFile,
    contained,
    load_plain,
    plain_name,
    read_json,
    require_finite,
    short,
)

_SINGLE = ("model.safetensors", "pytorch_model.bin")
_INDEX = ("model.safetensors.index.json", "pytorch_model.bin.index.json")


class SafetensorsWeights(Mapping[str, Tensor]):
    """Name → tensor over one or more safetensors files, read when looked up.

    Args:
        files: The files. No two may hold the same name.
        allow_nonfinite: Give also weights that are NaN or infinite.

    Raises:
        InputError: If a file is damaged, or a name stands in two.
    """

    def __init__(self, files: list[Path], allow_nonfinite: bool = False) -> None:
        self._place: dict[str, TensorFile] = {}
        self._allow_nonfinite = allow_nonfinite
        for file in map(TensorFile, files):
            for name in file:
                if name in self._place:
                    first = self._place[name].path.name
                    raise InputError(
                        f"{file.path} holds {short(name, 100)}, which {first} holds already."
                    )
                self._place[name] = file

    def outline(self, name: str) -> Shaped[Tensor, "..."]:
        """A tensor of the shape and dtype that the file says, without memory."""
        found = self._place[name].outlines[name]
        saving.require_weight_dtype(name, found.dtype, str(self._place[name].path))
        return torch.empty(found.shape, dtype=found.dtype, device="meta")

    def __getitem__(self, name: str) -> Shaped[Tensor, "..."]:
        """A tensor; InputError if it is not finite."""
        file = self._place[name]
        weight = file[name]
        if not self._allow_nonfinite:
            require_finite(name, weight, file.path)
        return weight

    def __iter__(self) -> Iterator[str]:
        return iter(self._place)

    def __len__(self) -> int:
        return len(self._place)


def open_weights(
    directory: Path, allow_pickle: bool = False, allow_nonfinite: bool = False
) -> Mapping[str, Shaped[Tensor, "..."]]:
    """The weights of a directory, from a single file or from shards.

    Args:
        directory: With `model.safetensors`, or shards and their index.
        allow_pickle: Also read `pytorch_model.bin` (with torch's restricted unpickler).
        allow_nonfinite: Accept weights that are NaN or infinite.

    Raises:
        InputError: if there are none, a file is damaged or a link out of the directory, an index
            names one that is not there or elsewhere, or only pickled weights are there without
            `allow_pickle`.
    """
    safe, pickled = (_files(directory, *names) for names in zip(_SINGLE, _INDEX, strict=True))
    if safe:
        return SafetensorsWeights(safe, allow_nonfinite)
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
        weights.update(_unpickle(path, allow_nonfinite))
    return weights


def _unpickle(path: Path, allow_nonfinite: bool) -> dict[str, Tensor]:
    # Files from before 2020 are in the older format.
    weights = load_plain(path, legacy=True)
    if (
        not isinstance(weights, dict)
        or not all(isinstance(name, str) for name in weights)
        or not all(isinstance(weight, Tensor) for weight in weights.values())
    ):
        raise InputError(f"{path} must hold a dictionary of tensors.")
    for name, weight in weights.items():
        if not allow_nonfinite:
            require_finite(name, weight, path)
    return weights


def _files(directory: Path, single: str, index: str) -> list[Path]:
    if (directory / single).is_file():
        return [contained(directory, directory / single)]
    where = directory / index
    if not where.is_file():
        return []
    weight_map = read_json(contained(directory, where)).get("weight_map")
    if not isinstance(weight_map, dict):
        raise InputError(f"{where} must hold a weight_map from names to files.")
    shards = sorted({plain_name(shard, str(where)) for shard in weight_map.values()})
    files = [directory / shard for shard in shards]
    missing = [path.name for path in files if not path.is_file()]
    if missing or not files:
        raise InputError(f"{where} names files that are not there: {short(missing)}.")
    return [contained(directory, path) for path in files]
