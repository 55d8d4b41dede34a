"""What a harvest survives: `python -m tests.interp.harvest.faults --kills 24`.

A dataset is made without faults. Then the same dataset is made again and again while its driver, a
worker or both are killed (SIGKILL) at random moments, until so many kills are done; each time the
same command goes on. The disk fills up; finished shards are damaged. Every dataset that comes of it
must equal the first bit for bit, row for row. Prints a table of what was done.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from interp.errors import InputError
from interp.harvest.dataset import ActivationDataset
from interp.harvest.journal import JOURNAL, read_journal
from interp.harvest.manifest import read_manifest
from interp.harvest.shard_files import SHARDS

DRIVER = """
import sys
from interp.engines import LocalEngine, RayEngine
from interp.errors import InterpError
from interp.harvest import CorpusSettings, harvest
model, text, out, engine, verify, tokens = sys.argv[1:]
engines = {"local": LocalEngine(), "ray": RayEngine(workers=2, threads_per_worker=1)}
try:
    harvest(
        model, CorpusSettings(files=(text,), length=64, max_tokens=int(tokens)),
        "blocks.*.hook_resid_post", out, dtype="float16", shard_tokens=2048, seed=3, sample=0.7,
        verify=verify == "verify", engine=engines[engine],
    )
except InterpError as fault:
    sys.exit(f"{type(fault).__name__}: {fault}")
"""
PATIENCE = 300.0  # seconds for one driver


@dataclass(frozen=True)
class Command:
    """One harvest, whoever makes it.

    Attributes:
        model: The directory of a model.
        text: The corpus.
        tokens: How many of its tokens are taken.
    """

    model: Path
    text: Path
    tokens: int

    def start(
        self, out: Path, engine: str, verify: bool = False, limit: int | None = None
    ) -> subprocess.Popen[str]:
        """Start a driver in a process of its own; `limit`: the largest file that it may write."""
        arguments = [self.model, self.text, out, engine, "verify" if verify else "-", self.tokens]

        def limited() -> None:
            if limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        return subprocess.Popen(
            [sys.executable, "-c", DRIVER, *map(str, arguments)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
            preexec_fn=limited,
        )  # fmt: skip

    def finish(self, out: Path, engine: str, verify: bool = False) -> None:
        """Run a driver that nothing happens to."""
        driver = self.start(out, engine, verify)
        _, told = driver.communicate(timeout=PATIENCE)
        assert driver.returncode == 0, told


def compare(out: Path, reference: Path) -> int:
    """Check that a dataset is the reference, bit for bit; gives the number of rows.

    Nothing may be missing, nothing twice, nothing left over.
    """
    data, whole = ActivationDataset(out), ActivationDataset(reference)
    assert data.verify() == []
    n_shards = whole.manifest.n_shards
    assert data.manifest.to_dict() == whole.manifest.to_dict()
    names = {
        str(file.relative_to(root))
        for root in (out, reference)
        for file in root.rglob("*")
        if file.is_file() and file.name not in (JOURNAL, ".lock")
    }
    for name in names:  # tokens, shards, row indexes, manifest: those that both have, and no others
        assert digest(out / name) == digest(reference / name), name
    receipts = [read_journal(root, n_shards) for root in (out, reference)]
    assert list(receipts[0]) == list(receipts[1]) == list(range(n_shards))
    assert [r.files for r in receipts[0].values()] == [r.files for r in receipts[1].values()]
    index = [data.rows.column(name).tolist() for name in ("sequence", "position")]
    places = set(zip(*index, strict=True))
    assert len(places) == len(data) == len(whole)
    assert data.promises_same_bits
    return len(data)


def digest(path: Path) -> str:
    """The SHA-256 of a file; of one that is not there, that it is not."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "not there"


def n_lines(out: Path) -> int:
    """How many shards were noted as finished, those that were made twice counted twice."""
    path = out / JOURNAL
    return path.read_bytes().count(b"\n") if path.exists() else 0


def corrupt(out: Path, chance: random.Random) -> list[int]:
    """Damage four shards, two of them by one bit each; gives their numbers.

    Checks on the way that the damage is found: by size at once, by checksum when it is asked for.
    """
    shards = chance.sample(range(read_manifest(out).n_shards), 4)
    *flipped, cut, gone = (out / SHARDS / f"{shard:05d}.safetensors" for shard in shards)
    for file in flipped:
        contents = bytearray(file.read_bytes())
        contents[chance.randrange(len(contents))] ^= 1 << chance.randrange(8)
        file.write_bytes(contents)
    assert ActivationDataset(out).verify() == sorted(shards[:2])
    cut.write_bytes(cut.read_bytes()[:-100])
    gone.unlink()
    with pytest.raises(InputError, match="verify=True"):
        ActivationDataset(out)
    return sorted(shards)


