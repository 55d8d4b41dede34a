"""Toys trained on a GPU, captured and compiled or not, beside the same on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from interp.toys import (
    FiniteExamples,
    ModuleToy,
    ReconstructionLoss,
    SparseFeatures,
    ToyModel,
    ToyRun,
    ToySettings,
    train,
)

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")

COUNT, N = 4, 6
POWER = torch.tensor([2.0, 3.0, 2.0, 4.0])
# Learning rates that fp32 holds exactly, which is how CUDA's AdamW takes a schedule's.
SETTINGS: dict[str, Any] = {
    "steps": 16, "batch_size": 32, "lr": 2.0**-7, "decay": "linear", "warmup_steps": 8,
    "snapshots": (0, 5, 16), "log_every": 1,
}  # fmt: skip


def features(device: str, **more: Any) -> SparseFeatures:
    density = torch.linspace(0.1, 0.5, COUNT)[:, None]
    return SparseFeatures.of(COUNT, N, density, dtype=torch.float64, device=device, **more)


def data_of(kind: str, device: str) -> SparseFeatures | FiniteExamples:
    if kind == "grouped":
        correlation = torch.tensor([1.0, 0.5, -0.5, -1.0])
        return features(device, group_size=2, correlation=correlation)
    if kind == "unit":
        return features(device, unit_norm=True, values="signed", target="absolute")
    return FiniteExamples.of(features(device), [3, 9, 27, 1])


def module(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(N, 3), nn.Tanh(), nn.Linear(3, N)).double()


def models_of(kind: str, device: str) -> ToyModel | ModuleToy:
    if kind == "unit":
        return ModuleToy(module, COUNT).to(device)
    outputs: Any = ["relu", "linear"] * 2
    return ToyModel(
        COUNT, N, [2, 3, 1, 2], output=outputs, tied=False, dtype=torch.float64, device=device
    )


def trained(kind: str, device: str, **more: Any) -> tuple[ToyModel | ModuleToy, ToyRun]:
    options = {name: more.pop(name) for name in ("chunk_size", "directory") if name in more}
    if "directory" in options:
        options["checkpoint_every"] = 5
    models = models_of(kind, device)
    loss = ReconstructionLoss.of(COUNT, N, power=POWER, dtype=torch.float64, device=device)
    settings = ToySettings(**{**SETTINGS, **more})
    if kind == "whole":
        settings = ToySettings(**{**SETTINGS, **more, "batch_size": None})
    return models, train(models, data_of(kind, device), loss, settings, **options)


def same(found: tuple[Any, ToyRun], expected: tuple[Any, ToyRun]) -> None:
    pairs = zip(found[0].parameters(), expected[0].parameters(), strict=True)
    assert max(float((a.cpu() - b.cpu()).abs().max()) for a, b in pairs) < 1e-10
    assert float((found[1].losses - expected[1].losses).abs().max()) < 1e-10
    for step, kept in expected[1].snapshots.items():
        for name, value in kept.items():
            assert found[1].snapshots[step][name].device.type == "cpu"
            assert float((found[1].snapshots[step][name] - value).abs().max()) < 1e-10


@pytest.mark.parametrize("kind", ["grouped", "unit", "examples", "whole"])
@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("compiled", [False, True])
def test_cuda_trains_as_the_cpu(kind: str, graph: bool, compiled: bool) -> None:
    expected = trained(kind, "cpu")
    for chunk_size in (None, 2, 3):
        found = trained(kind, "cuda", cuda_graph=graph, compile=compiled, chunk_size=chunk_size)
        same(found, expected)


@pytest.mark.parametrize(("before", "after"), [(False, True), (True, False), (True, True)])
def test_a_run_goes_on_with_a_graph_or_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bool, after: bool
) -> None:
    from interp.toys.step import Update

    update, calls = Update.__call__, iter(range(SETTINGS["steps"] + 7))

    def interrupted(self: Update) -> None:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        update(self)

    options: dict[str, Any] = {"chunk_size": 2, "directory": tmp_path}
    monkeypatch.setattr(Update, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trained("grouped", "cuda", cuda_graph=before, **options)
    monkeypatch.undo()
    same(trained("grouped", "cuda", cuda_graph=after, **options), trained("grouped", "cpu"))
