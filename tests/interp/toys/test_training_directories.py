"""Trainings in a directory: they go on where they were stopped, and refuse what another left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from interp.errors import InputError
from interp.toys import (
    FiniteExamples,
    ModuleToy,
    ReconstructionLoss,
    SparseFeatures,
    ToyModel,
    ToySettings,
    train,
)
from tests.interp.toys.trained import (
    COUNT,
    DENSITY,
    POWER,
    SETTINGS,
    N,
    differences,
    made,
)


class Stopped(Exception):
    """What a run is interrupted with."""


@pytest.mark.parametrize("stop", [(0, 11), (1, 3), (2, 23)])
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: tuple[int, int]
) -> None:
    from interp.toys.step import Update

    whole, data, loss = made()
    expected = train(whole, data, loss, SETTINGS, chunk_size=2)
    calls = {"left": stop[0] * SETTINGS.steps + stop[1]}
    update = Update.__call__

    def interrupted(self: Update) -> None:
        if calls["left"] == 0:
            raise Stopped
        calls["left"] -= 1
        update(self)

    options: dict[str, Any] = {"chunk_size": 2, "directory": tmp_path, "checkpoint_every": 5}
    monkeypatch.setattr(Update, "__call__", interrupted)
    with pytest.raises(Stopped):
        train(*made(), SETTINGS, **options)
    calls["left"] = -1
    done = []

    def counted(self: Update) -> None:
        done.append(int(self.step))
        update(self)

    monkeypatch.setattr(Update, "__call__", counted)
    models, data, loss = made()
    run = train(models, data, loss, SETTINGS, **options)
    # Nothing that was saved is done again.
    assert len(done) == 3 * SETTINGS.steps - stop[0] * SETTINGS.steps - stop[1] // 5 * 5
    for name, value in whole.named_parameters():
        assert torch.equal(models.get_parameter(name), value)
    assert torch.equal(run.losses, expected.losses)
    for step, snapshot in expected.snapshots.items():
        for name, value in snapshot.items():
            assert torch.equal(run.snapshots[step][name], value)
    # And a finished run is only read.
    done.clear()
    again = train(*made(), SETTINGS, **options)
    assert not done and torch.equal(again.losses, expected.losses)


def interrupt(monkeypatch: pytest.MonkeyPatch, left: int) -> None:
    """Stop the next training after so many updates, and only that one."""
    from interp.toys.step import Update

    update = Update.__call__
    calls = iter(range(left))

    def interrupted(self: Update) -> None:
        if next(calls, None) is None:
            monkeypatch.setattr(Update, "__call__", update)
            raise Stopped
        update(self)

    monkeypatch.setattr(Update, "__call__", interrupted)


@pytest.mark.parametrize("decay", ["linear", "cosine"])
def test_a_run_goes_on_at_the_learning_rate_of_its_schedule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decay: Any
) -> None:
    settings = ToySettings(
        steps=24, batch_size=12, lr=1e-2, decay=decay, warmup_steps=7, log_every=1
    )
    interrupt(monkeypatch, 13)
    with pytest.raises(Stopped):
        train(*made(), settings, directory=tmp_path, checkpoint_every=5)
    models, data, loss = made()
    run = train(models, data, loss, settings, directory=tmp_path, checkpoint_every=5)
    assert differences(models, run, settings) < 1e-10


@pytest.mark.parametrize("batch_size", [None, 6])
def test_a_run_on_a_finite_set_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_size: int | None
) -> None:
    models, features, loss = made()
    data = FiniteExamples.of(features, [1, 4, 9, 2, 70])
    settings = ToySettings(steps=12, batch_size=batch_size, lr=1e-2)
    expected = train(models, data, loss, settings, chunk_size=2)
    options: dict[str, Any] = {"chunk_size": 2, "directory": tmp_path, "checkpoint_every": 5}
    interrupt(monkeypatch, 19)
    with pytest.raises(Stopped):
        train(made()[0], data, loss, settings, **options)
    resumed = made()[0]
    run = train(resumed, data, loss, settings, **options)
    assert torch.equal(resumed.W, models.W)
    assert torch.equal(run.losses, expected.losses)


@pytest.mark.parametrize("what", ["models", "data", "loss", "settings", "chunks"])
def test_a_directory_of_another_run_is_refused_by_name(tmp_path: Path, what: str) -> None:
    options: dict[str, Any] = {"directory": tmp_path, "chunk_size": 3}
    models, data, loss = made()
    train(models, data, loss, SETTINGS, **options)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    models, data, loss = made()
    settings = SETTINGS
    if what == "models":
        with torch.no_grad():
            models.W[4, 0, 0] += 1e-9
    elif what == "data":
        data = SparseFeatures.of(COUNT, N, DENSITY, seeds=41, dtype=torch.float64)
    elif what == "loss":
        loss = ReconstructionLoss.of(COUNT, N, power=POWER, dtype=torch.float64)
    elif what == "settings":
        settings = ToySettings(steps=24, batch_size=12, lr=3e-3, log_every=8, snapshots=(0, 9, 24))
    else:
        options["chunk_size"] = 5
    with pytest.raises(InputError, match=f"is of another run: its {what} differ"):
        train(models, data, loss, settings, **options)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_directory_of_other_models_with_the_same_weights_is_refused(tmp_path: Path) -> None:
    data, loss = SparseFeatures.of(2, 3), ReconstructionLoss.of(2, 3)
    settings = ToySettings(steps=2, batch_size=4)

    def module(activation: nn.Module) -> ModuleToy:
        def make(seed: int) -> nn.Module:
            torch.manual_seed(seed)
            return nn.Sequential(nn.Linear(3, 3), activation)

        return ModuleToy(make, 2)

    frozen = ToyModel(2, 3, 2)
    frozen.b.requires_grad_(False)
    pairs: list[tuple[str, nn.Module, nn.Module]] = [
        ("bias", ToyModel(2, 3, 2), ToyModel(2, 3, 2, bias=False)),
        ("frozen", ToyModel(2, 3, 2), frozen),
        ("module", module(nn.ReLU()), module(nn.Tanh())),
    ]
    for name, first, other in pairs:
        train(first, data, loss, settings, directory=tmp_path / name)
        with pytest.raises(InputError, match="its models differ"):
            train(other, data, loss, settings, directory=tmp_path / name)


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    train(*made(), SETTINGS, directory=tmp_path)
    path = tmp_path / "chunk-00000.pt"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="not a whole checkpoint"):
        train(*made(), SETTINGS, directory=tmp_path)


def test_toys_that_diverged_are_read_again(tmp_path: Path) -> None:
    """One of many may have: what it came to is a result as well."""
    settings = ToySettings(steps=4, batch_size=8, lr=1e200, log_every=1)
    expected = train(*made(), settings, directory=tmp_path)
    models, data, loss = made()
    run = train(models, data, loss, settings, directory=tmp_path)
    assert not bool(models.W.isfinite().all())
    assert torch.equal(run.losses.nan_to_num(), expected.losses.nan_to_num())
