"""Writing files and directories so that a reader never meets a half-written one.

Everything is written under a temporary sibling name, on the same file system, and renamed.
"""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def _sibling(path: Path, tag: str) -> Path:
    return path.with_name(f".{path.name}.{tag}-{uuid.uuid4().hex[:8]}")


@contextmanager
def replacing_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path to write; on a clean exit it becomes `path`, on an error it goes.

    Missing parent directories are made. A symbolic link is followed, not replaced.
    """
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = _sibling(target, "new")
    try:
        yield fresh
        os.replace(fresh, target)
    finally:
        fresh.unlink(missing_ok=True)


@contextmanager
def replacing_directory(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give an empty temporary directory to fill; on a clean exit it becomes `path`.

    Whatever stood at `path` is moved aside first, deleted after the new directory is in place,
    and moved back if that fails. The caller decides whether it may be replaced at all.
    """
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = _sibling(target, "new")
    fresh.mkdir()
    try:
        yield fresh
        _swap(fresh, target)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise


def _swap(fresh: Path, target: Path) -> None:
    # No portable call exchanges two directories, so for the instant between the two renames
    # `target` does not exist; at no time is it a mixture of old and new.
    if not target.exists():
        os.rename(fresh, target)
        return
    aside = _sibling(target, "old")
    os.rename(target, aside)
    try:
        os.rename(fresh, target)
    except BaseException:
        os.rename(aside, target)
        raise
    shutil.rmtree(aside)
