"""Empty environments outside the checkout, and commands run in them as on a bare machine."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# What a machine may need to reach a package index; nothing else of this process is handed on.
_KEPT = ("PIP_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT", "http_proxy", "https_proxy")


@dataclass(frozen=True)
class Done:
    """A command that has ended: exit code, what it printed on both channels, seconds."""

    code: int
    told: str
    seconds: float


def bare(home: Path, *first: Path) -> dict[str, str]:
    """The variables of a process on a bare machine: a home of its own and a plain PATH.

    Args:
        home: An empty directory.
        *first: Directories in front of the system's on PATH.
    """
    kept = {name: value for name, value in os.environ.items() if name.startswith(_KEPT)}
    path = os.pathsep.join([*map(str, first), "/usr/local/bin", "/usr/bin", "/bin"])
    return {**kept, "HOME": str(home), "PATH": path, "LANG": "C.UTF-8"}


def run(command: Sequence[str], folder: Path, variables: dict[str, str]) -> Done:
    """Run a command in a folder with these variables and no others, to its end."""
    began = time.perf_counter()
    done = subprocess.run(
        command, cwd=folder, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL, text=True, check=False,
    )  # fmt: skip
    return Done(done.returncode, done.stdout, time.perf_counter() - began)


class Environment:
    """A virtual environment with nothing in it, and a folder of its own to work in."""

    def __init__(self, folder: Path, constraints: Path) -> None:
        self.folder = folder
        self.constraints = constraints
        self.bin = folder / "venv" / "bin"
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        self.variables = bare(self.home, self.bin)
        made = run([sys.executable, "-m", "venv", str(folder / "venv")], folder, self.variables)
        assert made.code == 0, made.told

    def install(self, archive: Path, *extras: str) -> Done:
        """Install a wheel or sdist with some of its extras."""
        wanted = f"interp[{','.join(extras)}] @ {archive.resolve().as_uri()}"
        pip = [str(self.bin / "python"), "-m", "pip", "install", "--quiet", "--no-input"]
        done = run([*pip, "-c", str(self.constraints), wanted], self.folder, self.variables)
        assert done.code == 0, done.told
        return done

    def call(self, *command: str) -> Done:
        """Run a program of the environment in its folder."""
        return run([str(self.bin / command[0]), *command[1:]], self.folder, self.variables)
