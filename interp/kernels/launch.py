"""Starting the Triton kernel: block sizes, pointers, and what it takes of masks and tokens."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import InputError
from interp.kernels.visible import ScoreRule, Visible

_NO_TOKEN = -(2**31)  # before the first real token; no query holds it


def kernel_statistics(
    q: Float[Tensor, "batch pos head d_head"],
    k: Float[Tensor, "batch key_pos kv_head d_head"],
    rule: ScoreRule,
    visible: Visible,
    tokens: Int[Tensor, "batch key_pos"] | None,
    names: tuple[str, ...],
) -> dict[str, Float[Tensor, "batch head pos"]]:
    """The statistics of these names by one kernel; all arguments are checked already.

    Nothing here waits for the device, but for the first call of each kind and length, which tries
    the block sizes. Tokens are told apart by their lowest 32 bits.

    Raises:
        InputError: where triton is not installed, or tensors are neither on CUDA nor, under
            `TRITON_INTERPRET=1`, on the CPU.
    """
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    if q.device.type != "cuda" and not (interpreted and q.device.type == "cpu"):
        raise InputError(
            f"the kernel runs on CUDA. Received tensors on {q.device}: use route='reference'."
        )
    batch, pos, n_heads, d_head = q.shape
    found = {
        name: torch.empty(
            batch,
            n_heads,
            pos,
            device=q.device,
            dtype=torch.int64 if name == "top_source" else torch.float32,
        )
        for name in names
    }
    unused = torch.empty(1, device=q.device, dtype=torch.int32)  # never read nor written

    def narrow(x: Tensor) -> Tensor:
        return x.to(torch.int32).contiguous()

    def outputs(name: str) -> Tensor:
        return found.get(name, unused)

    def source(name: str) -> Tensor:
        return narrow(visible.single_source(name)) if name in found else unused

    padded = visible.real_keys is not None
    before = None
    if tokens is not None and "induction_mass" in names:
        before = _tokens_before(tokens, visible)
    bias = rule.bias
    block_d = max(16, 1 << (d_head - 1).bit_length())
    arguments: dict[str, Any] = {
        "q": q,
        "k": k,
        "low": narrow(visible.low),
        "high": narrow(visible.high),
        "query_places": narrow(visible.places),
        "key_places": narrow(visible.key_places),
        "real": narrow(visible.real_keys) if visible.real_keys is not None else unused,
        "tokens": unused if tokens is None else narrow(tokens),
        "tokens_before": unused if before is None else narrow(before),
        "first_source": source("first_mass"),
        "previous_source": source("previous_mass"),
        "own_source": source("self_mass"),
        "slopes": unused if rule.slopes is None else rule.slopes.contiguous(),
        "bias": unused if bias is None else bias,
        "sinks": unused if rule.sinks is None else rule.sinks.contiguous(),
        "lse_out": outputs("lse"),
        "entropy_out": outputs("entropy"),
        "first_out": outputs("first_mass"),
        "previous_out": outputs("previous_mass"),
        "self_out": outputs("self_mass"),
        "same_out": outputs("same_token_mass"),
        "after_out": outputs("induction_mass"),
        "distance_out": outputs("mean_distance"),
        "top_out": outputs("top_source"),
        "top_share_out": outputs("top_share"),
        **_strides("q", q),
        **_strides("k", k),
        **_bias_strides(bias),
        "query_row_stride": pos if padded else 0,
        "key_row_stride": visible.n_keys if padded else 0,
        "n_queries": pos,
        "n_keys": visible.n_keys,
        "n_heads": n_heads,
        "n_group": n_heads // k.shape[2],
        "d_head": d_head,
        "scale": rule.scale,
        "cap": rule.soft_cap,
        "length_class": (visible.n_keys - 1).bit_length(),
        "CAUSAL": visible.causal,
        "WINDOWED": visible.window is not None,
        "PADDED": padded,
        "HAS_CAP": rule.soft_cap > 0,
        "HAS_SLOPES": rule.slopes is not None,
        "HAS_BIAS": bias is not None,
        "HAS_SINKS": rule.sinks is not None,
        "LSE": "lse" in found,
        "ENTROPY": "entropy" in found,
        "FIRST": "first_mass" in found,
        "PREVIOUS": "previous_mass" in found,
        "SELF": "self_mass" in found,
        "SAME": "same_token_mass" in found,
        "AFTER": "induction_mass" in found,
        "DISTANCE": "mean_distance" in found,
        "TOP": "top_source" in found,
        "TOP_SHARE": "top_share" in found,
        "BLOCK_D": block_d,
        "EVEN_D": block_d == d_head,
    }  # fmt: skip
    kernel, blocks = _kernel(interpreted)
    arguments.update(blocks)

    def grid(chosen: dict[str, Any]) -> tuple[int]:
        return (-(-pos // chosen["BLOCK_M"]) * batch * n_heads,)

    if interpreted:
        kernel[grid](**arguments)
        return found
    with torch.cuda.device(q.device):
        kernel[grid](**arguments)
    return found


def _tokens_before(
    tokens: Int[Tensor, "batch key_pos"], visible: Visible
) -> Int[Tensor, "batch key_pos"]:
    """The token of the last real key before each key."""
    before = visible.before.expand(tokens.shape[0], -1)
    return torch.where(before >= 0, tokens.gather(1, before.clamp(min=0)), _NO_TOKEN)


def _strides(name: str, x: Tensor) -> dict[str, int]:
    axes = ("batch", "pos", "head", "d")
    return {f"{name}_{axis}_stride": n for axis, n in zip(axes, x.stride(), strict=True)}


def _bias_strides(bias: Tensor | None) -> dict[str, int]:
    strides = [0, 0, 0, 0] if bias is None else list(bias.stride())
    if bias is not None and bias.shape[0] == 1:
        strides[0] = 0  # one for all rows of the batch
    axes = ("batch", "head", "pos", "key")
    return {f"bias_{axis}_stride": n for axis, n in zip(axes, strides, strict=True)}


@cache
def _kernel(interpreted: bool) -> tuple[Any, dict[str, int]]:
    """The kernel, and its block sizes where no tuner chooses them.

    Raises:
        InputError: where triton is not installed.
    """
    try:
        import triton  # type: ignore[import-untyped, import-not-found, unused-ignore]
    except ImportError as error:
        raise InputError(
            "the kernel needs triton, which comes with torch for CUDA (pip install triton); "
            "route='reference' does without."
        ) from error
    from interp.kernels.kernel import statistics_kernel

    if interpreted:  # the tuner times what it tries on a GPU
        return statistics_kernel, {"BLOCK_M": 16, "BLOCK_N": 16}
    # BLOCK_M, BLOCK_N, warps, stages: none of these spills registers at d_head 64.
    shapes = [(128, 64, 8, 3), (128, 32, 8, 3), (64, 64, 4, 3), (64, 32, 4, 3), (32, 32, 4, 2)]
    configs = [
        triton.Config({"BLOCK_M": m, "BLOCK_N": n}, num_warps=warps, num_stages=stages)
        for m, n, warps, stages in shapes
    ]
    compiled_for = ["BLOCK_D", "length_class", "PADDED", "WINDOWED", "HAS_BIAS", "HAS_CAP", "TOP",
                    "SAME", "AFTER"]  # fmt: skip
    tuned = triton.autotune(
        configs, key=compiled_for, prune_configs_by={"early_config_prune": _that_fit}
    )
    return tuned(statistics_kernel), {}


def _that_fit(configs: list[Any], arguments: dict[str, Any], **constants: Any) -> list[Any]:
    """Configurations whose block of queries is small enough: 32 KiB, and the smallest always."""
    given = {**arguments, **constants}
    row = given["q"].element_size() * given["BLOCK_D"]
    return [c for c in configs[:-1] if c.kwargs["BLOCK_M"] * row <= 2**15] + configs[-1:]
