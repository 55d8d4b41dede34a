"""Harvests in processes that can be killed, and the Ray that they join, for `faults.py`."""

from __future__ import annotations

import multiprocessing
import os
import resource
import secrets
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Self

from interp.engines import LocalEngine, RayEngine
from interp.harvest import CorpusSettings, harvest

PATIENCE = 180.0  # seconds for one driver
LOCAL, RAY, OWN_RAY = "local", "Ray", "a Ray of its own"
ENGINES = (LOCAL, RAY, OWN_RAY)


def context() -> multiprocessing.context.ForkServerContext:
    """What starts drivers: forked from a process that has imported all and computed nothing."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(
        ["ray", "pyarrow.parquet", "pytest", "tests.interp.harvest.drivers"]
    )
    return found


@dataclass(frozen=True)
class Command:
    """One harvest, whoever makes it.

    Attributes:
        model: The directory of a model.
        corpus: A file of documents that are tokens.
        address: Of the Ray that drivers join.
    """

    model: Path
    corpus: Path
    address: str = ""

    def run(self, out: Path, engine: str, verify: bool = False) -> None:
        """Make the dataset, or what is missing of it."""
        engines = {
            LOCAL: LocalEngine(),
            RAY: RayEngine(workers=2, threads_per_worker=1, address=self.address or None),
            OWN_RAY: RayEngine(workers=2, threads_per_worker=1),
        }
        harvest(
            str(self.model), CorpusSettings(files=(str(self.corpus),), column="ids", length=64),
            "blocks.*.hook_resid_post", out, dtype="float16", shard_tokens=8192, batch_size=16,
            seed=3, sample=0.2, verify=verify, engine=engines[engine],
        )  # fmt: skip

    def start(
        self, out: Path, engine: str, verify: bool = False, limit: int | None = None
    ) -> Driver:
        """Start a driver; `limit`: the largest file that it may write."""
        told = out.parent / f"{out.name}.told"
        arguments = (self, out, engine, verify, limit, told)
        process = context().Process(target=_drive, args=arguments)
        process.start()
        return Driver(process, told)

    def finish(self, out: Path, engine: str, verify: bool = False) -> None:
        """Run a driver that nothing happens to."""
        driver = self.start(out, engine, verify)
        assert driver.wait() == 0, driver.told


def _drive(
    command: Command, out: Path, engine: str, verify: bool, limit: int | None, told: Path
) -> None:
    with told.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    import torch

    torch.set_num_threads(1)
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    command.run(out, engine, verify)


@dataclass(frozen=True)
class Driver:
    """A harvest that runs.

    Attributes:
        process: Its process.
        output: Where its messages go.
    """

    process: BaseProcess
    output: Path

    @property
    def pid(self) -> int:
        """Its number."""
        assert self.process.pid is not None
        return self.process.pid

    @property
    def told(self) -> str:
        """Its messages."""
        return self.output.read_text(errors="replace") if self.output.exists() else ""

    def runs(self) -> bool:
        """Whether it has not ended."""
        return self.process.is_alive()

    def wait(self) -> int:
        """Wait until it ends; gives its exit status."""
        self.process.join(PATIENCE)
        assert self.process.exitcode is not None, f"a driver hangs: {self.told}"
        return self.process.exitcode


@dataclass
class Head:
    """A Ray on this machine, started as one starts a cluster's first node; `stop` ends it."""

    address: str
    process: subprocess.Popen[bytes]

    @classmethod
    def start(cls, log: Path) -> Self:
        """Start it, and wait until it can be joined."""
        # Drivers, which are started later, have these from here.
        os.environ.update({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)})
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        arguments = [
            "start", "--head", f"--port={port}", "--node-ip-address=127.0.0.1", "--num-cpus=2",
            "--include-dashboard=false", "--object-store-memory=100000000", "--disable-usage-stats",
            "--block",
        ]  # fmt: skip
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "ray.scripts.scripts", *arguments],
                stdout=file, stderr=file, start_new_session=True,
            )  # fmt: skip
        until = time.monotonic() + PATIENCE
        while "To terminate the Ray runtime" not in log.read_text(errors="replace"):
            assert process.poll() is None and time.monotonic() < until, log.read_text()
            time.sleep(0.1)
        return cls(f"127.0.0.1:{port}", process)

    def stop(self) -> None:
        """End it, and whatever it started."""
        below = descendants(self.process.pid)
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
        for process in below:
            kill(process)


@dataclass
class Orphans:
    """Processes whose driver was killed: they have to end soon.

    Ray's own agents, which write nothing of ours, are granted more: they try to tell a Ray that is
    dead of it for a minute first.

    Attributes:
        longest: How long one of them lived on, in seconds, by what it was and its driver's engine.
    """

    longest: dict[tuple[str, str], float] = field(default_factory=dict)
    _since: dict[int, tuple[float, str, str]] = field(default_factory=dict)

    def add(self, processes: dict[int, str], engine: str) -> None:
        """Their driver was killed now."""
        now = time.monotonic()
        self._since |= {pid: (now, line, engine) for pid, line in processes.items()}

    def look(self, agents: bool = False) -> set[int]:
        """Those that are left, with or without agents; none may be for too long."""
        now, left = time.monotonic(), set()
        for process, (since, line, engine) in list(self._since.items()):
            is_agent = "Agent" in line
            kind = "Ray's agents" if is_agent else "workers, and all else"
            self.longest[kind, engine] = max(self.longest.get((kind, engine), 0.0), now - since)
            if not is_alive(process):
                del self._since[process]
                continue
            most = 300.0 if is_agent else 60.0
            assert now - since < most, f"this outlives its driver: {line!r}"
            if agents or not is_agent:
                left.add(process)
        return left

    def await_end(self, agents: bool = False) -> None:
        """Wait until all are gone."""
        while self.look(agents):
            time.sleep(0.1)


def descendants(process: int) -> dict[int, str]:
    """The command lines of all processes below one, by number."""
    parents, commands = {}, {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            state = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it ended meanwhile
        parents[int(folder.name)], commands[int(folder.name)] = int(state[1]), line.strip()
    below, found = [process], {}
    while below:
        parent = below.pop()
        for child in [pid for pid, above in parents.items() if above == parent]:
            found[child] = commands[child]
            below.append(child)
    return found


def workers(above: int) -> dict[int, str]:
    """The processes of pools below a process."""
    return {pid: line for pid, line in descendants(above).items() if line.startswith("ray::Proc")}


def is_alive(process: int) -> bool:
    """Whether a process runs."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def kill(process: int) -> bool:
    """Kill a process; whether it was there."""
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True
