"""The Triton kernel against the reference: in Triton's interpreter, for a GPU's code, and on one.

Triton reads TRITON_INTERPRET when it is imported, so the interpreted cases run in another process:
`TRITON_INTERPRET=1 pytest tests/interp/kernels/test_kernel.py` runs them in this one.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from interp.errors import InputError
from interp.kernels import STATISTICS, pattern_statistics
from tests.covering import EXHAUSTIVE, slow
from tests.interp.kernels.oracle import check, check_top, pattern_of

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
needs_interpreter = pytest.mark.skipif(not INTERPRETED, reason="runs with TRITON_INTERPRET=1")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).to(dtype)


def real_keys(kind: str, n: int) -> Tensor:
    real = torch.ones(2, n, dtype=torch.bool)
    if kind == "left":
        real[1, :17] = False
    elif kind == "right":
        real[1, n - 17 :] = False
    else:
        real[1, ::3] = False
    return real


# batch, pos, key_pos, heads, kv_heads, d_head, and the rest
CASES: dict[str, tuple[tuple[int, int, int, int, int, int], dict[str, Any]]] = {
    "causal": ((1, 35, 35, 2, 1, 16), {}),
    "short": ((1, 17, 17, 1, 1, 16), {}),
    "one block": ((1, 16, 16, 1, 1, 16), {}),
    "one token": ((1, 1, 1, 2, 2, 8), {}),
    "narrow heads, whole batch": ((2, 18, 18, 2, 2, 5), {"causal": False}),
    "with a cache": ((1, 9, 40, 2, 2, 20), {"window": 12}),
    "window": ((1, 45, 45, 1, 1, 16), {"window": 7}),
    # Wider than the interpreter's blocks of 16: some have no hidden key.
    "window both ways": ((1, 55, 55, 1, 1, 16), {"window": 20, "causal": False}),
    "padding on the left": ((2, 40, 40, 1, 1, 16), {"real_keys": "left", "window": 19}),
    "padding on the right": ((2, 40, 40, 1, 1, 16), {"real_keys": "right", "causal": False}),
    "holes": ((2, 40, 40, 1, 1, 16), {"real_keys": "holes", "sinks": True, "slopes": True}),
    "large scores": ((1, 40, 40, 1, 1, 16), {"exact": True, "scale": 64.0}),
    "alibi": ((1, 40, 40, 2, 2, 16), {"slopes": True}),
    "bias and cap": ((2, 18, 18, 2, 2, 16), {"bias": 1, "soft_cap": 1.5}),
    "hiding bias": ((1, 35, 35, 1, 1, 16), {"bias": 2, "sinks": True}),
    "bf16": ((1, 34, 34, 2, 1, 16), {"dtype": torch.bfloat16}),
    "fp16": ((1, 34, 34, 1, 1, 32), {"dtype": torch.float16, "sinks": True}),
}


def arguments(name: str, device: str) -> dict[str, Any]:
    (batch, pos, key_pos, heads, kv_heads, d_head), options = CASES[name]
    options = dict(options)
    dtype = options.pop("dtype", torch.float32)
    # Every second position, so that no stride is that of a tensor made for it.
    q = random(batch, 2 * pos, heads, d_head, seed=1, dtype=dtype)[:, ::2]
    k = random(batch, key_pos, kv_heads, 2 * d_head, seed=2, dtype=dtype)[..., ::2]
    if options.pop("exact", False):  # sums of products that fp32 holds without rounding
        q, k = q.mul(4).round().div(4), k.mul(4).round().div(4)
    tokens = torch.randint(4, (batch, key_pos), generator=torch.Generator().manual_seed(3))
    if "real_keys" in options:
        options["real_keys"] = real_keys(options["real_keys"], key_pos)
    if "slopes" in options:
        options["slopes"] = random(heads, seed=4).abs() * 0.2
    if "sinks" in options:
        options["sinks"] = random(heads, seed=5)
    if "bias" in options:
        hides = options["bias"] == 2
        options["bias"] = random(1, heads, pos, key_pos, seed=6)
        if hides:
            options["bias"][..., 20, :] = -torch.inf
            options["bias"][..., 30, 3:] = -torch.inf
    given = {"q": q, "k": k, "tokens": tokens, "scale": 0.5, **options}
    return {n: x.to(device) if isinstance(x, Tensor) else x for n, x in given.items()}


def check_case(name: str, device: str, assert_close: Any) -> None:
    """The kernel beside the reference and, in fp64, a pattern that is written down."""
    given = arguments(name, device)
    found = pattern_statistics(**given, route="kernel")
    reference = pattern_statistics(**given, route="reference")
    assert tuple(found) == STATISTICS
    for statistic in found:
        assert found[statistic].dtype == reference[statistic].dtype
        if statistic != "top_source":
            assert_close(found[statistic], reference[statistic], statistic)
    plain = {n: x.cpu() if isinstance(x, Tensor) else x for n, x in given.items()}
    tokens = plain.pop("tokens")
    if name == "hiding bias":  # the oracle's sums would be of nothing
        plain["bias"] = plain["bias"].clamp(min=-1e4)
        pattern, _ = pattern_of(**plain)
        pattern[:, :, 20] = 0.0
        check_top(found["top_source"].cpu(), pattern, torch.float32)
        return
    pattern, lse = pattern_of(**plain)
    on_cpu = {statistic: found[statistic].cpu() for statistic in found}
    check(on_cpu, pattern, assert_close, tokens, plain.get("real_keys"), lse)


# The interpreter multiplies the bits of bf16 as whole numbers. It is slow: what others have between
# them is left out.
SEEN_IN_OTHERS = () if EXHAUSTIVE else ("short", "one block", "window", "alibi")
IN_INTERPRETER = [
    name
    for name, (_, given) in CASES.items()
    if given.get("dtype") != torch.bfloat16 and name not in SEEN_IN_OTHERS
]


@needs_interpreter
@pytest.mark.parametrize("name", IN_INTERPRETER)
def test_interpreted(name: str, assert_close: Any) -> None:
    pytest.importorskip("triton", reason="needs triton, which is made for Linux alone")
    check_case(name, "cpu", assert_close)


@needs_interpreter
@pytest.mark.parametrize("statistic", STATISTICS)
def test_interpreted_one_at_a_time(statistic: str) -> None:
    pytest.importorskip("triton", reason="needs triton, which is made for Linux alone")
    given = arguments("short", "cpu")
    if statistic not in ("same_token_mass", "induction_mass"):
        del given["tokens"]
    found = pattern_statistics(**given, statistics=[statistic], route="kernel")
    assert tuple(found) == (statistic,)
    expected = pattern_statistics(**given, statistics=[statistic], route="reference")
    torch.testing.assert_close(found[statistic], expected[statistic], rtol=0, atol=1e-5)


@pytest.mark.skipif(INTERPRETED, reason="starts the interpreted tests, and these are they")
def test_in_the_interpreter() -> None:
    pytest.importorskip("triton", reason="needs triton, which is made for Linux alone")
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-k", "interpreted", "-p", "no:cacheprovider",
         str(Path(__file__))],
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout[-4000:]
    assert f"{len(IN_INTERPRETER) + len(STATISTICS)} passed" in ran.stdout


@pytest.mark.skipif(INTERPRETED, reason="the interpreter compiles nothing")
@pytest.mark.parametrize(
    ("capability", "off"),
    [
        (80, ()),
        pytest.param(80, ("CAUSAL",), marks=slow),
        pytest.param(90, ("HAS_CAP", "WINDOWED", "PADDED", "HAS_BIAS"), marks=slow),
    ],
)
def test_compiles_for_a_gpu(
    capability: int, off: tuple[str, ...], tmp_path: Path, monkeypatch: Any
) -> None:
    """What the interpreter lets pass, the compiler may not; no GPU is needed for it."""
    pytest.importorskip("triton", reason="needs triton, which is made for Linux alone")
    from triton import compile as build
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from interp.kernels.kernel import statistics_kernel

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    sizes = {"BLOCK_M": 32, "BLOCK_N": 16, "BLOCK_D": 16, "EVEN_D": capability == 90}
    signature, constants = {}, {}
    for place, name in enumerate(statistics_kernel.arg_names):
        if name.isupper():
            signature[name], constants[place,] = "constexpr", sizes.get(name, name not in off)
        elif name == "n_group":  # as for every argument that is 1
            signature[name], constants[place,] = "constexpr", 1
        elif name in ("q", "k", "slopes", "bias", "sinks"):
            signature[name] = "*bf16"
        elif name.endswith("_out"):
            signature[name] = "*i64" if name == "top_out" else "*fp32"
        elif name in ("scale", "cap"):
            signature[name] = "fp32"
        elif name.endswith("_stride"):
            signature[name] = "i64" if capability == 80 else "i32"
        else:
            whole = name.startswith("n_") or name in ("d_head", "length_class")
            signature[name] = "i32" if whole else "*i32"
    source = ASTSource(statistics_kernel, signature, constants)
    built = build(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": 4})
    assert f"sm_{capability}" in built.asm["ptx"]
    assert "mma" in built.asm["ptx"]  # scores are the tensor cores' work


@needs_cuda
@pytest.mark.parametrize("name", CASES)
def test_on_a_gpu(name: str, assert_close: Any) -> None:
    check_case(name, "cuda", assert_close)


@needs_cuda
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("d_head", [16, 64, 80, 128, 256])
def test_widths_on_a_gpu(dtype: torch.dtype, d_head: int, assert_close: Any) -> None:
    q, k = random(2, 700, 4, d_head, dtype=dtype), random(2, 700, 2, d_head, seed=1, dtype=dtype)
    tokens = torch.arange(700).remainder(90).expand(2, -1)
    expected = pattern_statistics(q, k, tokens=tokens)
    found = pattern_statistics(q.cuda(), k.cuda(), tokens=tokens.cuda())
    for name in STATISTICS:
        if name != "top_source":
            assert_close(found[name].cpu(), expected[name], name)


@needs_cuda
def test_a_long_prompt_on_a_gpu(assert_close: Any) -> None:
    """32,768 tokens, whose pattern would take 48 GiB; the last rows against rows written down."""
    q, k = (random(1, 2**15, 12, 64, seed=s, dtype=torch.bfloat16).cuda() for s in (0, 1))
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    found = pattern_statistics(q, k)
    assert torch.cuda.max_memory_allocated() - before < 2**28
    last = pattern_statistics(q[:, -64:].cpu(), k.cpu())
    for name in last:
        if name != "top_source":
            assert_close(found[name][..., -64:].cpu(), last[name], name)


@needs_cuda
def test_no_wait_for_the_gpu() -> None:
    q = random(2, 300, 2, 64, dtype=torch.bfloat16).cuda()
    real = real_keys("left", 300).cuda()
    tokens = torch.arange(300, device="cuda").remainder(9).expand(2, -1)
    pattern_statistics(q, q, tokens=tokens, real_keys=real)  # tunes
    torch.cuda.set_sync_debug_mode("error")
    try:
        pattern_statistics(q, q, tokens=tokens, real_keys=real)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.skipif(INTERPRETED, reason="the interpreter takes tensors on the CPU")
def test_refuses_other_devices() -> None:
    q = torch.zeros(1, 3, 1, 8)
    with pytest.raises(InputError, match=r"the kernel runs on CUDA\. Received tensors on cpu"):
        pattern_statistics(q, q, route="kernel")


def test_says_that_triton_is_missing(monkeypatch: Any) -> None:
    from interp.kernels import launch

    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    launch._kernel.cache_clear()
    q = torch.zeros(1, 3, 1, 8)
    with pytest.raises(InputError, match="the kernel needs triton"):
        pattern_statistics(q, q, route="kernel")


def test_block_sizes_fit_wide_heads() -> None:
    from interp.kernels.launch import _that_fit

    class Config:
        def __init__(self, m: int) -> None:
            self.kwargs = {"BLOCK_M": m}

    configs = [Config(128), Config(64), Config(32)]
    for dtype, width, expected in (
        (torch.bfloat16, 64, [128, 64, 32]),
        (torch.bfloat16, 256, [64, 32]),
        (torch.float32, 256, [32]),
    ):
        given = {"q": torch.zeros(1, dtype=dtype), "BLOCK_D": width}
        assert [c.kwargs["BLOCK_M"] for c in _that_fit(configs, given)] == expected
