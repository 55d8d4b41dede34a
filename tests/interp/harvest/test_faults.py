"""The quick part of `python -m tests.interp.harvest.faults`: one process, forked and killed."""

import json
import os
import random
import shutil
import signal
import time

import pytest

from interp.engines import LocalEngine
from interp.harvest import CorpusSettings, DiskError, harvest
from interp.harvest.worker import ShardWorker
from tests.covering import EXHAUSTIVE
from tests.interp.harvest.faults import compare, corrupt, n_lines


@pytest.fixture
def make(tmp_path, make_model):
    """Makes the dataset in a directory of this name; gives the directory."""
    documents = tmp_path / "tokens.jsonl"
    chance = random.Random(0)
    rows = [{"ids": [chance.randrange(31) for _ in range(40)]} for _ in range(120)]
    documents.write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = make_model()
    corpus = CorpusSettings(files=(str(documents),), column="ids", length=16)

    def make(name, verify=False, engine="local"):
        harvest(
            model, corpus, "blocks.*.hook_resid_post", tmp_path / name, dtype="float16",
            shard_tokens=128, batch_size=4, verify=verify, engine=engine,
        )  # fmt: skip
        return tmp_path / name

    return make


class Slow(LocalEngine):
    """An engine whose worker is slow enough to be killed at work."""

    def run(self, open_worker, items, done):
        super().run(lambda: SlowWorker(open_worker()), items, done)


class SlowWorker:
    def __init__(self, worker: ShardWorker) -> None:
        self.worker = worker
        self.finish = worker.finish

    def make(self, item):
        time.sleep(0.01)
        return self.worker.make(item)


def test_a_driver_that_is_killed_at_any_moment_loses_and_doubles_nothing(make, tmp_path):
    reference = make("reference")
    out, chance = tmp_path / "killed", random.Random(1)
    kills = 0
    n = 8 if EXHAUSTIVE else 5
    for _ in range(n):
        process = os.fork()
        if process == 0:  # the driver
            try:
                make("killed", engine=Slow())
            finally:
                os._exit(0)
        before, until = n_lines(out), time.monotonic() + 20
        while n_lines(out) < before + 2 and time.monotonic() < until:
            time.sleep(0.002)
            if os.waitpid(process, os.WNOHANG)[0]:
                process = 0
                break
        if process:
            time.sleep(chance.uniform(0, 0.03))
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            kills += 1
    assert kills >= n // 2 + n % 2
    make("killed")
    assert compare(out, reference) == n_rows(reference)


def n_rows(reference):
    lines = (reference / "journal.jsonl").read_text().splitlines()
    return sum(json.loads(line)["rows"] for line in lines)


def test_damaged_shards_are_found_and_made_again_alone(make, tmp_path):
    reference = make("reference")
    out = tmp_path / "damaged"
    shutil.copytree(reference, out)
    damaged = corrupt(out, random.Random(2))
    before = n_lines(out)
    make("damaged", verify=True)
    assert n_lines(out) - before == len(damaged) == 4
    compare(out, reference)


def test_a_full_disk_keeps_what_is_finished(make, tmp_path, monkeypatch):
    reference = make("reference")
    real, calls = ShardWorker.finish, []

    def finish(self, made):
        calls.append(made.shard)
        if len(calls) == 5:
            import resource

            limits = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limits[1]))
            try:
                return real(self, made)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        return real(self, made)

    monkeypatch.setattr(ShardWorker, "finish", finish)
    with pytest.raises(DiskError, match="no space left"):
        make("full")
    assert n_lines(tmp_path / "full") == 4
    monkeypatch.undo()
    compare(make("full"), reference)
    assert n_lines(tmp_path / "full") == n_lines(reference)
