"""What needs a process of its own: importing a package, and opening a checkpoint."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import torch

from benchmarks.bench import LIMITS, Row
from benchmarks.given import Given
from benchmarks.measure import difference
from benchmarks.shapes import TINY, Shape

_PACKAGES = ("interp", "transformer_lens", "transformers", "nnsight")

_IMPORT = """
import json, time
import torch
start = time.perf_counter()
import {package}
print(json.dumps((time.perf_counter() - start) * 1e3))
"""

# How each package opens a checkpoint, and what it then makes of tokens.
_OPEN = {
    "interp": """
from interp import load_model
def load(folder): return load_model(folder, device=device)
def logits(model, tokens): return model(tokens)
""",
    "transformers": """
from transformers import AutoModelForCausalLM
def load(folder): return AutoModelForCausalLM.from_pretrained(folder).to(device)
def logits(model, tokens): return model(tokens).logits
""",
    "transformer_lens": """
from transformer_lens.model_bridge import TransformerBridge
def load(folder): return TransformerBridge.boot_transformers(folder, device=device)
def logits(model, tokens): return model(tokens)
""",
    "nnsight": """
from nnsight import TransformersModel
def load(folder):
    return TransformersModel(folder, task="text-generation", dispatch=True, device_map=device)
def logits(model, tokens):
    with model.trace(tokens):
        found = model.output.logits.save()
    return found
""",
}

_LOAD = '''
import gc, json, sys, time
import torch
first, folder, device = sys.argv[1:]
torch.set_grad_enabled(False)
{imports}
def resident(field):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(l.split()[1]) * 1024 for l in lines if l.startswith(field + ":"))
def begin():
    """Let the peak begin anew; what is held now, or None where the system does not tell."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    try:
        open("/proc/self/clear_refs", "w").write("5")
    except OSError:
        return None
    return resident("VmRSS")
logits(load(first), torch.arange(8, device=device)[None])  # imports what is only imported then
gc.collect()
before = begin()
start = time.perf_counter()
tokens = torch.arange(8, device=device)[None]
model = load(folder)
found = logits(model, tokens)
if device == "cuda":
    torch.cuda.synchronize()
elapsed = (time.perf_counter() - start) * 1e3
peak = torch.cuda.max_memory_allocated() if device == "cuda" else resident("VmHWM")
peak = None if before is None else peak - before
print(json.dumps([elapsed, peak, found[0, -1, :64].float().tolist()]))
'''


def import_times(rounds: int, packages: Sequence[str] = _PACKAGES) -> list[Row]:
    """Milliseconds that importing each package takes once torch is imported, in fresh processes."""
    note = "fresh process, after import torch"
    rows = [Row("import", p, "any", "", note) for p in packages if find_spec(p) is not None]
    for _ in range(rounds):
        for row in rows:
            found, problem = _run([_IMPORT.format(package=row.contender)])
            row.problem = row.problem or problem
            if not problem:
                row.milliseconds.append(float(json.loads(found)))
    return rows


def load_times(
    shape: Shape, device: str, rounds: int, packages: Sequence[str] = _PACKAGES
) -> list[Row]:
    """Opening the same checkpoint, up to the logits of eight tokens, in fresh processes.

    Each has opened a tiny one before, so that all code is imported. Without the logits a package
    that only maps the file into memory would seem to have read it.

    Memory is the most that the process held above what it held before, the pages of the file that
    it had mapped included; on CUDA the most that was allocated there.
    """
    found_on = (
        "on the device" if device == "cuda" else "resident, mapped pages of the file included"
    )
    rows = [
        Row("load", p, shape.name, "float32", f"peak {found_on}")
        for p in packages
        if find_spec(p) is not None
    ]
    expected: torch.Tensor | None = None
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as folder:
        _save(TINY, first)
        _save(shape, folder)
        for _ in range(rounds):
            for row in rows:
                script = _LOAD.format(imports=_OPEN[row.contender])
                printed, problem = _run([script, first, folder, device])
                row.problem = row.problem or problem
                if problem:
                    continue
                milliseconds, peak, logits = json.loads(printed)
                row.milliseconds.append(milliseconds)
                if peak is not None:
                    row.peak_bytes = max(row.peak_bytes or 0, peak)
                reading = torch.tensor(logits)
                expected = reading if expected is None else expected
                row.difference = difference(reading, expected)
                if row.difference > LIMITS[torch.float32]:
                    row.problem = f"disagrees by {row.difference:.1e}"
    return rows


def _save(shape: Shape, folder: str) -> None:
    given = Given(shape)
    given.weights.save_pretrained(folder)
    given.tokenizer.save_pretrained(folder)


def _run(arguments: list[str]) -> tuple[str, str]:
    """The last line that a script printed, and what went wrong."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        cwd=Path(__file__).resolve().parents[1],
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        return "", last[0]
    return done.stdout.strip().splitlines()[-1], ""
