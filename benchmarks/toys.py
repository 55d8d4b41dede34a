"""Toys trained in one program, beside other ways to train as many: python -m benchmarks.toys.

`throughput`: n=20 features, m=5 dimensions, densities from 1 to 1/20, ReLU output, AdamW, for 1 to
2,000 models and batches of 1,024, 256 and 64. Model-steps a second of

- loop: one model after another, each an `nn.Module` with its own AdamW and `torch.rand` data;
- vmap: `torch.func.vmap` of the gradient of one model, and one AdamW for all;
- notebook: weights and data with an instance axis and einsum, as in the authors' notebook;
- interp, eager, compiled, and on a GPU captured in a CUDA graph.

Sides take turns; times are medians over rounds. The loop is timed on at most 20 models, since its
time is proportional to their number. Compilation is timed apart.

`reference`: n=200, m=20, 20 densities 20^(-linspace(0, 1, 20)), importance 1, batch 1,024, lr 1e-3,
weight decay 0.01, 10,000 steps: D* = m/|W|² by density, the time it took, and what the loop would
have taken by its own rate in the same run.

`phase`: a phase diagram of n=2, m=1 with 100 x 100 points and 10,000 steps in one run.

What is printed is Markdown.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from einops import einsum
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap

from benchmarks.machine import describe
from interp.toys import (
    ReconstructionLoss,
    SparseFeatures,
    ToyModel,
    ToySettings,
    geometric_importance,
    train,
)
from interp.toys.chunks import chunks_of
from interp.toys.measures import dimensions_per_feature
from interp.toys.step import Update, compiled_losses, losses_of

LR, DECAY = 1e-3, 0.01
MOST_OF_LOOP = 20
REFERENCE = [  # of a run of the authors' procedure
    1.00, 1.00, 0.95, 0.83, 0.60, 0.53, 0.51, 0.51, 0.50, 0.44,
    0.36, 0.34, 0.30, 0.26, 0.24, 0.21, 0.19, 0.17, 0.15, 0.14,
]  # fmt: skip

Step = Callable[[], None]


class Plain(nn.Module):
    """One toy as one would write it."""

    def __init__(self, n: int, m: int, device: torch.device) -> None:
        super().__init__()
        self.W = nn.Parameter(nn.init.xavier_normal_(torch.empty(m, n, device=device)))
        self.b = nn.Parameter(torch.zeros(n, device=device))

    def forward(self, x: Tensor) -> Tensor:
        """x' = ReLU(Wᵀ W x + b)."""
        return torch.relu(x @ self.W.T @ self.W + self.b)


def densities(count: int, device: torch.device) -> Tensor:
    """From 1 to 1/20, as a column."""
    return 20.0 ** -torch.linspace(0, 1, count, device=device)[:, None]


def rand_batch(shape: tuple[int, ...], density: Tensor) -> Tensor:
    """Sparse features from torch's own generator."""
    there = torch.rand(shape, device=density.device) < density
    return torch.where(there, torch.rand(shape, device=density.device), 0.0)


def loop(count: int, batch: int, n: int, m: int, device: torch.device) -> Step:
    """One model after another."""
    models = [Plain(n, m, device) for _ in range(count)]
    optimizers = [
        torch.optim.AdamW(each.parameters(), lr=LR, weight_decay=DECAY) for each in models
    ]
    density = densities(count, device)
    importance = geometric_importance(n, 0.9, device=device)

    def step() -> None:
        for model, optimizer, p in zip(models, optimizers, density, strict=True):
            x = rand_batch((batch, n), p)
            optimizer.zero_grad()
            (importance * (model(x) - x) ** 2).mean().backward()
            optimizer.step()

    return step


