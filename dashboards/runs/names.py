"""Names of runs: plain directory names."""

from __future__ import annotations

import re
from pathlib import Path

from interp.errors import InputError

MAX_RUN_NAME = 100  # characters
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def require_run_name(name: str) -> None:
    """Check that a run may be called so.

    Raises:
        InputError: If the name is no plain directory name.
    """
    if not _NAME.fullmatch(name) or len(name) > MAX_RUN_NAME:
        raise InputError(
            f"a run's name takes letters, digits, '.', '-' and '_', {MAX_RUN_NAME} at most, and "
            f"begins with a letter or digit. Received {name!r}."
        )


def run_name(analysis: str, model: str | None) -> str:
    """What a run is called if nobody chooses: `head-attribution-induction`."""
    whose = (model or "").split(":")[-1].rstrip("/").split("/")[-1]
    wish = re.sub(r"[^A-Za-z0-9._]+", "-", f"{analysis}-{whose}")[:MAX_RUN_NAME]
    return wish.strip("-.") or "run"


def free_name(runs: Path, wish: str) -> str:
    """The wish, with a number behind it if that run exists.

    Raises:
        InputError: If the wish is no name for a run.
    """
    require_run_name(wish)
    name, number = wish, 1
    while (runs / name).exists():
        number += 1
        tail = f"-{number}"
        name = f"{wish[: MAX_RUN_NAME - len(tail)]}{tail}"
    return name
