"""Names and links in a directory that others wrote."""

from __future__ import annotations

from pathlib import Path

from interp.errors import InputError
from interp.files.wording import short


def plain_name(name: object, where: str) -> str:
    """Check that it is the name of a file in a directory, not a way to somewhere else.

    Args:
        name: What a file says.
        where: Which file, for the error.

    Raises:
        InputError: For anything but a text without separators and unprintable characters.
    """
    plain = isinstance(name, str) and 0 < len(name) <= 255 and name.isprintable()
    if not plain or str(name) in (".", "..") or {"/", "\\", ":"} & set(str(name)):
        raise InputError(
            f"{where} must name files of its own directory. It names {short(repr(name), 100)}."
        )
    return str(name)


def contained(folder: Path, path: Path) -> Path:
    """Check that a file is of a folder, not a link to somewhere else; gives the file.

    The folder itself may be reached through a link, and links may lead into the Hugging Face cache.

    Raises:
        InputError: If it is such a link, or one that leads round in a circle.
    """
    try:
        found = path.resolve()
        inside = found.is_relative_to(folder.resolve()) or _is_cached(found)
    except (OSError, RuntimeError, ValueError) as fault:  # a circle of links; a NUL in a name
        raise InputError(f"{short(path)} cannot be followed: {short(fault)}.") from fault
    if not inside:
        raise InputError(
            f"{path} is a link that leads out of {folder}; it is not read. "
            "Put the file itself there (a hard link is one), or name the directory that it is in."
        )
    return path


def require_no_links_out(folder: Path) -> None:
    """Check `contained` for everything that stands in a directory, before others read it.

    Raises:
        InputError: As `contained`.
    """
    for path in sorted(folder.iterdir()):
        if path.is_symlink():
            contained(folder, path)


def _is_cached(path: Path) -> bool:
    """Whether it is a file of the hub's cache, `models--NAME/blobs/HASH`.

    Links lead there from the cache's snapshots, and from directories that older versions of
    huggingface_hub downloaded to.
    """
    return path.parent.name == "blobs" and path.parent.parent.name.startswith("models--")
