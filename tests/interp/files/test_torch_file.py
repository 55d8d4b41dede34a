from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import pytest
import torch

from interp import InputError
from interp.files import load_plain

HELD = {"w": torch.arange(6.0).reshape(2, 3), "n": 3, "rows": [{"a": None}], "t": (1, "x")}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.save(HELD, tmp_path / "x.pt")
    return tmp_path / "x.pt"


def _refused(path: Path, words: str, **options: bool) -> None:
    with pytest.raises(InputError, match=rf"x\.pt cannot be read: .*{words}") as fault:
        load_plain(path, **options)
    assert len(str(fault.value)) < 600 and "\n" not in str(fault.value)


def test_plain_values_come_back(saved: Path) -> None:
    found = load_plain(saved)
    assert torch.equal(found.pop("w"), HELD["w"])  # type: ignore[arg-type]
    assert found == {name: value for name, value in HELD.items() if name != "w"}


def test_the_older_format_is_read_where_it_is_asked_for(tmp_path: Path) -> None:
    torch.save(HELD, tmp_path / "x.pt", _use_new_zipfile_serialization=False)
    assert load_plain(tmp_path / "x.pt", legacy=True)["n"] == 3
    _refused(tmp_path / "x.pt", "no archive")


class Runs:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_is_not_run(zipped: bool, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    torch.save({"a": Runs(ran)}, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    _refused(tmp_path / "x.pt", "asks for posix.mkdir, which is no tensor", legacy=True)
    assert not ran.exists()


class Calls:
    def __init__(self, *call: object) -> None:
        self.call = call

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.call[0], self.call[1:]


@pytest.mark.parametrize("zipped", [True, False])
def test_memory_that_only_a_number_asks_for_is_not_taken(zipped: bool, tmp_path: Path) -> None:
    for call, words in (
        (Calls(bytearray, 10**5), "asks for a bytearray"),
        (Calls(torch.Tensor, 10**5), "that are not there"),
    ):
        torch.save([call], tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
        _refused(tmp_path / "x.pt", words, legacy=True)


def test_the_advice_to_read_it_all_the_same_is_not_passed_on(tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(b"garbage")
    _refused(tmp_path / "x.pt", "no file of tensors and plain values, or is damaged", legacy=True)


def test_what_begins_as_an_archive_is_one(saved: Path) -> None:
    """As torch sees it, which would read it without the checks of archives."""
    saved.write_bytes(b"PK\x03\x04" + saved.read_bytes()[:40])
    _refused(saved, "not a zip file", legacy=True)


def test_an_archive_that_unfolds_is_refused(saved: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(saved.read_bytes())) as archive:
        held = {info.filename: archive.read(info) for info in archive.infolist()}
    held = {n: b"\x00" * 50_000_000 if n.endswith("data/0") else b for n, b in held.items()}
    with zipfile.ZipFile(saved, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in held.items():
            archive.writestr(name, content)
    assert saved.stat().st_size < 1_000_000
    _refused(saved, "must be stored as they are")


@pytest.mark.parametrize("shape", [(10**9, 10**6), (7,)])
def test_a_tensor_that_claims_more_than_there_is_is_refused(
    shape: tuple[int, ...], tmp_path: Path
) -> None:
    torch.save({"a": torch.zeros(1).expand(shape)}, tmp_path / "x.pt")
    _refused(tmp_path / "x.pt", "that are not there")


def test_parts_of_one_storage_are_backed(tmp_path: Path) -> None:
    whole = torch.arange(12.0)
    torch.save({"a": whole[:6].view(2, 3), "b": whole.view(3, 4).T}, tmp_path / "x.pt")
    assert load_plain(tmp_path / "x.pt")["b"].shape == (4, 3)


@pytest.mark.parametrize("keep", [0, 4, 100, -1, -100])
def test_a_cut_file_is_refused(keep: int, saved: Path) -> None:
    saved.write_bytes(saved.read_bytes()[:keep])
    _refused(saved, "", legacy=True)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        load_plain(tmp_path / "absent")
