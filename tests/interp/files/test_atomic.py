import os

import pytest

from interp.files.atomic import replacing_directory, replacing_file


def test_file_appears_whole_and_alone(tmp_path):
    target = tmp_path / "new" / "a.txt"
    with replacing_file(target) as fresh:
        fresh.write_text("half")
        assert not target.exists()
    assert target.read_text() == "half"
    assert os.listdir(target.parent) == ["a.txt"]


def test_failed_write_leaves_the_old_file_and_no_litter(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), replacing_file(target) as fresh:
        fresh.write_text("new")
        raise RuntimeError
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_directory_is_replaced_as_a_whole(tmp_path):
    target = tmp_path / "run"
    target.mkdir()
    (target / "old").touch()
    with replacing_directory(target) as fresh:
        (fresh / "new").touch()
        assert os.listdir(target) == ["old"]
    assert os.listdir(target) == ["new"]
    assert os.listdir(tmp_path) == ["run"]


def test_directory_behind_a_link_is_replaced_there(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with replacing_directory(tmp_path / "link") as fresh:
        (fresh / "new").touch()
    assert (tmp_path / "link").is_symlink()
    assert os.listdir(tmp_path / "real") == ["new"]


def test_failed_fill_keeps_the_old_directory(tmp_path):
    target = tmp_path / "run"
    target.mkdir()
    (target / "old").touch()
    with pytest.raises(RuntimeError), replacing_directory(target):
        raise RuntimeError
    assert os.listdir(target) == ["old"]
    assert os.listdir(tmp_path) == ["run"]


def test_failed_swap_moves_the_old_directory_back(tmp_path, monkeypatch):
    target = tmp_path / "run"
    target.mkdir()
    (target / "old").touch()
    rename = os.rename

    def refuse_new(source, destination):
        if ".new-" in str(source):
            raise OSError("disk gone")
        rename(source, destination)

    monkeypatch.setattr(os, "rename", refuse_new)
    with pytest.raises(OSError, match="disk gone"), replacing_directory(target) as fresh:
        (fresh / "new").touch()
    assert os.listdir(target) == ["old"]
    assert os.listdir(tmp_path) == ["run"]