def vmapped(count: int, batch: int, n: int, m: int, device: torch.device) -> Step:
    """`torch.func.vmap` over the gradient of one model."""
    models = [Plain(n, m, device) for _ in range(count)]
    parameters, _ = stack_module_state(models)
    base = models[0]
    stacked = {name: nn.Parameter(value.detach()) for name, value in parameters.items()}
    optimizer = torch.optim.AdamW(stacked.values(), lr=LR, weight_decay=DECAY, fused=True)
    density = densities(count, device)[..., None]
    importance = geometric_importance(n, 0.9, device=device)

    def loss(own: dict[str, Tensor], x: Tensor) -> Tensor:
        return (importance * (functional_call(base, own, (x,)) - x) ** 2).mean()

    gradient = vmap(grad_and_value(loss))

    def step() -> None:
        x = rand_batch((count, batch, n), density)
        found, _ = gradient({name: value.detach() for name, value in stacked.items()}, x)
        for name, value in stacked.items():
            value.grad = found[name]
        optimizer.step()

    return step


def notebook(count: int, batch: int, n: int, m: int, device: torch.device) -> Step:
    """An instance axis and einsum."""
    W = nn.Parameter(nn.init.xavier_normal_(torch.empty(count, n, m, device=device)))
    b = nn.Parameter(torch.zeros(count, n, device=device))
    optimizer = torch.optim.AdamW([W, b], lr=LR, weight_decay=DECAY)
    density = densities(count, device)
    importance = geometric_importance(n, 0.9, device=device)

    def step() -> None:
        x = rand_batch((batch, count, n), density)
        optimizer.zero_grad(set_to_none=True)
        hidden = einsum(x, W, "batch inst n, inst n m -> batch inst m")
        out = torch.relu(einsum(hidden, W, "batch inst m, inst n m -> batch inst n") + b)
        error = importance * (x.abs() - out) ** 2
        error.mean((0, 2)).sum().backward()
        optimizer.step()

    return step


def interp_step(count: int, batch: int, n: int, m: int, device: torch.device, *, kind: str) -> Step:
    """What `interp.toys.train` calls, in the chunks that it makes."""
    settings = ToySettings(
        batch_size=batch, lr=LR, weight_decay=DECAY, cuda_graph=kind == "interp, graph"
    )
    models = ToyModel(count, n, m, device=device)
    data = SparseFeatures.of(count, n, densities(count, device), device=device)
    loss = ReconstructionLoss.of(count, n, geometric_importance(n, 0.9), device=device)
    run = losses_of if kind == "interp, eager" else compiled_losses()
    chunks = [each.to(device) for each in chunks_of(models, data, loss, settings, None)]
    updates = [
        Update(models.select(each), data.select(each), loss.select(each), settings, run)
        for each in chunks
    ]

    def step() -> None:
        for update in updates:
            update()

    return step


def seconds_of(step: Step, device: torch.device, least: float) -> float:
    """Seconds of one step: as many steps as take `least` seconds together."""
    done, start = 0, time.perf_counter()
    while True:
        step()
        done += 1
        if device.type == "cuda" and done % 10 == 0:
            torch.cuda.synchronize(device)
        if time.perf_counter() - start >= least:
            break
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - start) / done


def throughput(device: torch.device, counts: list[int], batches: list[int], rounds: int) -> None:
    """Print the table of model-steps a second."""
    kinds = ["interp, eager", "interp, compiled"]
    kinds += ["interp, graph"] if device.type == "cuda" else []
    names = ["loop", "vmap", "notebook", *kinds]
    print(f"| models | batch | {' | '.join(names)} | best over loop | over vmap | compiling, s |")
    print("|" + " --- |" * (len(names) + 5))
    for batch in batches:
        for count in counts:
            sides: dict[str, tuple[Step, int]] = {}
            few = min(count, MOST_OF_LOOP)
            sides["loop"] = loop(few, batch, 20, 5, device), few
            sides["vmap"] = vmapped(count, batch, 20, 5, device), count
            sides["notebook"] = notebook(count, batch, 20, 5, device), count
            for kind in kinds:
                sides[kind] = interp_step(count, batch, 20, 5, device, kind=kind), count
            first = {name: _first(step) for name, (step, _) in sides.items()}
            times: dict[str, list[float]] = {name: [] for name in names}
            for _ in range(rounds):
                for name, (step, _) in sides.items():
                    times[name].append(seconds_of(step, device, 0.5))
            rate = {n: sides[n][1] / statistics.median(times[n]) for n in names}
            best = max(rate[kind] for kind in kinds)
            cells = [f"{rate[name]:,.0f}" for name in names]
            print(
                f"| {count:,} | {batch:,} | {' | '.join(cells)} | {best / rate['loop']:.1f} × | "
                f"{best / rate['vmap']:.1f} × | {first['interp, compiled']:.0f} |",
                flush=True,
            )


