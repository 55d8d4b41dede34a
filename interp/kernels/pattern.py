"""Statistics of the attention pattern of given queries and keys."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.errors import InputError, require, require_number, require_one_of, require_whole
from interp.kernels.reference import reference_statistics
from interp.kernels.statistics import OF_TOKENS, PatternStatistics, chosen_statistics
from interp.kernels.visible import ScoreRule, Visible

Route = Literal["reference", "kernel"]
KERNEL_DTYPES = (torch.float16, torch.bfloat16, torch.float32)
KERNEL_D_HEAD = 256


@torch.no_grad()
def pattern_statistics(
    q: Float[Tensor, "batch pos head d_head"],
    k: Float[Tensor, "batch key_pos kv_head d_head"],
    *,
    scale: float | None = None,
    tokens: Int[Tensor, "batch key_pos"] | None = None,
    causal: bool = True,
    real_keys: Bool[Tensor, "batch key_pos"] | None = None,
    window: int | None = None,
    soft_cap: float = 0.0,
    slopes: Float[Tensor, "head"] | None = None,
    bias: Float[Tensor, "batch head pos key_pos"] | None = None,
    sinks: Float[Tensor, "head"] | None = None,
    statistics: Iterable[str] | None = None,
    route: Route | None = None,
) -> PatternStatistics:
    """Entropy, attention to first, previous and same tokens, … of softmax(scale · q kᵀ).

    The pattern itself, `[batch, head, pos, key_pos]`, is never made: memory grows with the length
    of the sequence, not with its square. Only what is asked for is computed; no gradient flows.

    Args:
        q: Queries as `hook_rot_q` gives them, or `hook_q` where nothing turns or normalises them.
        k: Keys likewise. Fewer heads than queries have are shared, `head // kv_head` queries each.
            With more keys than queries, the queries are at the last positions (as with a cache).
        scale: Multiplies q·k; a positive number. None: 1/√d_head.
        tokens: The token of every key; needed for `same_token_mass` and `induction_mass`.
        causal: A destination sees itself and what is before it; otherwise also what follows.
        real_keys: False for padding, on either side. None: no padding.
        window: A destination sees sources less than this many positions away. None: all.
        soft_cap: Scores become soft_cap · tanh(score / soft_cap); 0: they stay.
        slopes: -slope · |i - j| is added to a head's scores (ALiBi, Press et al. 2022).
        bias: Added to the scores; its batch axis may be 1. This one is n² where it is given.
        sinks: A score of each head that takes its share of the pattern and gives nothing for it.
        statistics: Which fields to compute. None: all, those of tokens only with `tokens`.
        route: `kernel` is one Triton kernel; `reference` is plain torch in blocks of queries. None:
            the kernel for fp16, bf16 and fp32 on CUDA with d_head up to 256; else the reference,
            which takes any device, fp64 and any d_head. Memory is O(n) on both.

    Returns:
        Fields of shape `[batch, head, pos]`, where `q` is.

    Raises:
        InputError: for shapes, dtypes or devices that do not fit together, a value out of its
            range, an unknown statistic, tokens missing where they are needed or given where they
            are not, or `route="kernel"` where it does not apply or triton is not installed.
    """
    _check_queries_and_keys(q, k)
    batch, pos, n_heads, d_head = q.shape
    key_pos = k.shape[1]
    names = chosen_statistics(statistics, tokens is not None)
    require(
        tokens is None or statistics is None or not set(names).isdisjoint(OF_TOKENS),
        f"tokens have no use without {' or '.join(OF_TOKENS)}. Received both tokens and "
        f"{', '.join(names)}",
    )
    if window is not None:
        require_whole("window", window, 1)
    require_number("soft_cap", soft_cap, zero=True)
    scale = d_head**-0.5 if scale is None else scale
    require_number("scale", scale)
    _check_beside("tokens", tokens, q, (batch, key_pos))
    _check_beside("real_keys", real_keys, q, (batch, key_pos))
    _check_beside("slopes", slopes, q, (n_heads,))
    _check_beside("sinks", sinks, q, (n_heads,))
    square = (n_heads, pos, key_pos)
    _check_beside("bias", bias, q, (batch, *square), (1, *square))
    if tokens is not None:
        tokens = _checked_tokens(tokens, names)
    if real_keys is not None:
        require(
            real_keys.dtype == torch.bool, f"real_keys must be bool. Received {real_keys.dtype}"
        )
    rule = ScoreRule(float(scale), float(soft_cap), slopes, bias, sinks)
    visible = Visible(pos, key_pos, causal, window, real_keys, q.device)
    return statistics_of_pattern(q, k, rule, visible, tokens, names, chosen_route(route, q))


def statistics_of_pattern(
    q: Float[Tensor, "batch pos head d_head"],
    k: Float[Tensor, "batch key_pos kv_head d_head"],
    rule: ScoreRule,
    visible: Visible,
    tokens: Int[Tensor, "batch key_pos"] | None,
    names: tuple[str, ...],
    route: Route,
) -> PatternStatistics:
    """`pattern_statistics` of arguments that are checked already."""
    if route == "reference":
        return PatternStatistics(**reference_statistics(q, k, rule, visible, tokens, names))
    from interp.kernels.launch import kernel_statistics  # triton only where it is used

    return PatternStatistics(**kernel_statistics(q, k, rule, visible, tokens, names))


def chosen_route(route: Route | None, q: Float[Tensor, "... d_head"]) -> Route:
    """Which of the two routes these queries take.

    Raises:
        InputError: for a route that is none, or the kernel where it does not apply.
    """
    if route is not None:
        require_one_of("route", route, ("reference", "kernel"))
    fits = q.dtype in KERNEL_DTYPES and q.shape[-1] <= KERNEL_D_HEAD
    if route == "kernel":
        require(
            fits,
            f"the kernel takes fp16, bf16 and fp32 with d_head up to {KERNEL_D_HEAD}. Received "
            f"{q.dtype} with d_head {q.shape[-1]}: route='reference' takes any",
        )
        return route
    if route is None and q.device.type == "cuda" and fits:
        return "kernel"
    return "reference"


def _checked_tokens(tokens: Tensor, names: tuple[str, ...]) -> Tensor | None:
    whole = not (tokens.is_floating_point() or tokens.is_complex() or tokens.dtype == torch.bool)
    require(whole, f"tokens must be whole numbers. Received {tokens.dtype}")
    return None if set(names).isdisjoint(OF_TOKENS) else tokens.long()


def _check_queries_and_keys(q: Tensor, k: Tensor) -> None:
    for name, value in (("q", q), ("k", k)):
        _require_tensor(name, value)
    fits = (
        q.ndim == k.ndim == 4
        and q.shape[0] == k.shape[0]
        and q.shape[3] == k.shape[3]
        and q.shape[2] > 0
        and k.shape[2] > 0
        and q.shape[2] % k.shape[2] == 0
        and 0 < q.shape[1] <= k.shape[1]
        and q.shape[3] > 0
    )
    require(
        fits,
        "q must be [batch, pos, head, d_head] and k [batch, key_pos, kv_head, d_head] with at "
        "least as many positions, and heads that divide those of q; none but batch may be empty. "
        "Received "
        f"{tuple(q.shape)} and {tuple(k.shape)}",
    )
    if not q.is_floating_point() or q.dtype != k.dtype or q.device != k.device:
        raise InputError(
            "q and k must be floating-point, of one dtype and on one device. Received "
            f"{q.dtype} on {q.device} and {k.dtype} on {k.device}."
        )


def _check_beside(name: str, value: Tensor | None, q: Tensor, *shapes: tuple[int, ...]) -> None:
    if value is None:
        return
    _require_tensor(name, value)
    wanted = " or ".join(map(str, dict.fromkeys(shapes)))
    require(
        tuple(value.shape) in shapes,
        f"{name} must have the shape {wanted}. Received {tuple(value.shape)}",
    )
    require(
        value.device == q.device,
        f"{name} must be on {q.device}, as q is. Received {value.device}",
    )


def _require_tensor(name: str, value: object) -> None:
    kind = type(value).__name__
    require(isinstance(value, Tensor), f"{name} must be a tensor. Received a {kind}")
