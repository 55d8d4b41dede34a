"""What a harvest survives: `python -m tests.interp.harvest.faults --kills 24`.

A dataset is made without faults. Then the same dataset is made again and again while its driver, a
worker or both are killed (SIGKILL) at random moments; each time the same command goes on, at once.
Drivers are interrupted; the disk fills up; finished shards are damaged. Every dataset that comes of
it must equal the first bit for bit, row for row. Tells how far it is on stderr, and what was done
as Markdown on stdout.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from interp import HookedTransformer, HookedTransformerConfig
from interp.errors import InputError
from interp.harvest.dataset import ActivationDataset
from interp.harvest.journal import JOURNAL, read_journal
from interp.harvest.manifest import read_manifest
from interp.harvest.shard_files import SHARDS
from tests.interp.harvest.drivers import (
    ENGINES,
    LOCAL,
    OWN_RAY,
    RAY,
    Command,
    Driver,
    Head,
    Orphans,
    descendants,
    kill,
    workers,
)

WORKER, DRIVER, BOTH = "a worker", "a driver", "a worker and its driver at once"
# Of 24 kills: what is killed, how often, under which engine. Killing both is two.
KILLS = ((RAY, WORKER, 8), (RAY, DRIVER, 4), (RAY, BOTH, 2), (OWN_RAY, BOTH, 1), (LOCAL, DRIVER, 6))
N_KILLS = sum(times * (2 if what == BOTH else 1) for _, what, times in KILLS)


def prepare(work: Path, tokens: int, seed: int) -> Command:
    """Save a small random model, and documents of random tokens."""
    import torch

    torch.manual_seed(seed)
    cfg = HookedTransformerConfig(
        n_layers=4, d_model=64, n_ctx=64, n_heads=4, d_head=16, d_mlp=256, act_fn="gelu",
        d_vocab=101, device="cpu",
    )  # fmt: skip
    HookedTransformer(cfg).save(work / "model")
    chance, left, lines = random.Random(seed), tokens, []
    while left > 0:
        length = min(left, chance.randrange(20, 2000))
        lines.append(json.dumps({"ids": chance.choices(range(cfg.d_vocab), k=length)}) + "\n")
        left -= length
    (work / "corpus.jsonl").write_text("".join(lines))
    return Command(work / "model", work / "corpus.jsonl")


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


@contextmanager
def small_disk(at: Path, size: int) -> Iterator[Callable[[int], object] | None]:
    """A disk of so many bytes, and what gives it another size; None where none can be mounted."""
    at.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(at)]
    mounted = os.geteuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0

    def resize(size: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", str(at)], check=True)

    try:
        yield resize if mounted else None
    finally:
        if mounted:  # lazily: a worker that is ending may still have its files open
            subprocess.run(["umount", "--lazy", str(at)], check=True)
        at.rmdir()


class Faults:
    """Runs the faults, and keeps count of what was done.

    Args:
        command: The harvest.
        head: The Ray that drivers join.
        work: A directory for datasets.
        seed: Of the moments.
    """

    def __init__(self, command: Command, head: Head, work: Path, seed: int) -> None:
        self.command, self.head, self.work = command, head, work
        self.chance = random.Random(seed)
        self.reference = work / "reference"
        self.done: dict[tuple[str, str], int] = {}
        self.orphans = Orphans()
        self.began = time.monotonic()

    def note(self, what: str, engine: str, times: int = 1) -> None:
        """Count what was done, and say so."""
        self.done[what, engine] = self.done.get((what, engine), 0) + times
        self.say(f"{what} ({engine}): {self.done[what, engine]}")

    def say(self, what: str) -> None:
        """Tell whoever waits."""
        print(f"  {time.monotonic() - self.began:5.1f} s: {what}", file=sys.stderr, flush=True)

    def kills(self, n: int) -> None:
        """Kill drivers and workers n times, in as many datasets as that takes."""
        planned: dict[str, list[str]] = {}
        for engine, what, times in KILLS:
            planned.setdefault(engine, []).extend([what] * max(1, round(times * n / N_KILLS)))
        for each in planned.values():
            self.chance.shuffle(each)
        number = 0
        while any(planned.values()):
            out = self.work / f"killed-{number}"
            while not self._is_complete(out):
                left = [engine for engine, each in planned.items() for _ in each]
                engine = self.chance.choice(left or [LOCAL, RAY])
                driver = self.command.start(out, engine)
                self.note("runs of the command", engine)
                self._harm(driver, out, engine, planned.get(engine, []))
            self._check(out)
            number += 1
        self.orphans.await_end()

    def _is_complete(self, out: Path) -> bool:
        if not (out / "manifest.json").exists():
            return False
        n_shards = read_manifest(out).n_shards
        return len(read_journal(out, n_shards)) == n_shards

    def _check(self, out: Path) -> None:
        """Compare a finished dataset with the reference, and remove it."""
        rows, made = compare(out, self.reference), n_lines(out)
        self.say(f"{out.name}: all {rows:,} rows, once each, are the reference's ({made} shards)")
        self.note("datasets compared with the reference", "any")
        shutil.rmtree(out)

    def _harm(self, driver: Driver, out: Path, engine: str, planned: list[str]) -> None:
        """Kill what is planned while a driver runs, until it ends."""
        while planned and self._await_moment(driver, out, engine):
            what = planned[-1]
            pool = self._pool(driver, engine)
            if what != DRIVER and not pool:
                continue  # it was replaced, or ended, in this instant
            planned.pop()
            hit = self.chance.choice(list(pool)) if what != DRIVER else None
            below = {**pool, **(descendants(driver.pid) if engine != RAY else {})}
            killed = hit is not None and kill(hit)
            if killed:
                self.note(
                    "kills of " + (WORKER if what == WORKER else f"{WORKER}, with its driver"),
                    engine,
                )
            if what == WORKER:
                continue
            if kill(driver.pid):
                self.note(
                    "kills of " + (DRIVER if what == DRIVER else f"{DRIVER}, with a worker"), engine
                )
            driver.wait()
            self.orphans.add(below, engine)
            return  # the next driver starts at once, beside what is left of this one's pool
        if driver.wait() != 0:  # chance met one item three times: the command is run again
            told = driver.told
            assert "workers died" in told or "died before they were open" in told, told
            self.note("runs that gave up after three deaths", engine)

    def _pool(self, driver: Driver, engine: str) -> dict[int, str]:
        """The processes of a driver's pool."""
        found = workers(self.head.process.pid if engine == RAY else driver.pid)
        left = self.orphans.look()
        return {process: line for process, line in found.items() if process not in left}

    def _await_moment(self, driver: Driver, out: Path, engine: str) -> bool:
        """Wait for a random moment while shards are made; whether the driver is still at work."""
        shards = n_lines(out) + self.chance.randrange(1, 5)
        early = self.chance.random() < 0.2  # before this driver has anything finished, too
        until = time.monotonic() + (self.chance.uniform(0, 5) if early else 1e9)
        while driver.runs() and n_lines(out) < shards and time.monotonic() < until:
            time.sleep(0.01)
            self.orphans.look()
        time.sleep(self.chance.uniform(0, 0.5))
        return driver.runs()

    def interrupts(self) -> None:
        """Ctrl-C: what is finished is kept, and nothing is left behind."""
        for engine in ENGINES:
            out = self.work / "interrupted"
            driver = self.command.start(out, engine)
            while n_lines(out) < 3 and driver.runs():
                time.sleep(0.01)
            below = {**self._pool(driver, engine), **descendants(driver.pid)}
            os.kill(driver.pid, signal.SIGINT)
            assert driver.wait() != 0 and "KeyboardInterrupt" in driver.told
            self.orphans.add(below, f"{engine}, interrupted")
            self.orphans.await_end()
            self.command.finish(out, LOCAL)
            self._check(out)
            self.note("interrupts (SIGINT)", engine)

    def full_disks(self) -> None:
        """A small disk that fills up; then it grows, and the same command goes on."""
        size = sum(f.stat().st_size for f in self.reference.rglob("*") if f.is_file())
        for engine in (LOCAL, RAY):
            with small_disk(self.work / "disk", size // 2) as grow:
                if grow is None:
                    self.say("no small disk can be mounted: only root may")
                    break
                out = self.work / "disk" / "full"
                self._refused(self.command.start(out, engine))
                assert n_lines(out) > 0, "nothing was finished before the disk was full"
                grow(3 * size)
                self.command.finish(out, engine)
                assert n_lines(out) == read_manifest(out).n_shards, "some were made twice"
                self._check(out)
                self.note("full disks (tmpfs)", engine)
        limited = self.work / "limited"
        self._refused(self.command.start(limited, LOCAL, limit=500_000))
        self.command.finish(limited, LOCAL)
        self._check(limited)
        self.note("files over a limit (RLIMIT_FSIZE)", LOCAL)

    def _refused(self, driver: Driver) -> None:
        assert driver.wait() == 1 and "no space left" in driver.told, driver.told

    def damage(self) -> None:
        """Damaged shards are found by their checksums, and made again alone."""
        for engine in (LOCAL, RAY):
            out = self.work / "damaged"
            shutil.copytree(self.reference, out)
            damaged, before = corrupt(out, self.chance), n_lines(out)
            self.command.finish(out, engine, verify=True)
            assert n_lines(out) - before == len(damaged)
            self._check(out)
            self.note("shards damaged, found and made again alone", engine, len(damaged))


def main(arguments: list[str]) -> None:
    """Run all faults and print what was done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=24, help="about so many; some of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tokens", type=int, default=200_000, help="of the corpus")
    parser.add_argument("--work", type=Path, help="an empty directory, kept; else a temporary one")
    chosen = parser.parse_args(arguments)
    work = chosen.work or Path(tempfile.mkdtemp(prefix="faults-"))
    work.mkdir(parents=True, exist_ok=True)
    command = prepare(work, chosen.tokens, chosen.seed)
    head = Head.start(work / "ray.log")
    try:
        command = Command(command.model, command.corpus, head.address)
        faults = Faults(command, head, work, chosen.seed)
        command.finish(faults.reference, LOCAL)
        rows = compare(faults.reference, faults.reference)
        n_shards = read_manifest(faults.reference).n_shards
        steps: list[Callable[[], None]] = [
            lambda: faults.kills(chosen.kills), faults.interrupts, faults.full_disks, faults.damage,
        ]  # fmt: skip
        for step in steps:
            step()
        faults.orphans.await_end(agents=True)
    finally:
        head.stop()
        if chosen.work is None:
            shutil.rmtree(work, ignore_errors=True)
    print(report(faults, rows, n_shards, chosen.seed))


def report(faults: Faults, rows: int, n_shards: int, seed: int) -> str:
    """What was done, as Markdown."""
    kills = sum(times for (what, _), times in faults.done.items() if what.startswith("kills"))
    compared = faults.done["datasets compared with the reference", "any"]
    lines = [
        "# Faults made on purpose",
        "",
        "Printed by `make faults`: a harvest is killed (SIGKILL) at random moments, interrupted, "
        "its disk fills up, its files are damaged; each time the same command goes on. "
        f"Seed {seed}; a dataset of {rows:,} rows in {n_shards} shards; "
        f"{time.monotonic() - faults.began:.0f} s in all.",
        "",
        "| what | engine | times |",
        "|---|---|---:|",
        *(f"| {what} | {engine} | {n} |" for (what, engine), n in sorted(faults.done.items())),
        "",
        f"{kills} kills. Each of the {compared} datasets that came of it equals the one made "
        "without faults bit for bit: no row is missing, none is there twice, no file is left over.",
        "",
        "How long a process lived on at most after its driver had ended:",
        "",
        "| what | the driver's engine | seconds |",
        "|---|---|---:|",
        *(
            f"| {w} | {engine} | {s:.1f} |"
            for (w, engine), s in sorted(faults.orphans.longest.items())
        ),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main(sys.argv[1:])
