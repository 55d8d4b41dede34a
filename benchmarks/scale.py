"""What a billion tokens of a 7B model cost, on paper, from rates measured here.

python -m benchmarks.scale: prints Markdown. Measured are a layer of Llama-7B's shape beside its
matrix products alone, and what a harvest does with each byte that it keeps. The rest is
arithmetic, written out so that other rates can be put in.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.harvest import disk_rates
from benchmarks.machine import describe
from interp import HookedTransformer, HookedTransformerConfig
from interp.harvest.statistics import HookStatistics

D_MODEL, D_MLP, N_HEADS, N_LAYERS, D_VOCAB = 4096, 11008, 32, 32, 32000
TOKENS = 1e9


@dataclass(frozen=True)
class Accelerator:
    """A device on paper.

    Attributes:
        name: What it is called.
        flops: Dense bf16 operations a second, by its data sheet.
        link: Bytes a second to main memory, by its data sheet, one way.
    """

    name: str
    flops: float
    link: float


# NVIDIA's data sheets: dense bf16, and PCIe 4 or 5 × 16.
ACCELERATORS = (
    Accelerator("A100 80 GB", 312e12, 32e9),
    Accelerator("H100 SXM", 989e12, 64e9),
    Accelerator("H200", 989e12, 64e9),
)
SHARES = (0.3, 0.5)  # of the data sheet's operations that a forward pass reaches


def flops_per_token(length: int) -> float:
    """Of a forward pass without logits: two for each weight of the layers, and attention's own."""
    weights = 4 * D_MODEL**2 + 3 * D_MODEL * D_MLP
    attention = 2 * D_MODEL * length  # scores and values, half of them masked: 4 · d · length / 2
    return N_LAYERS * (2 * weights + attention)


def median_of(call: Callable[[], object], rounds: int) -> float:
    """Wall seconds."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def share_of_products(length: int, rounds: int) -> tuple[float, float]:
    """A layer's time beside that of its matrix products alone: the share, and operations a second.

    fp32 on the CPU; the products are those of weights, with nothing between them.
    """
    cfg = HookedTransformerConfig(
        n_layers=1, d_model=D_MODEL, n_heads=N_HEADS, d_head=D_MODEL // N_HEADS, d_mlp=D_MLP,
        n_ctx=length, d_vocab=256, act_fn="silu", gated_mlp=True, normalization_type="RMS",
        positional_embedding_type="rotary", device="cpu", seed=0,
    )  # fmt: skip
    model = HookedTransformer(cfg)
    tokens = torch.randint(256, (1, length))
    x = torch.randn(length, D_MODEL)
    hidden = torch.randn(length, D_MLP)
    square, wide = torch.randn(D_MODEL, D_MODEL), torch.randn(D_MODEL, D_MLP)

    def products() -> None:
        for _ in range(4):
            x @ square
        x @ wide
        x @ wide
        hidden @ wide.T

    with torch.inference_mode():
        model(tokens, stop_at_layer=1)
        products()
        layer, alone = [], []
        for _ in range(rounds):
            layer.append(median_of(lambda: model(tokens, stop_at_layer=1), 1))
            alone.append(median_of(products, 1))
    operations = 2 * length * (4 * D_MODEL**2 + 3 * D_MODEL * D_MLP)
    seconds, bare = statistics.median(layer), statistics.median(alone)
    return bare / seconds, operations / seconds


def statistics_rate(rounds: int) -> float:
    """Bytes a second of bf16 rows of which moments are taken."""
    rows = torch.randn(4096, D_MODEL).bfloat16()
    return rows.nbytes / median_of(lambda: HookStatistics.measure(rows, ("moments",)), rounds)


def main() -> None:
    """Print what was measured, and the arithmetic."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--length", type=int, default=1024, help="tokens of a sequence")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    about = describe("cpu")
    share, rate = share_of_products(given.length, given.rounds)
    print("# A billion tokens of a 7B model, on paper\n")
    print("; ".join(f"{k} {about[k]}" for k in ("date", "CPU", "threads", "versions")) + ".\n")
    print(
        f"Measured here: a layer of Llama-7B's shape (d_model {D_MODEL}, {N_HEADS} heads, d_mlp "
        f"{D_MLP}, {given.length} tokens, fp32) runs at {rate / 1e9:,.0f} GFLOP/s, {share:.0%} of "
        "what its matrix products alone do: the rest is attention, norms and activations."
    )
    with tempfile.TemporaryDirectory(dir=".") as folder:
        print(disk_rates(Path(folder), 1.0))
    moments = statistics_rate(given.rounds)
    print(f"Moments of bf16 rows are taken at {moments / 1e6:,.0f} MB/s.\n")
    each = flops_per_token(given.length)
    print(
        f"A token costs {each / 1e9:.1f} GFLOP without logits (2 per weight of {N_LAYERS} layers, "
        f"and attention at {given.length} tokens); a hook of the residual stream in bf16 "
        f"{2 * D_MODEL / 1024:.0f} KiB.\n"
    )
    print(
        "| device (data sheet) | share of its peak | tokens/s | GPU-hours for 10⁹ tokens | one "
        "hook: MB/s, TB | every resid_post: MB/s, TB |"
    )
    print("|---|---|---|---|---|---|")
    for device in ACCELERATORS:
        for part in SHARES:
            tokens = device.flops * part / each
            cells = [
                f"{tokens * size / 1e6:,.0f}, {TOKENS * size / 1e12:,.1f}"
                for size in (2 * D_MODEL, 2 * D_MODEL * N_LAYERS)
            ]
            print(
                f"| {device.name} | {part:.0%} | {tokens:,.0f} | {TOKENS / tokens / 3600:.1f} | "
                + " | ".join(cells)
                + " |"
            )
    fastest = max(device.flops for device in ACCELERATORS) * max(SHARES) / each
    print(
        f"\nWhat bounds it: with one hook the arithmetic, as long as the disk takes "
        f"{fastest * 2 * D_MODEL / 1e6:,.0f} MB/s for each GPU and a core hashes as much; with "
        f"every layer's stream the disk ({fastest * 2 * D_MODEL * N_LAYERS / 1e9:,.1f} GB/s for "
        f"each GPU), long before the link to main memory "
        f"({ACCELERATORS[-1].link / 1e9:.0f} GB/s). Sampling a tenth of the tokens (`sample=0.1`) "
        "divides bytes by ten and leaves the arithmetic as it is."
    )


if __name__ == "__main__":
    main()
