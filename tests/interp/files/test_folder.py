from __future__ import annotations

from pathlib import Path

import pytest

from interp import InputError
from interp.files import contained, plain_name, require_no_links_out


@pytest.mark.parametrize("name", ["a", "model-1.safetensors", "é漢", "..a", "a b"])
def test_plain_names(name: str) -> None:
    assert plain_name(name, "index") == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../a", "a/b", "/etc/passwd", "a\\b", "C:a", "a\x00b", "a\nb", "\u202ea",
     "a" * 256, None, 3, ["a"], {}],
)  # fmt: skip
def test_ways_to_elsewhere_are_no_names(name: object) -> None:
    with pytest.raises(InputError, match="index must name files of its own directory") as fault:
        plain_name(name, "index")
    assert len(str(fault.value)) < 200 and str(fault.value).isprintable()


def test_links(tmp_path: Path) -> None:
    folder, outside = tmp_path / "m", tmp_path / "outside"
    folder.mkdir()
    outside.write_text("secret")
    (folder / "a").write_text("a")
    (folder / "inside").symlink_to(folder / "a")
    (folder / "gone").symlink_to(folder / "b")
    (tmp_path / "link").symlink_to(folder, target_is_directory=True)
    require_no_links_out(folder)
    require_no_links_out(tmp_path / "link")
    assert contained(tmp_path / "link", tmp_path / "link" / "a") == tmp_path / "link" / "a"
    (folder / "out").symlink_to(outside)
    for check in (lambda: require_no_links_out(folder), lambda: contained(folder, folder / "out")):
        with pytest.raises(InputError, match="is a link that leads out of"):
            check()
    with pytest.raises(InputError, match="leads out"):
        contained(folder, folder / ".." / "outside")
    (folder / "circle").symlink_to(folder / "circle")
    with pytest.raises(InputError, match="cannot be followed"):
        contained(folder, folder / "circle")
    with pytest.raises(InputError, match="cannot be followed"):
        contained(folder, folder / "a\x00b")


def test_links_into_the_hubs_cache_are_followed(tmp_path: Path) -> None:
    """Those of `snapshots/COMMIT`, and of what older versions of the hub's client downloaded to."""
    model = tmp_path / "models--a--b"
    snapshot = model / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    (model / "blobs").mkdir()
    (model / "blobs" / "x").write_text("{}")
    (snapshot / "config.json").symlink_to(Path("../../blobs/x"))
    require_no_links_out(snapshot)
    local = tmp_path / "local"
    local.mkdir()
    (local / "config.json").symlink_to(model / "blobs" / "x")
    assert contained(local, local / "config.json").read_text() == "{}"
    (tmp_path / "y").write_text("{}")
    (snapshot / "other.json").symlink_to(tmp_path / "y")
    with pytest.raises(InputError, match=r"other\.json is a link"):
        require_no_links_out(snapshot)
    # A folder that only calls itself so has no such leave.
    plain = tmp_path / "mine" / "snapshots" / "0123"
    plain.mkdir(parents=True)
    (plain.parent.parent / "blobs").mkdir()
    (plain.parent.parent / "blobs" / "x").write_text("{}")
    (plain / "config.json").symlink_to(Path("../../blobs/x"))
    with pytest.raises(InputError, match="leads out"):
        require_no_links_out(plain)
