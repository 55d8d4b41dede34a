"""Small workers for the tests of engines: they stand at the top of a module, as Ray needs them."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from interp.errors import InputError


class Unpicklable(Exception):
    """An error that cannot be sent to another process."""

    def __init__(self) -> None:
        super().__init__("held a lock")
        self.lock = threading.Lock()


@dataclass
class Squares:
    """Squares its items; special items fail, die or hang, as its fields say.

    Each call leaves a line in `log`: a step, the item, the process and when it began and ended.
    """

    log: Path
    seconds: float = 0.0
    bad: int = -1  # raises
    deadly: int = -1  # kills its process whenever it is made
    deadly_once: int = -1  # kills it the first time
    unpicklable: int = -1
    hanging: int = -1

    def make(self, item: int) -> int:
        began = time.time()
        time.sleep(self.seconds)
        self._note("make", item, began)
        if item == self.bad:
            raise InputError(f"items must be good. Received {item}.")
        if item == self.unpicklable:
            raise Unpicklable
        if item == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        if item == self.deadly_once and not (self.log / "died").exists():
            (self.log / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if item == self.hanging:
            time.sleep(3600)
        return item

    def finish(self, made: int) -> tuple[int, int, int]:
        began = time.time()
        time.sleep(self.seconds)
        self._note("finish", made, began)
        return made**2, os.getpid(), torch.get_num_threads()

    def _note(self, step: str, item: int, began: float) -> None:
        name = f"{step}-{item}-{os.getpid()}-{began}-{time.time()}"
        (self.log / name).touch()


@dataclass(frozen=True)
class OpenSquares:
    """Opens `Squares` with these fields."""

    log: Path
    fields: tuple[tuple[str, Any], ...] = ()
    dies: bool = False
    faulty: bool = False

    def __call__(self) -> Squares:
        if self.dies:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.faulty:
            raise InputError("there is no such model. Received 'x'.")
        return Squares(self.log, **dict(self.fields))


def steps(log: Path) -> list[tuple[str, int, int, float, float]]:
    """What was done: step, item, process, when it began and ended; in the order of beginning."""
    rows = []
    for file in log.glob("*-*"):
        step, item, process, began, ended = file.name.split("-")
        rows.append((step, int(item), int(process), float(began), float(ended)))
    return sorted(rows, key=lambda row: row[3])
