"""Forward, recording and editing: interp beside Hugging Face and TransformerLens.

    python benchmarks/recording.py [--device cuda] [--dtype bfloat16] [--shape gpt2] [--json FILE]

All contenders hold the same random GPT-2 weights and are timed in turns in one process. Before
anything is timed, their logits are compared. Times are medians; memory is the peak above what was
allocated before (CUDA only). No table here is a test: nothing fails because it is slow.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from interp import HookedTransformer

SHAPES = {
    "small": {"n_layer": 4, "n_embd": 256, "n_head": 4, "batch": 1, "pos": 32},
    "gpt2": {"n_layer": 12, "n_embd": 768, "n_head": 12, "batch": 8, "pos": 128},
    "gpt2-long": {"n_layer": 12, "n_embd": 768, "n_head": 12, "batch": 32, "pos": 512},
}
Job = Callable[[], Any]


def hugging_face(shape: dict[str, int], attention: str, device: str, dtype: torch.dtype) -> Any:
    """GPT-2 with random weights; the same ones on every call."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(
        n_layer=shape["n_layer"],
        n_embd=shape["n_embd"],
        n_head=shape["n_head"],
        n_positions=1024,
        attn_implementation=attention,
    )
    return GPT2LMHeadModel(config).eval().to(device, dtype)


def lens_bridge(hf_model: Any) -> Any:
    """TransformerLens 4's bridge around a model in memory; None if it is not installed."""
    try:
        from transformer_lens.model_bridge import sources
    except ImportError:
        return None
    return sources.build_bridge_from_module(
        hf_model, architecture="GPT2LMHeadModel", hf_config=hf_model.config, tokenizer=None
    )


def jobs(shape: dict[str, int], device: str, dtype: torch.dtype) -> dict[str, dict[str, Job]]:
    """Task → contender → what is timed."""
    sdpa = hugging_face(shape, "sdpa", device, dtype)
    eager = hugging_face(shape, "eager", device, dtype)
    model = HookedTransformer.from_hf(sdpa)
    tokens = torch.randint(0, 50257, (shape["batch"], shape["pos"]), device=device)
    middle = shape["n_layer"] // 2
    pattern = f"blocks.{middle}.attn.hook_pattern"
    z = f"blocks.{middle}.attn.hook_z"

    def ablate(z: torch.Tensor, hook: Any) -> torch.Tensor:
        z[:, :, 0] = 0.0
        return z

    found: dict[str, dict[str, Job]] = {
        "forward": {
            "interp": lambda: model(tokens),
            "Hugging Face SDPA": lambda: sdpa(tokens, use_cache=False).logits,
        },
        "record all": {
            "interp": lambda: model.run_with_cache(tokens)[0],
            "Hugging Face eager, hidden states and attentions": lambda: (
                eager(
                    tokens, use_cache=False, output_hidden_states=True, output_attentions=True
                ).logits
            ),
        },
        "record one pattern": {
            "interp": lambda: model.run_with_cache(tokens, names_filter=pattern)[0],
        },
        "edit one head": {
            "interp": lambda: model.run_with_hooks(tokens, fwd_hooks=[(z, ablate)]),
        },
    }
    bridge = lens_bridge(eager)
    if bridge is not None:
        found["forward"]["TransformerLens bridge"] = lambda: bridge(tokens)
        found["record all"]["TransformerLens bridge"] = lambda: bridge.run_with_cache(tokens)[0]
        found["record one pattern"]["TransformerLens bridge"] = lambda: bridge.run_with_cache(
            tokens, names_filter=pattern
        )[0]
    return found


def synchronise(device: str) -> None:
    """Wait for the device, so that the clock reads finished work."""
    if device == "cuda":
        torch.cuda.synchronize()


def measure(job: Job, device: str) -> tuple[float, float]:
    """Milliseconds of one call, and its peak memory in MiB above what stood there (CUDA)."""
    synchronise(device)
    before = torch.cuda.memory_allocated() if device == "cuda" else 0
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    kept = job()
    synchronise(device)
    elapsed = (time.perf_counter() - start) * 1e3
    peak = (torch.cuda.max_memory_allocated() - before) / 2**20 if device == "cuda" else 0.0
    del kept
    return elapsed, peak


def check_agreement(contenders: dict[str, Job], dtype: torch.dtype) -> float:
    """Largest difference of logits to the first contender, over max(1, largest logit)."""
    outputs = [job().float() for job in contenders.values()]
    scale = max(1.0, float(outputs[0].abs().max()))
    worst = max((float((o - outputs[0]).abs().max()) / scale for o in outputs[1:]), default=0.0)
    limit = {torch.float64: 1e-10, torch.float32: 1e-4}.get(dtype, 0.1)
    if worst > limit:
        raise SystemExit(f"contenders disagree by {worst:.2e} (limit {limit:.0e})")
    return worst


@torch.no_grad()
def main() -> None:
    """Run the tasks of one shape and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    dtype, shape = getattr(torch, options.dtype), SHAPES[options.shape]
    machine = (
        torch.cuda.get_device_name() if options.device == "cuda" else f"{platform.machine()} CPU, "
    )
    if options.device == "cpu":
        machine += f"{torch.get_num_threads()} threads"
    print(f"{options.shape} {shape} {options.dtype} on {machine}, torch {torch.__version__}")
    rows = []
    for task, contenders in jobs(shape, options.device, dtype).items():
        error = check_agreement(contenders, dtype)
        for job in contenders.values():
            measure(job, options.device)
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
        for _ in range(options.rounds):
            for name, job in contenders.items():
                found[name].append(measure(job, options.device))
        ours = statistics.median(t for t, _ in found["interp"])
        for name, runs in found.items():
            median = statistics.median(t for t, _ in runs)
            peak = max(m for _, m in runs)
            rows.append(
                {
                    "task": task,
                    "contender": name,
                    "median_ms": median,
                    "peak_mib": peak if options.device == "cuda" else None,
                    "interp_over_this": ours / median,
                    "largest_difference": error,
                }
            )
            memory = f"{peak:9.0f} MiB" if options.device == "cuda" else ""
            print(
                f"{task:20s} {name:50s} {median:9.2f} ms {memory} interp/this {ours / median:5.2f}"
            )
    if options.json is not None:
        document = {"machine": machine, "shape": shape, "dtype": options.dtype, "rows": rows}
        options.json.write_text(json.dumps(document, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
