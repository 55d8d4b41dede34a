"""What is removed at the start, and what is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from interp.files.atomic import replacing_directory, replacing_file
from interp.harvest.leftovers import MODEL, remove_leftovers


def test_half_written_files_go_and_all_others_stay(tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    kept = [tmp_path / ".lock", tmp_path / "manifest.json", shards / "00000.safetensors",
            tmp_path / ".mine", shards / ".new-note"]  # fmt: skip
    shards.mkdir()
    for path in kept:
        path.write_text("x")
    (tmp_path / MODEL).mkdir()
    # What interp.files.atomic makes, left there as by a kill.
    left: list[Path] = []
    for path in (shards / "00001.safetensors", tmp_path / "manifest.json"):
        with pytest.raises(KeyboardInterrupt), replacing_file(path) as fresh:
            left.append(fresh)
            raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt), replacing_directory(tmp_path / "tokens") as folder:
        left.append(folder)
        raise KeyboardInterrupt
    for path in left[:2]:
        path.write_text("half")
    left[2].mkdir()
    (left[2] / "tokens.npy").write_text("half")
    remove_leftovers(tmp_path)
    assert {p for p in tmp_path.rglob("*") if p.is_file()} == set(kept)
    assert not (tmp_path / MODEL).exists() and not left[2].exists()


def test_what_safetensors_had_begun_goes_too(tmp_path: Path) -> None:
    """It writes beside the file that it was given, under a name of its own."""
    (tmp_path / "shards").mkdir()
    mine = tmp_path / ".tmpODK2AA"
    for path in (mine, tmp_path / "shards" / ".tmpODK2AA"):
        path.write_text("half")
    remove_leftovers(tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [mine]


def test_a_link_is_removed_and_not_followed(tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "inside").mkdir(parents=True)
    out = tmp_path / "out"
    out.mkdir()
    (out / ".tokens.new-01234567").symlink_to(other)
    remove_leftovers(out)
    assert list(out.iterdir()) == [] and (other / "inside").is_dir()
