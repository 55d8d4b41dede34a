"""Training many toys: each is what a plain loop over one model would have made of it."""

from __future__ import annotations

import weakref
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from interp.errors import InputError
from interp.toys import (
    Batch,
    FiniteExamples,
    ReconstructionLoss,
    SparseFeatures,
    ToyModel,
    ToySettings,
    train,
)
from interp.toys.evaluation import held_out_losses
from tests.covering import covering, slow
from tests.interp.toys.trained import (
    COUNT,
    POWER,
    SETTINGS,
    N,
    differences,
    made,
)

CAPTURED = ToySettings(steps=1, batch_size=6, lr=1e-2, compile=True)


@pytest.mark.parametrize(
    ("chunk_size", "schedule"),
    covering([None, 2, 1], [("constant", 0), ("linear", 5), ("cosine", 3)], strength=1),
)
def test_a_stack_trains_each_model_as_a_plain_loop_would(
    chunk_size: int | None, schedule: tuple[Any, int]
) -> None:
    decay, warmup = schedule
    settings = ToySettings(
        steps=24, batch_size=12, lr=3e-3, log_every=7, decay=decay, warmup_steps=warmup
    )
    models, data, loss = made()
    run = train(models, data, loss, settings, chunk_size=chunk_size)
    assert run.steps == [0, 7, 14, 21, 23]
    assert differences(models, run, settings) < 1e-10


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=slow)])
def test_the_compiled_step_is_the_eager_one(monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    """Captured with its gradient; and built by the default compiler, for half a minute at first."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
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


def test_who_watches_sees_the_models_at_every_snapshot() -> None:
    models, data, loss = made()
    seen: dict[int, torch.Tensor] = {}

    def watch(step: int, found: ToyModel) -> None:
        assert found is models
        seen[step] = found.W.detach().clone()

    run = train(models, data, loss, SETTINGS, chunk_size=5, watch=watch)
    assert list(seen) == [0, 9, 24]
    for step, W in seen.items():
        assert torch.equal(W, run.snapshots[step]["W"])
    with pytest.raises(InputError, match=r"in a single chunk: .* Received 3 chunks"):
        train(models, data, loss, SETTINGS, chunk_size=2, watch=watch)


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


def test_a_chunk_is_let_go_before_the_next_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    from interp.toys.step import Update

    made_before: list[weakref.ref[Update]] = []
    alive = []
    init = Update.__init__

    def counted(self: Update, *given: Any) -> None:
        alive.append(sum(each() is not None for each in made_before))
        made_before.append(weakref.ref(self))
        init(self, *given)

    monkeypatch.setattr(Update, "__init__", counted)
    models, data, loss = made()
    train(models, data, loss, SETTINGS, chunk_size=2)
    assert alive == [0, 0, 0]
    assert all(value.grad is None for value in models.parameters())


@pytest.mark.parametrize("chunk_size", [None, 2])
def test_a_frozen_parameter_stays_as_it_is(chunk_size: int | None) -> None:
    models, data, loss = made()
    models.b.requires_grad_(False)
    before = models.W.detach().clone()
    train(models, data, loss, SETTINGS, chunk_size=chunk_size)
    assert not bool(models.b.any())
    assert not torch.equal(models.W, before)


def test_chunks_of_one_shape_share_their_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    captured = []

    def backend(graph: torch.fx.GraphModule, inputs: Any) -> Any:
        captured.append(graph)
        return graph.forward

    # Captured whole, as by the default compiler, but not built, which takes seconds for each.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    features = SparseFeatures.of(5, 4, torch.linspace(0.1, 0.4, 5)[:, None])
    loss = ReconstructionLoss.of(5, 4)
    models = [ToyModel(5, 4, 2, seeds=3) for _ in range(2)]
    data = FiniteExamples.of(features, [1, 2, 2, 2, 2])
    # Not monkeypatch: what it puts back is no setting any more to torch.
    with torch._dynamo.config.patch(recompile_limit=1):
        # A draw and a comparison, and again for the chunk that is smaller.
        train(ToyModel(5, 4, 2), features, loss, CAPTURED, chunk_size=2)
        assert len(captured) == 4
        # Sets of two sizes, which is more than torch allows one function here.
        train(models[0], data, loss, CAPTURED, chunk_size=1)
        assert len(captured) == 4 + 4
    train(models[1], data, loss, replace(CAPTURED, compile=False), chunk_size=1)
    assert float((models[0].W - models[1].W).detach().abs().max()) < 1e-6


class UsersData:
    """Fits `Data` and nothing more."""

    def __init__(self, x: torch.Tensor) -> None:
        self.x = x

    @property
    def n_instances(self) -> int:
        return len(self.x)

    def batch(self, step: Any, batch_size: int | None) -> Batch:
        return Batch(self.x, self.x.flip(-1))

    def select(self, instances: torch.Tensor) -> UsersData:
        return UsersData(self.x[instances])

    def fields(self) -> dict[str, object]:
        return {"x": self.x}


class UsersLoss:
    """Fits `Loss` and nothing more."""

    def __init__(self, n_instances: int) -> None:
        self.n_instances = n_instances

    def __call__(self, output: torch.Tensor, batch: Batch) -> torch.Tensor:
        return (output - batch.target).square().sum((1, 2))

    def select(self, instances: torch.Tensor) -> UsersLoss:
        return UsersLoss(len(instances))

    def fields(self) -> dict[str, object]:
        return {}


class UsersToy(nn.Module):
    """Fits `Toys` and nothing more."""

    def __init__(self, A: torch.Tensor) -> None:
        super().__init__()
        self.A = nn.Parameter(A)

    @property
    def n_instances(self) -> int:
        return len(self.A)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.A

    def select(self, instances: torch.Tensor) -> UsersToy:
        return UsersToy(self.A.detach()[instances])


def test_classes_of_the_users_are_trained(tmp_path: Path) -> None:
    x = torch.eye(3, dtype=torch.float64).expand(4, 3, 3) + torch.arange(4)[:, None, None]
    toy = UsersToy(torch.zeros(4, 3, 3, dtype=torch.float64))
    settings = ToySettings(steps=1, batch_size=None, lr=0.1)
    train(toy, UsersData(x), UsersLoss(4), settings, chunk_size=3, directory=tmp_path)
    # AdamW's first update is of size lr, against the gradient -2 xᵀ target.
    assert float((toy.A.detach() - 0.1 * (x.mT @ x.flip(-1)).sign()).abs().max()) < 1e-8


def test_the_bar_ends_full(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):  # of a run, and of one that is only read
        run = train(*made(), SETTINGS, chunk_size=2, directory=tmp_path, progress=True)
        last = capsys.readouterr().out.strip().splitlines()[-1]
        assert last.startswith("72/72 ")
        assert f"loss {float(run.losses[-1, 4:].mean()):.4g}" in last


def test_bad_calls_are_refused(tmp_path: Path) -> None:
    models, data, loss = made()
    few = SparseFeatures.of(2, N)
    with pytest.raises(
        InputError, match=r"as many instances as there are models \(5\). Received 2"
    ):
        train(models, few, loss, SETTINGS)
    for n_instances in (1, 2):  # one would broadcast
        with pytest.raises(InputError, match=rf"loss must be .* \(5\). Received {n_instances}"):
            train(models, data, ReconstructionLoss.of(n_instances, N), SETTINGS)
    with pytest.raises(InputError, match=r"dtype must be one of .* Received torch.bfloat16"):
        train(models.to(torch.bfloat16), data, loss, SETTINGS)
    models = made()[0]
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