def descendants(process: int) -> dict[int, str]:
    """The command lines of all processes below one, by number."""
    parents, commands = {}, {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            state = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            line = (folder / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue  # it ended meanwhile
        parents[int(folder.name)], commands[int(folder.name)] = int(state[1]), line
    below, found = [process], {}
    while below:
        parent = below.pop()
        for child in [pid for pid, above in parents.items() if above == parent]:
            found[child] = commands[child]
            below.append(child)
    return found


def workers(driver: int) -> list[int]:
    """The processes of a driver's pool."""
    return [pid for pid, line in descendants(driver).items() if line.startswith("ray::Process")]


def kill(process: int) -> bool:
    """Kill a process; whether it was there."""
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


class Faults:
    """Runs the faults, and keeps count of what was done."""

    def __init__(self, command: Command, work: Path, seed: int, engines: list[str]) -> None:
        self.command, self.work, self.engines = command, work, engines
        self.chance = random.Random(seed)
        self.reference = work / "reference"
        self.done: dict[str, int] = {}
        self.began = time.monotonic()

    def note(self, what: str, times: int = 1) -> None:
        """Count what was done, and say so."""
        self.done[what] = self.done.get(what, 0) + times
        print(f"  {time.monotonic() - self.began:5.0f} s: {what} {self.done[what]}", flush=True)

    def kills(self, n: int) -> None:
        """Kill drivers and workers n times, in as many datasets as that takes."""
        killed = datasets = runs = 0
        while killed < n:
            out = self.work / f"killed-{datasets}"
            while not self._is_complete(out):
                engine = self.chance.choice(self.engines)
                driver = self.command.start(out, engine)
                runs += 1
                left = n - killed
                killed += self._harm(driver, out, engine, left) if left else self._wait(driver)
            rows = compare(out, self.reference)
            print(f"  {killed} of {n} kills after {runs} runs; {rows:,} rows are the reference's")
            shutil.rmtree(out)
            datasets += 1
        self.note("runs of the command", runs)

    def _wait(self, driver: subprocess.Popen[str]) -> int:
        _, told = driver.communicate(timeout=PATIENCE)
        assert driver.returncode == 0, told
        return 0

    def _is_complete(self, out: Path) -> bool:
        if not (out / "manifest.json").exists():
            return False
        n_shards = read_manifest(out).n_shards
        return len(read_journal(out, n_shards)) == n_shards

    def _harm(self, driver: subprocess.Popen[str], out: Path, engine: str, left: int) -> int:
        """Kill while a driver runs, until it ends; gives how many kills there were."""
        killed = 0
        while killed < left and self._await_moment(driver, out):
            aim = self.chance.choice(["worker", "worker", "driver", "both"])
            pool = workers(driver.pid) if engine == "ray" else []
            at_workers = [self.chance.choice(pool)] if pool and aim != "driver" else []
            for process in at_workers:
                if kill(process):
                    self.note(f"kills of a worker ({engine})")
                    killed += 1
            if aim == "worker" and pool:
                continue
            below = descendants(driver.pid)
            self.note(f"kills of a driver ({engine})", int(kill(driver.pid)))
            killed += 1
            driver.communicate()
            self._require_gone(below)
            return killed
        _, told = driver.communicate(timeout=PATIENCE)
        if driver.returncode != 0:  # chance met one item three times: the command is run again
            assert "workers died" in told or "died before they were open" in told, told
            self.note("runs that gave up after three deaths")
        return killed

    def _await_moment(self, driver: subprocess.Popen[str], out: Path) -> bool:
        """Wait for a random moment; whether the driver is still at work."""
        shards = n_lines(out) + self.chance.randrange(1, 4)
        until = time.monotonic() + self.chance.uniform(0, 12)
        early = self.chance.random() < 0.3  # before anything is written, too
        while driver.poll() is None:
            if time.monotonic() > until and (early or n_lines(out) >= shards):
                time.sleep(self.chance.uniform(0, 0.2))
                break
            time.sleep(0.01)
        return driver.poll() is None

    def _require_gone(self, processes: dict[int, str]) -> None:
        """Check that nothing that works outlives a driver; Ray's own agents take minutes to end."""
        processes = {p: line for p, line in processes.items() if "Agent" not in line}
        until = time.monotonic() + 180
        while left := [line for process, line in processes.items() if _is_alive(process)]:
            assert time.monotonic() < until, f"these outlive their driver: {left}"
            time.sleep(0.1)

    def interrupt(self) -> None:
        """Ctrl-C: finished shards are told, and nothing is left behind."""
        for engine in self.engines:
            out = self.work / f"interrupted-{engine}"
            driver = self.command.start(out, engine)
            while n_lines(out) < 2 and driver.poll() is None:
                time.sleep(0.01)
            below = descendants(driver.pid)
            os.kill(driver.pid, signal.SIGINT)
            driver.communicate(timeout=PATIENCE)
            assert driver.returncode not in (0, None)
            self._require_gone(below)
            self.command.finish(out, engine)
            compare(out, self.reference)
            shutil.rmtree(out)
            self.note(f"interrupts ({engine})")

    def full_disk(self) -> None:
        """A small disk that fills up; then it grows, and the same command goes on."""
        disk = self.work / "disk"
        disk.mkdir()
        size = sum(f.stat().st_size for f in self.reference.rglob("*") if f.is_file())
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size // 2}", "tmpfs", str(disk)]
        mounted = os.geteuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0
        for engine in self.engines if mounted else []:
            out = disk / engine
            self._refused(self.command.start(out, engine))
            assert n_lines(out) > 0, "nothing was finished before the disk was full"
            subprocess.run(["mount", "-o", f"remount,size={3 * size}", str(disk)], check=True)
            self.command.finish(out, engine)
            compare(out, self.reference)
            assert n_lines(out) == read_manifest(out).n_shards, "some were made twice"
            shutil.rmtree(out)
            subprocess.run(["mount", "-o", f"remount,size={size // 2}", str(disk)], check=True)
            self.note(f"full disks ({engine})")
        if mounted:
            subprocess.run(["umount", str(disk)], check=True)
        limited = self.work / "limited"
        self._refused(self.command.start(limited, "local", limit=200_000))
        self.command.finish(limited, "local")
        compare(limited, self.reference)
        self.note("files over a limit (local)")

    def _refused(self, driver: subprocess.Popen[str]) -> None:
        _, told = driver.communicate(timeout=PATIENCE)
        assert driver.returncode == 1 and "no space left" in told, (driver.returncode, told)

    def corruption(self) -> None:
        """Damaged shards are found by their checksums, and made again alone."""
        for engine in self.engines:
            out = self.work / f"corrupt-{engine}"
            shutil.copytree(self.reference, out)
            damaged = corrupt(out, self.chance)
            before = n_lines(out)
            self.command.finish(out, engine, verify=True)
            assert n_lines(out) - before == len(damaged)
            compare(out, self.reference)
            shutil.rmtree(out)
            self.note(f"damaged shards, found and made again ({engine})", len(damaged))


def _is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def main(arguments: list[str]) -> None:
    """Run all faults and print what was done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tokens", type=int, default=150_000, help="of the corpus")
    parser.add_argument("--engine", action="append", choices=["local", "ray"])
    data = Path(__file__).resolve().parents[4] / "shared" / "data"
    parser.add_argument("--model", type=Path, default=data / "stories260K")
    parser.add_argument("--text", type=Path, default=data / "tinyshakespeare.txt")
    parser.add_argument("--work", type=Path, help="an empty directory; else a temporary one")
    chosen = parser.parse_args(arguments)
    for path in (chosen.model, chosen.text):
        if not path.exists():
            raise SystemExit(f"{path} is not there: give --model and --text")
    work = chosen.work or Path(tempfile.mkdtemp(prefix="faults-"))
    work.mkdir(parents=True, exist_ok=True)
    command = Command(chosen.model, chosen.text, chosen.tokens)
    faults = Faults(command, work, chosen.seed, chosen.engine or ["local", "ray"])
    command.finish(faults.reference, "local")
    rows = compare(faults.reference, faults.reference)
    print(f"reference: {rows:,} rows in {read_manifest(faults.reference).n_shards} shards")
    steps: list[tuple[str, Callable[[], None]]] = [
        ("kills", lambda: faults.kills(chosen.kills)),
        ("interrupts", faults.interrupt),
        ("full disks", faults.full_disk),
        ("damaged shards", faults.corruption),
    ]
    for name, step in steps:
        began = time.monotonic()
        step()
        print(f"  {name}: {time.monotonic() - began:.0f} s")
    for what, times in sorted(faults.done.items()):
        print(f"{what:<48} {times:>5}")
    print("every dataset equals the reference bit for bit: nothing lost, nothing twice")
    if chosen.work is None:
        shutil.rmtree(work)


if __name__ == "__main__":
    main(sys.argv[1:])
