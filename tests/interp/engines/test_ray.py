"""A pool on one small Ray of this machine, which all tests here share."""

import itertools
import json
import os
import random
import time

import pandas as pd
import pytest

pytest.importorskip("ray", reason="needs the extra 'scale'")

import ray

from analyses import AnalysisResult, run_grid
from interp.engines import EngineError, RayEngine, ray_cluster, ray_pool
from interp.engines.ray_cluster import connected, find_share
from interp.errors import InputError
from interp.harvest import CorpusSettings, harvest
from tests.covering import EXHAUSTIVE
from tests.interp.engines.workers import OpenSquares, Unpicklable, steps
from tests.interp.harvest.faults import compare

# A process takes seconds of a core to start, so only some of these tests run in `make test`.
slow = pytest.mark.skipif(not EXHAUSTIVE, reason="starts many processes: make test-exhaustive")


@pytest.fixture(scope="module", autouse=True)
def shared_ray():
    with connected(None):
        yield


def is_alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{process}/stat") as file:
        return file.read().rsplit(")", 1)[1].split()[0] != "Z"


def run(engine, opener, items):
    told = []
    try:
        engine.run(opener, items, lambda item, result: told.append((item, result)))
    except Exception as fault:
        return told, fault
    return told, None


def test_a_pool_does_each_item_once_though_a_process_dies(tmp_path, capfd):
    fields = (("seconds", 0.05), ("deadly_once", 4))
    told, fault = run(RayEngine(workers=2), OpenSquares(tmp_path, fields), range(12))
    assert fault is None
    assert sorted((item, result[0]) for item, result in told) == [(i, i * i) for i in range(12)]
    assert (tmp_path / "died").exists()
    assert {threads for _, (_, _, threads) in told} == {max(1, len(os.sched_getaffinity(0)) // 2)}
    done = steps(tmp_path)
    processes = {process for _, _, process, _, _ in done}
    assert len(processes) >= 2 and os.getpid() not in processes
    by_process = [[row for row in done if row[2] == process] for process in processes]
    for rows in by_process:  # two of a step never overlap in a process, …
        for step in ("make", "finish"):
            of_step = [row for row in rows if row[0] == step]
            assert all(a[4] <= b[3] + 1e-3 for a, b in itertools.pairwise(of_step))
    assert any(  # … but what was made is finished while the next is made
        a[3] < b[4] and b[3] < a[4]
        for rows in by_process
        for a in rows for b in rows
        if a[0] == "make" and b[0] == "finish"
    )  # fmt: skip
    until = time.time() + 10
    while any(map(is_alive, processes)) and time.time() < until:
        time.sleep(0.05)
    assert not any(map(is_alive, processes))
    assert capfd.readouterr() == ("", "")


def test_an_error_of_a_worker_is_raised_as_it_was_after_what_was_finished(tmp_path):
    told, fault = run(RayEngine(workers=1), OpenSquares(tmp_path, (("bad", 5),)), range(60))
    assert type(fault) is InputError
    assert str(fault) == "items must be good. Received 5."
    assert "in make" in fault.__notes__[0]
    items = {item for item, _ in told}
    assert {0, 1, 2, 3} <= items and 5 not in items
    assert max(items) < 30  # some are done or handed out before the fault is noticed, not all
    assert sum(row[:2] == ("make", 5) for row in steps(tmp_path)) == 1  # it is not tried again


def test_a_harvest_is_the_same_bits_as_made_here(tmp_path, make_model):
    text, pool = tmp_path / "tokens.jsonl", RayEngine(workers=1, threads_per_worker=1)
    chance = random.Random(0)
    rows = [{"ids": [chance.randrange(31) for _ in range(40)]} for _ in range(60)]
    text.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, engine in (("local", "local"), ("ray", pool)):
        harvest(
            make_model(), CorpusSettings(files=(str(text),), column="ids", length=16),
            "blocks.*.hook_resid_post", tmp_path / name, shard_tokens=256, batch_size=4,
            engine=engine,
        )  # fmt: skip
    assert compare(tmp_path / "ray", tmp_path / "local") > 2000


@slow
def test_a_grid_is_the_same_bits_as_made_here(tmp_path, make_model):
    make_model().save(tmp_path / "model")
    pool = RayEngine(workers=1, threads_per_worker=1)
    for name, engine in (("local", "local"), ("ray", pool)):
        run_grid(
            "head-attribution", [tmp_path / "model"], {"target": 4}, quick=True,
            grid={"tokens": [[1, 2, 3], [5, 6, 7, 8]]},
            out=tmp_path / name, engine=engine, pictures=False,
        )  # fmt: skip
    here, there = (AnalysisResult.load(tmp_path / name) for name in ("local", "ray"))
    assert here.tables.keys() == there.tables.keys() and len(here.tables) > 2
    for name, table in here.tables.items():
        pd.testing.assert_frame_equal(there.tables[name], table, check_exact=True)


@slow
def test_what_goes_wrong_in_a_process_is_told(tmp_path):
    """One pool after another: an opener that fails, an error that cannot be sent, a hang."""
    one = RayEngine(workers=1)
    _, fault = run(one, OpenSquares(tmp_path, faulty=True), [0])
    assert type(fault) is InputError and str(fault) == "there is no such model. Received 'x'."
    _, fault = run(one, OpenSquares(tmp_path, (("unpicklable", 0),)), [0])
    assert not isinstance(fault, Unpicklable) and "Unpicklable" in str(fault)
    stalling = RayEngine(workers=1, stall_seconds=3)
    told, fault = run(stalling, OpenSquares(tmp_path, (("hanging", 2),)), [2])
    assert isinstance(fault, EngineError) and told == []
    assert "nothing was done for 3 s" in str(fault) and "with items [2] in hand" in str(fault)


@slow
def test_an_item_that_kills_every_process_is_named(tmp_path):
    told, fault = run(RayEngine(workers=1), OpenSquares(tmp_path, (("deadly", 1),)), [0, 1, 2])
    assert isinstance(fault, EngineError)
    assert "3 workers died while they had item 1 in hand" in str(fault)
    assert {item for item, _ in told} <= {0, 2}


@slow
def test_workers_that_die_while_they_open_end_the_work(tmp_path):
    _, fault = run(RayEngine(workers=1), OpenSquares(tmp_path, dies=True), [0])
    assert isinstance(fault, EngineError)
    assert "3 workers in a row died before they were open" in str(fault)


def test_room_that_no_cluster_has_is_told_at_once(tmp_path):
    opener = OpenSquares(tmp_path)
    for engine in (
        RayEngine(workers=1, cpus_per_worker=1000),
        RayEngine(workers=1000, cpus_per_worker=0.5),
        RayEngine(workers=2, gpus_per_worker=100),
    ):
        began = time.time()
        _, fault = run(engine, opener, range(2000))
        assert time.time() - began < 2
        assert isinstance(fault, EngineError) and "CPU and 0 GPU are free" in str(fault)


@slow
def test_room_that_others_hold_is_told_soon(tmp_path, monkeypatch):
    monkeypatch.setattr(ray_cluster, "ROOM_SECONDS", 0.5)
    cpus = int(ray.cluster_resources()["CPU"])
    holder = ray.remote(ray_pool.Process).options(num_cpus=cpus).remote(1, False)
    try:
        ray.get(holder.placed.remote())
        _, fault = run(RayEngine(workers=1, cpus_per_worker=1), OpenSquares(tmp_path), [0])
    finally:
        ray.kill(holder)
    assert isinstance(fault, EngineError) and "others hold the room" in str(fault)
    assert "1 workers that reserve 1 CPU each" in str(fault)


@pytest.mark.parametrize("workers", [1, 2, 3, 7, 40])
def test_a_pool_leaves_something_to_others(workers):
    """The reservation is a fraction, of which all fit, whatever their number."""
    until = time.time() + 20
    total = ray.cluster_resources()["CPU"]
    while ray.available_resources().get("CPU", 0) < total and time.time() < until:
        time.sleep(0.05)  # what earlier tests held
    share = find_share(RayEngine(workers=workers), 100)
    assert share.workers == workers
    assert share.cpus * workers <= 0.9 * total
    assert share.threads == max(1, int(total // workers))
    assert find_share(RayEngine(workers=workers), 1).workers == 1


def test_a_process_is_in_one_ray_at_a_time(tmp_path):
    _, fault = run(RayEngine(address="10.0.0.1:6379"), OpenSquares(tmp_path), [0])
    assert isinstance(fault, InputError) and "Received '10.0.0.1:6379'" in str(fault)
    assert ray.is_initialized()
