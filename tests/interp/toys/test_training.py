"""Training many toys: each is what a plain loop over one model would have made of it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from interp.errors import InputError
from interp.toys import (
    FiniteExamples,
    ReconstructionLoss,
    SparseFeatures,
    ToyModel,
    ToyRun,
    ToySettings,
    geometric_importance,
    train,
)
from interp.toys.evaluation import held_out_losses

N, M, COUNT = 5, 3, 5
SETTINGS = ToySettings(steps=24, batch_size=12, lr=3e-3, log_every=7, snapshots=(0, 9, 24))
DENSITY = torch.linspace(1, 0.1, COUNT)[:, None]
POWER = torch.tensor([2.0, 4.0, 2.0, 1.5, 2.0])
WIDTHS = [3, 2, 1, 3, 2]
OUTPUTS: Any = ["relu", "linear", "relu", "relu", "linear"]


def made(dtype: torch.dtype = torch.float64) -> tuple[ToyModel, SparseFeatures, ReconstructionLoss]:
    """Instances that differ in all that instances can differ in."""
    return (
        ToyModel(COUNT, N, WIDTHS, output=OUTPUTS, hidden=OUTPUTS[::-1], seeds=9, dtype=dtype),
        SparseFeatures.of(COUNT, N, DENSITY, seeds=40, dtype=dtype),
        ReconstructionLoss.of(
            COUNT, N, geometric_importance(N, 0.8) * DENSITY, power=POWER, dtype=dtype
        ),
    )


def alone(i: int, settings: ToySettings) -> tuple[nn.Parameter, nn.Parameter, list[float]]:
    """One instance trained by a plain loop with its own AdamW, and its losses."""
    models, data, loss = made()
    W = nn.Parameter(models.W.detach()[i, : WIDTHS[i]].clone())
    b = nn.Parameter(models.b.detach()[i].clone())
    optimizer = torch.optim.AdamW(
        [W, b],
        lr=settings.lr,
        betas=settings.betas,
        weight_decay=settings.weight_decay,
        foreach=False,
        fused=False,
    )
    losses = []
    for step in range(settings.steps):
        optimizer.param_groups[0]["lr"] = rate(step, settings)
        x = data.batch(step, settings.batch_size).x[i]
        hidden = x @ W.T
        hidden = hidden.relu() if OUTPUTS[::-1][i] == "relu" else hidden
        out = hidden @ W + b
        out = out.relu() if OUTPUTS[i] == "relu" else out
        value = (loss.importance[i] * (out - x).abs() ** float(POWER[i])).mean()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return W.detach(), b.detach(), losses


def rate(step: int, settings: ToySettings) -> float:
    """The schedule, in plain numbers."""
    if step < settings.warmup_steps:
        return settings.lr * (step + 1) / settings.warmup_steps
    past = (step - settings.warmup_steps) / (settings.steps - settings.warmup_steps)
    shape = {"constant": 1.0, "linear": 1 - past, "cosine": (1 + math.cos(math.pi * past)) / 2}
    return settings.lr * shape[settings.decay]


def differences(models: ToyModel, run: ToyRun, settings: ToySettings) -> float:
    worst = 0.0
    for i in range(COUNT):
        W, b, losses = alone(i, settings)
        found = torch.tensor(losses, dtype=torch.float64)[run.steps] - run.losses[:, i]
        worst = max(
            worst,
            float((models.W.detach()[i, : WIDTHS[i]] - W).abs().max()),
            float((models.b.detach()[i] - b).abs().max()),
            float(found.abs().max()),
        )
        assert not bool(models.W[i, WIDTHS[i] :].any())
    return worst


@pytest.mark.parametrize("chunk_size", [None, 2, 1])
@pytest.mark.parametrize(("decay", "warmup"), [("constant", 0), ("linear", 5), ("cosine", 3)])
def test_a_stack_trains_each_model_as_a_plain_loop_would(
    chunk_size: int | None, decay: Any, warmup: int
) -> None:
    settings = ToySettings(
        steps=24, batch_size=12, lr=3e-3, log_every=7, decay=decay, warmup_steps=warmup
    )
    models, data, loss = made()
    run = train(models, data, loss, settings, chunk_size=chunk_size)
    assert run.steps == [0, 7, 14, 21, 23]
    assert differences(models, run, settings) < 1e-10


def test_the_compiled_step_is_the_eager_one() -> None:
    models, data, loss = made()
    settings = ToySettings(steps=24, batch_size=12, lr=3e-3, log_every=7, compile=True)
    run = train(models, data, loss, settings)
    assert differences(models, run, settings) < 1e-10


def test_snapshots_are_the_parameters_after_so_many_updates() -> None:
    models, data, loss = made()
    start = {name: value.detach().clone() for name, value in models.named_parameters()}
    run = train(models, data, loss, SETTINGS, chunk_size=2)
    assert list(run.snapshots) == [0, 9, 24]
    shorter, data, loss = made()
    train(shorter, data, loss, ToySettings(steps=9, batch_size=12, lr=3e-3))
    for name, value in models.named_parameters():
        assert torch.equal(run.snapshots[0][name], start[name])
        assert float((run.snapshots[9][name] - shorter.get_parameter(name)).abs().max()) < 1e-12
        assert torch.equal(run.snapshots[24][name], value)


def test_a_whole_finite_set_is_seen_at_every_step() -> None:
    models, features, loss = made()
    data = FiniteExamples.of(features, [1, 4, 9, 2, 70])
    settings = ToySettings(steps=10, batch_size=None)
    for chunk_size in (None, 1):
        models = made()[0]
        run = train(models, data, loss, settings, chunk_size=chunk_size)
        for i in range(COUNT):
            plain, _, cost = (each.select(torch.tensor([i])) for each in made())
            x = data.x[i : i + 1, : int(data.sizes[i])]
            optimizer = torch.optim.AdamW(plain.parameters(), lr=1e-3, weight_decay=0.01)
            for _ in range(10):
                optimizer.zero_grad()
                error = (plain(x) - x).abs() ** float(POWER[i])
                (cost.importance[:, None] * error).mean().backward()
                optimizer.step()
            assert float((models.W[i] - plain.W[0]).abs().max()) < 1e-10
    assert run.losses.shape == (2, COUNT)


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


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    train(*made(), SETTINGS, directory=tmp_path)
    path = tmp_path / "chunk-00000.pt"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="not a whole checkpoint"):
        train(*made(), SETTINGS, directory=tmp_path)


def test_bad_calls_are_refused(tmp_path: Path) -> None:
    models, data, loss = made()
    few = SparseFeatures.of(2, N)
    with pytest.raises(
        InputError, match=r"as many instances as there are models \(5\). Received 2"
    ):
        train(models, few, loss, SETTINGS)
    with pytest.raises(InputError, match="needs a directory"):
        train(models, data, loss, SETTINGS, checkpoint_every=5)
    with pytest.raises(InputError, match="chunk_size"):
        train(models, data, loss, SETTINGS, chunk_size=0)
    with pytest.raises(InputError, match="cuda_graph needs a CUDA device"):
        train(models, data, loss, ToySettings(steps=2, batch_size=4, cuda_graph=True))


def test_held_out_losses_are_of_batches_that_training_never_sees() -> None:
    models, data, loss = made()
    found = held_out_losses(models, data, loss, batches=3, batch_size=50)
    assert found.shape == (3, COUNT)
    x = data.batch((1 << 31) + 1, 50).x
    expected = [
        (loss.importance[i] * (models(x)[i] - x[i]).abs() ** float(POWER[i])).mean()
        for i in range(COUNT)
    ]
    assert float((found[1] - torch.stack(expected)).abs().max()) < 1e-14
    with pytest.raises(InputError, match="batches"):
        held_out_losses(models, data, loss, batches=0)
