"""What the check of an archive finds, on archives made here."""

from __future__ import annotations

import io
import tarfile
import zipfile

import pytest

from tests.packaging import dist_check
from tests.packaging.dist_check import BESIDE, ROOT, check_contents

FILES = {"interp/a.py": b"x = 1\n", "interp/py.typed": b"", "dashboards/style.css": b"p {}\n"}


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(dist_check, "MUST_HOLD", ("interp/py.typed",))


@pytest.fixture
def wheel(tmp_path):
    def make(**changes):
        path = tmp_path / "interp-1-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as archive:
            held = {**FILES, "interp-1.dist-info/METADATA": b"Name: interp\n"}
            for name, data in {**held, **changes}.items():
                archive.writestr(name, data)
        return path

    return make


def test_what_is_as_it_must_be_passes(wheel, tmp_path, capsys):
    check_contents(wheel(), set(FILES))
    sdist = tmp_path / "interp-1.tar.gz"
    with tarfile.open(sdist, "w:gz") as archive:
        for name, data in {**FILES, **dict.fromkeys(BESIDE, b"")}.items():
            entry = tarfile.TarInfo(f"interp-1/{name}")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    check_contents(sdist, set(FILES))
    assert capsys.readouterr().out.count("as git has them") == 2


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("interp/more.py", b"", "interp/more.py"),
        ("tests/test_a.py", b"", "tests/test_a.py"),
        ("interp/a.py", f"here = '{ROOT}/interp'".encode(), "interp/a.py"),
    ],
)
def test_what_must_not_be_there_is_found(wheel, name, data, told):
    with pytest.raises(AssertionError, match=told):
        check_contents(wheel(**{name: data}), set(FILES))


def test_what_is_missing_is_found(wheel, monkeypatch):
    with pytest.raises(AssertionError, match=r"interp/b\.py"):
        check_contents(wheel(), {*FILES, "interp/b.py"})
    monkeypatch.setattr(dist_check, "MUST_HOLD", ("interp/weights.bin",))
    with pytest.raises(AssertionError, match=r"interp/weights\.bin"):
        check_contents(wheel(), set(FILES))
    with pytest.raises(AssertionError, match="__pycache__"):
        monkeypatch.setattr(dist_check, "MUST_HOLD", ())
        path = "interp/__pycache__/a.pyc"
        check_contents(wheel(**{path: b""}), {*FILES, path})