def _first(step: Step) -> float:
    start = time.perf_counter()
    for _ in range(5):  # a graph is captured at the fourth
        step()
    return time.perf_counter() - start


def reference(device: torch.device, steps: int) -> None:
    """Print D* by density beside the reference run's, and how long it took."""
    n, m, count = 200, 20, 20
    plain = loop(count, 1024, n, m, device)
    each = [seconds_of(plain, device, 5.0)]
    models = ToyModel(count, n, m, device=device)
    on_gpu = device.type == "cuda"
    settings = ToySettings(
        steps=steps, batch_size=1024, lr=LR, weight_decay=DECAY, compile=True, cuda_graph=on_gpu
    )
    data = SparseFeatures.of(count, n, densities(count, device), device=device)
    run = train(models, data, ReconstructionLoss.of(count, n, device=device), settings)
    each.append(seconds_of(plain, device, 5.0))
    whole = statistics.mean(each) * steps
    found = dimensions_per_feature(models.W.detach()).tolist()
    print("| 1 - S | " + " | ".join(f"{p:.3f}" for p in densities(count, device)[:, 0].tolist()))
    print("|" + " --- |" * (count + 1))
    print("| reference | " + " | ".join(f"{value:.2f}" for value in REFERENCE) + " |")
    print("| interp | " + " | ".join(f"{value:.2f}" for value in found) + " |")
    worst = max(abs(a - b) for a, b in zip(found, REFERENCE, strict=True))
    print(
        f"\nLargest difference {worst:.3f}. {steps:,} steps of {count} models: {run.seconds:.0f} s,"
    )
    print(f"{run.seconds / whole:.2f} of the {whole:.0f} s that the loop would take.")


def phase(device: torch.device, side: int, steps: int) -> None:
    """Time a phase diagram of `side` x `side` points in one run."""
    count = side * side
    density = 10 ** torch.linspace(0, -2, side).repeat_interleave(side)[:, None]
    relative = 10 ** torch.linspace(-1, 1, side).repeat(side)[:, None]
    importance = torch.cat([torch.ones_like(relative), relative], 1)
    models = ToyModel(count, 2, 1, device=device)
    data = SparseFeatures.of(count, 2, density, device=device)
    loss = ReconstructionLoss.of(count, 2, importance, device=device)
    on_gpu = device.type == "cuda"
    settings = ToySettings(steps=steps, compile=True, cuda_graph=on_gpu)
    run = train(models, data, loss, settings, progress=False)
    rate = count * steps / run.seconds
    print(
        f"{side} x {side} points, {steps:,} steps: {run.seconds:.0f} s ({rate:,.0f} model-steps/s)"
    )


def main(arguments: list[str] | None = None) -> None:
    """Run what is asked for, and print it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split(":")[0])
    parser.add_argument("suites", nargs="*", default=["throughput"])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 20, 200, 2000])
    parser.add_argument("--batches", type=int, nargs="+", default=[1024, 256, 64])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--side", type=int, default=100)
    given: Any = parser.parse_args(arguments)
    device = torch.device(given.device)
    torch.manual_seed(0)
    print("# Toys beside other ways to train as many\n")
    print("What is compared is said in `benchmarks/toys.py`.\n")
    for heading, text in describe(device.type).items():
        print(f"- {heading}: {text}")
    print("- dtype: fp32\n")
    for suite in given.suites:
        print(f"## {suite.capitalize()}\n")
        if suite == "throughput":
            print("Model-steps a second, n=20, m=5.\n")
            throughput(device, given.counts, given.batches, given.rounds)
        elif suite == "reference":
            reference(device, given.steps)
        elif suite == "phase":
            phase(device, given.side, given.steps)
        else:
            parser.error(f"suites are throughput, reference, phase; got {suite!r}")
        print(flush=True)


if __name__ == "__main__":
    main()
