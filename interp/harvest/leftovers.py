"""What a harvest that was killed left half-done."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from interp.harvest.shard_files import SHARDS

MODEL = ".model"
"""The model of a harvest in memory, for the time that workers need it."""

_UNFINISHED = re.compile(r"\..+\.(new|old)-[0-9a-f]{8}")
# What safetensors writes under before it renames, beside the file that it was given.
_OF_SAFETENSORS = re.compile(r"\.tmp[0-9A-Za-z]{6}")


def remove_leftovers(out: Path) -> None:
    """Remove the files that a killed process had begun; for the lock's holder."""
    left = [path for folder in (out, out / SHARDS) if folder.is_dir() for path in folder.iterdir()]
    for path in left:
        of_shard = path.parent.name == SHARDS and _OF_SAFETENSORS.fullmatch(path.name)
        if not (is_unfinished(path.name) or of_shard or path == out / MODEL):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def is_unfinished(name: str) -> bool:
    """Whether a file or directory of this name is one that `interp.files.atomic` had begun."""
    return _UNFINISHED.fullmatch(name) is not None
