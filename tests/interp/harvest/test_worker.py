"""Workers: opened from a name or a model, and dropped with their driver."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from interp.errors import InputError
from interp.files.lock import LockedError, locked
from interp.harvest import harvest
from interp.harvest.journal import read_journal
from interp.harvest.statistics import HookStatistics, read_statistics
from interp.harvest.worker import ShardWorker, ShardWorkerFactory


@pytest.fixture
def harvested(make_model: Callable[..., Any], token_corpus: Any, tmp_path: Path) -> Any:
    model = make_model()
    out = tmp_path / "out"
    corpus = token_corpus([[i % 31 for i in range(90)]], length=6)
    harvest(model, corpus, "hook_embed", out, shard_tokens=30, statistics=["moments"])
    return model, out


def test_a_worker_elsewhere_makes_the_same_files(harvested: Any, tmp_path: Path) -> None:
    model, out = harvested
    before = read_journal(out, 3)
    model.save(tmp_path / "saved")
    with locked(out) as token:
        factory = ShardWorkerFactory(str(tmp_path / "saved"), str(out), token)
        worker: ShardWorker = pickle.loads(pickle.dumps(factory))()
        for shard, receipt in before.items():
            for entry in receipt.files.values():
                (out / entry.name).unlink()
            assert worker.finish(worker.make(shard)) == receipt


def test_another_model_is_refused(harvested: Any, make_model: Any, tmp_path: Path) -> None:
    _, out = harvested
    other = make_model()
    with torch.no_grad():
        other.embed.W_E[0, 0] += 1
    other.save(tmp_path / "other")
    with pytest.raises(InputError, match="must have the driver's model"):
        ShardWorkerFactory(str(tmp_path / "other"), str(out), "")()


def test_a_worker_whose_driver_is_gone_changes_nothing(harvested: Any) -> None:
    model, out = harvested
    with locked(out) as token:
        worker = ShardWorkerFactory(model, str(out), token)()
        made = worker.make(0)
    (out / "shards/00000.safetensors").write_bytes(b"the next driver's")
    with locked(out), pytest.raises(LockedError):
        worker.finish(made)
    assert (out / "shards/00000.safetensors").read_bytes() == b"the next driver's"
    assert not [path for path in (out / "shards").iterdir() if path.name.startswith(".")]


def test_statistics_are_of_the_rows_as_stored(harvested: Any) -> None:
    model, out = harvested
    with locked(out) as token:
        made = ShardWorkerFactory(model, str(out), token)().make(1)
    path = out / "shards/00001.statistics.safetensors"
    found = read_statistics(path, "hook_embed", ["moments"], (24,), 30)
    expected = HookStatistics.measure(made.hooks["hook_embed"], ["moments"])
    assert torch.equal(found.mean, expected.mean) and found.n_rows == 30
    assert torch.allclose(found.mean, made.hooks["hook_embed"].double().mean(0), atol=1e-12)
