"""One damaged input after another, each with a limit, and what came of it."""

from __future__ import annotations

import random
import shutil
import signal
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from interp.errors import InterpError
from tests.fuzz.mutations import damage_folder, mutate_files
from tests.fuzz.targets import TARGETS, Target

SECONDS = 20  # for one input; on a machine that does other things too
_LONGEST_MESSAGE = 4000


@dataclass(frozen=True)
class Outcome:
    """What came of an input.

    Attributes:
        number: Which one; with the seed it makes the input again.
        target: What read it.
        kind: `read`, `refused`, or what went wrong.
        told: Of a fault: where.
    """

    number: int
    target: str
    kind: str
    told: str = ""

    @property
    def is_fault(self) -> bool:
        """Whether something went wrong."""
        return self.kind not in ("read", "refused")


class Slow(BaseException):
    """An input took too long."""


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise Slow

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Fuzzer:
    """Makes inputs by number and has them read.

    Args:
        seed: With an input's number, decides all of it.
        names: The targets. Empty: all.
    """

    def __init__(self, seed: int, names: tuple[str, ...] = ()) -> None:
        self.seed = seed
        chosen = [target for target in TARGETS if not names or target.name in names]
        self._turns = [target for target in chosen for _ in range(target.weight)]

    def one(self, number: int) -> Outcome:
        """Make an input, have it read, and say what came of it."""
        target = self._turns[number % len(self._turns)]
        rng = random.Random(f"{self.seed}:{number}")
        files = mutate_files(target.files(), rng)
        with tempfile.TemporaryDirectory(prefix="fuzz-") as made:
            folder = Path(made) / "input"
            _write(folder, files)
            damage_folder(folder, rng)
            before = _listing(Path(made))
            kind, told = _read(target, folder)
            if kind in ("read", "refused") and _listing(Path(made)) != before:
                kind, told = "left something behind", str(_listing(Path(made)))
        return Outcome(number, target.name, kind, told)


def _write(folder: Path, files: dict[str, bytes]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def _read(target: Target, folder: Path) -> tuple[str, str]:
    start = time.perf_counter()
    try:
        with _limited(SECONDS):
            target.read(folder)
    except InterpError as fault:
        told = str(fault)
        if len(told) > _LONGEST_MESSAGE or "\n" in told or not _shows(told):
            return "a message out of bounds", told[:600].encode(
                "utf-8", "backslashreplace"
            ).decode()
        return "refused", ""
    except Slow:
        return "slow", f"{time.perf_counter() - start:.1f} s: {traceback.format_exc()[-800:]}"
    except BaseException as fault:
        if isinstance(fault, KeyboardInterrupt | SystemExit):
            raise
        return type(fault).__name__, "".join(traceback.format_exception(fault)[-4:])[-1500:]
    return "read", ""


def _shows(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
