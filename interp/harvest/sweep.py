"""What a harvest that was killed left half-done."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from interp.harvest.shard_files import SHARDS

MODEL = ".model"
"""The model of a harvest in memory, for the time that workers need it."""

_UNFINISHED = re.compile(r"\..+\.(new|old)-[0-9a-f]{8}")


def sweep(out: Path) -> None:
    """Remove what `interp.atomic` had begun when its process was killed; for the lock's holder."""
    left = [path for folder in (out, out / SHARDS) if folder.is_dir() for path in folder.iterdir()]
    for path in left:
        if not (is_unfinished(path.name) or path == out / MODEL):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def is_unfinished(name: str) -> bool:
    """Whether a file or directory of this name is one that `interp.atomic` had begun."""
    return _UNFINISHED.fullmatch(name) is not None
