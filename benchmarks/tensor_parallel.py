"""One model shared by 1, 2, … processes: python -m benchmarks.tensor_parallel [FOLDER …].

Of a GPT-2, a Llama with grouped queries and random weights, and of checkpoints in the folders
given: how far logits and all hooks are from those of the model on one device, how many tokens a
second run through it with nothing recorded, one hook recorded, and everything, and how large a part
of the weights each process holds. What is printed is a table in Markdown.

It starts the processes by itself; any script of one's own is started so:

    torchrun --nproc-per-node 2 script.py
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor

from benchmarks.machine import describe
from interp import HookedTransformer, HookedTransformerConfig, load_model
from interp.devices.parsing import default_device
from interp.parallel import TensorParallelTransformer, load_tensor_parallel, tensor_parallel

SHAPES: dict[str, dict[str, Any]] = {
    "GPT-2, 12 layers": {
        "n_layers": 12, "d_model": 768, "n_heads": 12, "act_fn": "gelu_new", "d_vocab": 50257,
        "tie_word_embeddings": True,
    },
    "Llama, 8 layers, 16/4 heads": {
        "n_layers": 8, "d_model": 1024, "n_heads": 16, "n_key_value_heads": 4, "act_fn": "silu",
        "gated_mlp": True, "normalization_type": "RMS", "positional_embedding_type": "rotary",
        "d_mlp": 2816, "d_vocab": 32000,
    },
}  # fmt: skip
RUNS: dict[str, Any] = {"nothing": None, "one hook": "blocks.1.attn.hook_z", "all": "*"}
HEADER = (
    "| model | processes | logits differ by | hooks differ by | weights held "
    + "".join(f"| tokens/s, {name} recorded " for name in RUNS)
    + "|\n"
    + "|---" * (5 + len(RUNS))
    + "|"
)


def models(folders: list[str]) -> list[tuple[str, Callable[[Any], HookedTransformer]]]:
    """Each model's name, and what makes it: alone, given None, or spread."""

    def of_shape(fields: dict[str, Any]) -> Callable[[Any], HookedTransformer]:
        def make(spread: bool) -> HookedTransformer:
            model = HookedTransformer(HookedTransformerConfig(**fields, n_ctx=1024))
            return tensor_parallel(model) if spread else model

        return make

    def of_folder(folder: str) -> Callable[[Any], HookedTransformer]:
        return lambda spread: load_tensor_parallel(folder) if spread else load_model(folder)

    found = [(name, of_shape(fields)) for name, fields in SHAPES.items()]
    return found + [(os.path.basename(folder), of_folder(folder)) for folder in folders]


def tokens_per_second(
    model: HookedTransformer, tokens: Tensor, seconds: float, names: Any
) -> float:
    """How fast a model reads; every process takes as many runs."""

    def run() -> None:
        if names is None:
            model(tokens)
        else:
            model.run_with_cache(tokens, names_filter=names)

    def timed(n: int) -> float:
        start = time.perf_counter()
        for _ in range(n):
            run()
        if tokens.is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - start

    run()
    took = timed(1)
    if isinstance(model, TensorParallelTransformer):
        took = model.ranks.least(int(took * 1e6)) / 1e6
    n = max(1, int(seconds / max(took, 1e-6)))
    return n * tokens.numel() / timed(n)


def furthest(found: Tensor, expected: Tensor) -> float:
    """The largest difference, relative to max(1, max |expected|)."""
    seen = expected.isfinite()
    if not bool(seen.any()):
        return 0.0
    scale = max(1.0, float(expected[seen].abs().max()))
    return float((found[seen] - expected[seen]).abs().max()) / scale


@torch.no_grad()
def row(name: str, make: Callable[[Any], HookedTransformer], n_tokens: int, seconds: float) -> str:
    """A model's row."""
    spread, single = make(True), make(False)
    generator = torch.Generator().manual_seed(0)
    length = min(n_tokens, single.cfg.n_ctx)
    tokens = torch.randint(single.cfg.d_vocab, (1, length), generator=generator)
    tokens = tokens.to(single.cfg.torch_device)
    logits, cache = single.run_with_cache(tokens, names_filter="*")
    found, records = spread.run_with_cache(tokens, names_filter="*")
    hooks = max(furthest(records[key].float(), x.float()) for key, x in cache.cache_dict.items())
    held = sum((p.to_local() if isinstance(p, DTensor) else p).numel() for p in spread.parameters())
    share = held / sum(p.numel() for p in single.parameters())
    del cache, records
    alone = not isinstance(spread, TensorParallelTransformer) or spread.ranks.size == 1
    speeds = [tokens_per_second(spread, tokens, seconds, names) for names in RUNS.values()]
    cells = [name, str(dist.get_world_size()), f"{furthest(found, logits):.1e}", f"{hooks:.1e}"]
    cells += [f"{share:.0%}", *(f"{speed:,.0f}" for speed in speeds)]
    lines = [cells]
    if alone:
        speeds = [tokens_per_second(single, tokens, seconds, names) for names in RUNS.values()]
        lines.insert(0, [name, "ordinary", "", "", "100%", *(f"{s:,.0f}" for s in speeds)])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folders", nargs="*", help="checkpoints")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each speed")
    given = parser.parse_args()
    if "RANK" not in os.environ:
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        script = ["-m", "benchmarks.tensor_parallel", *sys.argv[1:]]
        about = describe(str(default_device()))
        print("# One model shared by several processes\n")
        print("; ".join(f"{k} {about[k]}" for k in ("date", "CPU", "versions")) + ".\n")
        print(
            f"Random weights but stories260K's; {given.tokens} tokens at once; on CPUs every "
            "process computes with one thread; they talk by gloo. Differences are from the model "
            "on one device, relative to max(1, max |reference|).\n"
        )
        print(HEADER, flush=True)
        for n in given.processes:
            subprocess.run([*torchrun, "--nproc-per-node", str(n), *script], check=True)
        return
    if default_device().type == "cpu":
        torch.set_num_threads(1)
    for name, make in models(given.folders):
        found = row(name, make, given.tokens, given.seconds)
        if int(os.environ["RANK"]) == 0:
            print(found, flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
