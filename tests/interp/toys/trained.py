"""Toys that differ in all that instances can differ in, and a plain loop that trains one."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from interp.toys import (
    ReconstructionLoss,
    SparseFeatures,
    ToyModel,
    ToyRun,
    ToySettings,
    geometric_importance,
)

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
