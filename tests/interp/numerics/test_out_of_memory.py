"""Lack of memory is explained: what was asked for, what took it, how many rows would fit."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from interp import HookedTransformer, HookedTransformerConfig, InterpError
from interp.numerics import OutOfMemoryError
from interp.numerics.out_of_memory import is_out_of_memory
from tests.covering import EXHAUSTIVE

MiB = 1 << 20
TOKENS = torch.zeros(8, 5, dtype=torch.long)
ON_GPU = (
    "CUDA out of memory. Tried to allocate 2.00 MiB. GPU 0 has a total capacity of 1.00 GiB of "
    "which 1.00 MiB is free."
)
ON_CPU = (
    "[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried "
    "to allocate 2097152 bytes. Error code 12 (Cannot allocate memory)"
)


@pytest.fixture
def model() -> HookedTransformer:
    fields = {
        "n_layers": 4, "d_model": 24, "n_ctx": 16, "n_heads": 4, "d_mlp": 20, "act_fn": "gelu",
        "d_vocab": 31, "device": "cpu",
    }  # fmt: skip
    return HookedTransformer(HookedTransformerConfig(**fields)).eval()


def memory(monkeypatch: pytest.MonkeyPatch, at_failure: int, after: int) -> None:
    """What is free when it fails, and once the run's tensors are gone."""
    free: Iterator[int] = iter([at_failure, after])
    monkeypatch.setattr("interp.numerics.out_of_memory.free_memory", lambda device: next(free))


def fails(model: HookedTransformer, fault: RuntimeError, layer: int) -> None:
    def fail(x: torch.Tensor, hook: Any) -> None:
        raise fault

    model.add_hook(f"blocks.{layer}.hook_mlp_out", fail)


