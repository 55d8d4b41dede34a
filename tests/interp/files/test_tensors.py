from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from interp import InputError
from interp.files import TensorFile, require_finite

FLOATS = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 17, 4095])
def test_each_number_that_is_not_finite_is_counted(
    dtype: torch.dtype, bad: float, place: int
) -> None:
    weight = torch.linspace(-3, 3, 4096).to(dtype).reshape(64, 64)
    require_finite("w", weight, "here")
    weight.view(-1)[place] = bad
    with pytest.raises(InputError, match="here has 1 NaN or infinite of 4096 in w"):
        require_finite("w", weight, "here")
    weight.view(-1)[5] = math.nan
    with pytest.raises(InputError, match="has 2 NaN or infinite"):
        require_finite("w", weight, "here")


def test_the_largest_numbers_are_finite_and_nothing_is() -> None:
    for dtype in FLOATS:
        require_finite("w", torch.full((8,), torch.finfo(dtype).max, dtype=dtype), "here")
        require_finite("w", torch.empty(0, 3, dtype=dtype), "here")
    require_finite("w", torch.tensor([1, 2]), "here")


def _write(path: Path, header: object, body: bytes) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)
    return path


def test_a_file_tells_its_outlines_and_its_tensors(tmp_path: Path) -> None:
    held = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([True]), "é": torch.ones(0, 4)}
    save_file(held, tmp_path / "x.safetensors")
    file = TensorFile(tmp_path / "x.safetensors")
    assert set(file) == set(held) and len(file) == 3
    for name, tensor in held.items():
        assert (file.outlines[name].shape, file.outlines[name].dtype) == (
            tensor.shape,
            tensor.dtype,
        )
        assert torch.equal(file[name], tensor)


def _claim(shape: list[int], offsets: list[int], dtype: str = "F32", names: str = "a") -> object:
    return {name: {"dtype": dtype, "shape": shape, "data_offsets": offsets} for name in names}


DAMAGED: dict[str, tuple[object, bytes]] = {
    "more claimed than there": (_claim([2**40], [0, 2**42]), b""),
    "sizes beyond all numbers": (_claim([2**62, 2**62], [0, 4]), b"0000"),
    "a size below zero": (_claim([-1], [0, 4]), b"0000"),
    "offsets that end before they begin": (_claim([1], [4, 0]), b"0000"),
    "tensors that overlap": (_claim([1], [0, 4], names="ab"), b"0000"),
    "bytes that are nobody's": (_claim([1], [0, 4]), b"0" * 8),
    "no such dtype": (_claim([1], [0, 4], dtype="F33"), b"0000"),
    "no JSON": (b"{", b""),
    "lists within lists": (b"[" * 100_000, b""),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_header_that_lies_is_refused(name: str, tmp_path: Path) -> None:
    path = _write(tmp_path / "x.safetensors", *DAMAGED[name])
    with pytest.raises(InputError, match=r"x\.safetensors cannot be read; it is damaged: .") as f:
        TensorFile(path)
    assert len(str(f.value)) < 600


def test_other_dtypes_are_told_apart_and_not_read(tmp_path: Path) -> None:
    header = {"a": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}}
    file = TensorFile(_write(tmp_path / "x.safetensors", header, b"0000"))
    assert file.outlines["a"].dtype is None
    with pytest.raises(InputError, match="in a dtype that is not read"):
        file["a"]


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        TensorFile(tmp_path / "absent")
    with pytest.raises(InputError, match="does not exist"):
        TensorFile(tmp_path)