@pytest.mark.parametrize(
    ("fault", "device"),
    [(torch.OutOfMemoryError(ON_GPU), "cuda:0"), (RuntimeError(ON_CPU), "cpu")],
    ids=["cuda", "cpu"],
)
def test_without_gradients_what_is_taken_is_taken_once(
    model: HookedTransformer,
    fault: RuntimeError,
    device: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fails(model, fault, 2)
    memory(monkeypatch, MiB, 15 * MiB)
    with torch.no_grad(), pytest.raises(OutOfMemoryError) as caught:
        model(TOKENS)
    error = caught.value
    # 8 rows took 14 MiB and asked for 2 more: 2 MiB a row; nine tenths of 15 MiB hold 6.
    assert (error.n_rows, error.rows_that_fit, str(error.device)) == (8, 6, device)
    assert str(error) == (
        f"{device} ran out of memory in block 2 of 4: 2.0 MiB more were asked for, by a run of 8 "
        "rows of 5 positions. Without this run 15.0 MiB are free. About 6 rows would fit, at most."
    )
    assert error.__cause__ is fault
    assert isinstance(error, InterpError)
    assert isinstance(error, MemoryError)
    assert isinstance(error, torch.OutOfMemoryError)


def test_with_gradients_every_block_takes_as_much_again(
    model: HookedTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails(model, torch.OutOfMemoryError(ON_GPU), 1)
    memory(monkeypatch, MiB, 15 * MiB)
    with pytest.raises(OutOfMemoryError) as caught:
        model(TOKENS)
    # 14 MiB by two of four blocks, 28 by all, and 2: 30 for 8 rows; 13.5 hold 3.6 rows.
    assert caught.value.rows_that_fit == 3
    assert str(caught.value).endswith("Nothing is kept for gradients under torch.no_grad().")


def test_records_are_named_and_counted(
    model: HookedTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails(model, RuntimeError(ON_CPU), 3)
    memory(monkeypatch, 0, 0)
    with torch.no_grad(), pytest.raises(OutOfMemoryError) as caught:
        model.run_with_cache(TOKENS, names_filter=["*hook_pattern", "*hook_resid_post"])
    sizes = [n / 1024 for n in (4 * 8 * 5 * 24 * 4, 4 * 8 * 4 * 5 * 5 * 4)]  # of all four layers
    assert (
        f"Records of the whole run: hook_resid_post of 4 layers: {sizes[0]:.1f} KiB; "
        f"attn.hook_pattern of 4 layers: {sizes[1]:.1f} KiB."
    ) in str(caught.value)
    assert "names_filter, pos_slice or a narrower dtype" in str(caught.value)
    assert caught.value.rows_that_fit == 0
    assert "Not even one row would fit" in str(caught.value)


def test_what_the_failed_run_held_is_let_go(
    model: HookedTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    import weakref

    held: list[Any] = []
    model.add_hook("blocks.0.hook_resid_mid", lambda x, hook: held.append(weakref.ref(x)))
    fails(model, RuntimeError(ON_CPU), 0)
    with pytest.raises(OutOfMemoryError) as caught:
        model(TOKENS)
    assert held[0]() is None
    assert caught.value.__cause__ is not None


def test_other_errors_stay_what_they_are(model: HookedTransformer) -> None:
    fault = RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    fails(model, fault, 0)
    with pytest.raises(RuntimeError) as caught:
        model(TOKENS)
    assert caught.value is fault
    told = OutOfMemoryError("", device=torch.device("cpu"), n_rows=1, rows_that_fit=0)
    assert not is_out_of_memory(told)


def test_a_run_inside_a_run_is_told_of_once(
    model: HookedTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_inside(x: torch.Tensor, hook: Any) -> None:
        if model._watchers.run_depth == 1:
            model(TOKENS[:3])
        else:
            raise RuntimeError(ON_CPU)

    model.add_hook("blocks.1.hook_resid_pre", run_inside)
    memory(monkeypatch, 0, MiB)
    with pytest.raises(OutOfMemoryError) as caught:
        model(TOKENS)
    assert caught.value.n_rows == 3


def test_what_torch_says_on_the_cpu_is_understood(model: HookedTransformer) -> None:
    def ask(x: torch.Tensor, hook: Any) -> None:
        torch.empty(1 << 60, dtype=torch.uint8)

    model.add_hook("blocks.2.hook_resid_mid", ask)
    with torch.no_grad(), pytest.raises(OutOfMemoryError) as caught:
        model(TOKENS)
    error = caught.value
    assert (str(error.device), error.n_rows, error.rows_that_fit) == ("cpu", 8, 0)
    assert str(error).startswith(f"cpu ran out of memory in block 2 of 4: {1 << 30}.0 GiB more")


# A real lack of memory: the address space of a process is limited, and a run fails. Half as many
# rows as it then says must fit, and twice as many must not.
_LIMITED = """
import resource, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from interp import HookedTransformer, HookedTransformerConfig
from interp.numerics import OutOfMemoryError

cfg = HookedTransformerConfig(
    n_layers=6, d_model=64, n_heads=8, n_ctx=256, d_mlp=256, act_fn="gelu", d_vocab=64,
    device="cpu",
)
model = HookedTransformer(cfg).eval()
run = lambda rows: model.run_with_cache(
    torch.zeros(rows, 256, dtype=torch.long), names_filter="*hook_pattern", max_bytes=1 << 40
)
with torch.no_grad():
    run(1)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = now + (200 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        run(64)
    except OutOfMemoryError as error:
        told, rows = str(error), error.rows_that_fit
    else:
        raise SystemExit("it had room for everything")
    run(max(1, rows // 2))
    try:
        run(2 * rows)
    except OutOfMemoryError:
        print("between half of it and twice as much")
print(rows)
print(told)
"""


@pytest.mark.skipif(not EXHAUSTIVE, reason="takes seconds: INTERP_EXHAUSTIVE=1")
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_a_real_lack_of_memory() -> None:
    done = subprocess.run([sys.executable, "-c", _LIMITED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found, rows, told = done.stdout.splitlines()[:3]
    assert found == "between half of it and twice as much"
    assert int(rows) >= 1
    assert "cpu ran out of memory in block" in told
    assert "Records of the whole run: attn.hook_pattern" in told
