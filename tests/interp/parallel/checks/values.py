"""Logits, hooks and gradients are those of one device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from interp import HookedTransformer
from interp.parallel import tensor_parallel
from tests.covering import EXHAUSTIVE, every_nth
from tests.interp.kinds import (
    KINDS,
    Change,
    everything,
    given_to,
    one_place_each,
    some_tokens,
    with_padding,
)
from tests.interp.parallel.checks.common import (
    CHECKS,
    LLAMA,
    TOLERANCE,
    USABLE,
    check,
    difference,
    error_of,
    largest,
    make,
)

_AS_EXACT = 3.0  # sums in another order err as much, not in the same direction


def observed(model: HookedTransformer, given: dict[str, Tensor], edits: list[Any]) -> Any:
    """Logits, values and gradients of every hook, and gradients of weights, of an edited run."""
    values: dict[str, Tensor] = {}
    gradients: dict[str, Tensor] = {}

    def keep(x: Tensor, hook: Any) -> None:
        values[hook.name] = x.detach().clone()

    def keep_and_change(gradient: Tensor, hook: Any) -> Tensor | None:
        gradients[hook.name] = gradient.detach().clone()
        if not edits:
            return None
        # Another factor for every entry of the last axis, so that shares are told apart.
        return gradient * torch.linspace(0.5, 1.5, gradient.shape[-1]).to(gradient)

    model.zero_grad()
    with model.hooks([*edits, (everything, keep)], [(everything, keep_and_change)]):
        logits = model(**given)
        noise = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1))
        (logits * noise.to(logits)).sum().backward()
    weights = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return logits, values, gradients, weights


def same_everywhere(single: HookedTransformer, padded: bool = False) -> float:
    spread = tensor_parallel(single)
    given = given_to(single)
    if padded:
        given = with_padding(given, [2, 0, 1], left=True)
    logits = single(**given)
    worst = [difference(spread(**given), logits, "logits with gradients")]
    with torch.no_grad():
        worst.append(difference(spread(**given), logits, "logits"))
        recorded = single.run_with_cache(**given, names_filter=everything)[1].cache_dict
        found = spread.run_with_cache(**given, names_filter=everything)[1].cache_dict
        worst.append(largest(found, recorded, "recorded"))
        # Each alone: what it needs and no more.
        for name in every_nth(one_place_each(list(recorded), 0), 8, len(recorded)):
            alone = spread.run_with_cache(**given, names_filter=name)[1].cache_dict
            worst.append(difference(alone[name], recorded[name], f"{name} alone"))
    change = Change()
    places = one_place_each(list(single.hook_dict), 1)
    for edits in ([], [(name, change) for name in places]):
        for kind, a, b in zip(
            ("logits", "hook", "gradient at", "gradient of"),
            observed(spread, given, edits),
            observed(single, given, edits),
            strict=True,
        ):
            what = f"{'edited ' * bool(edits)}{kind}"
            if isinstance(b, dict):
                worst.append(largest(a, b, what))
            else:
                worst.append(difference(a, b, what))
    return max(worst)


def _of_kind(name: str, dtype: torch.dtype = torch.float64) -> Callable[[Path], float]:
    return lambda out: same_everywhere(make(dtype, **USABLE[name]), padded=len(name) % 2 == 0)


def _as_exact(name: str) -> Callable[[Path], float]:
    """In fp32: within 1e-5 of one device; where an edit makes numbers that fp32 cannot hold that
    well, as near to the same weights in fp64 as one device is, to a factor of `_AS_EXACT`."""

    def compare(out: Path) -> float:
        single = make(torch.float32, **USABLE[name])
        exact = make(torch.float64, **USABLE[name])
        exact.load_state_dict({k: v.double() for k, v in single.state_dict().items()})
        spread = tensor_parallel(single)
        given = given_to(single)
        change = Change()
        worst = [0.0]
        for edits in ([], [(n, change) for n in one_place_each(list(single.hook_dict), 1)]):
            seen = [observed(model, given, edits) for model in (spread, single, exact)]
            for kind, a, b, c in zip(
                ("logits", "hook", "gradient at", "gradient of"), *seen, strict=True
            ):
                if not isinstance(c, dict):
                    a, b, c = {kind: a}, {kind: b}, {kind: c}
                assert a.keys() == b.keys() == c.keys()
                for n in c:
                    of_one = error_of(b[n], c[n])
                    allowed = max(TOLERANCE[torch.float32], _AS_EXACT * of_one)
                    found = error_of(a[n], c[n])
                    assert found <= allowed, f"{kind} {n}: {found:.1e}, one device {of_one:.1e}"
                    worst.append(found)
        return max(worst)

    return compare


# Every way of sharing that there is; the others differ in what each rank does by itself.
CHOSEN = ("gptj", "full-ungrouped", "t5")
for _name in USABLE if EXHAUSTIVE else CHOSEN:
    CHECKS[f"kind {_name}"] = _of_kind(_name)
for _name in USABLE if EXHAUSTIVE else ():
    CHECKS[f"fp32 {_name}"] = _as_exact(_name)


@check
def parts_by_hand(out: Path) -> float:
    worst = [0.0]
    for name in ("solu-ln", "full-ungrouped"):
        single = make(**KINDS[name])
        spread = tensor_parallel(single)
        x = torch.randn(2, 5, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        seen: list[dict[str, Tensor]] = []
        for model in (single, spread):
            block, found = model.blocks[0], {}

            def keep(value: Tensor, hook: Any, found: dict[str, Tensor] = found) -> None:
                found[hook.name] = value.detach().clone()

            with torch.no_grad(), model.hooks([(everything, keep)]):
                for i, part in enumerate((block, block.mlp, block.ln1, model.ln_final)):
                    found[f"{name} {i}"] = part(x)
                found["attn"] = block.attn(x, x, x)
            seen.append(found)
        worst.append(largest(seen[1], seen[0], name))
    return max(worst)


@check
def each_edit_alone(out: Path) -> float:
    """Forward, in place and returned, at every hook: logits and weight gradients."""
    worst = [0.0]
    for kind in ("gpt2", "llama") if EXHAUSTIVE else ("gpt2",):
        single = make(n_layers=1, **KINDS[kind])
        spread = tensor_parallel(single)
        given = given_to(single)
        for i, name in enumerate(every_nth(list(single.hook_dict), 5, 3)):
            edit = Change(in_place=i % 2 == 0)
            for model in (single, spread):
                model.zero_grad()
                model.run_with_hooks(**given, fwd_hooks=[(name, edit)]).square().sum().backward()
            for (n, p), q in zip(single.named_parameters(), spread.parameters(), strict=True):
                if p.grad is not None:
                    worst.append(difference(q.grad, p.grad, f"{n} with {name} edited"))
    return max(worst)


@check
def swapped_between_ranks(out: Path) -> float:
    """An edit that moves what one rank holds to the other."""
    single = make(**LLAMA)
    spread = tensor_parallel(single)
    tokens = some_tokens()
    hooks = [
        ("blocks.0.attn.hook_z", lambda x, hook: x.flip(2)),
        ("blocks.0.attn.hook_k", lambda x, hook: x.roll(1, 2)),
        ("blocks.1.attn.hook_pattern", lambda x, hook: x.flip(1)),
        ("blocks.1.mlp.hook_post", lambda x, hook: x.roll(3, -1)),
    ]
    expected = single.run_with_hooks(tokens, fwd_hooks=hooks)
    assert float((expected - single(tokens)).detach().abs().max()) > 1e-3
    moved = difference(spread.run_with_hooks(tokens, fwd_hooks=hooks), expected)
    for model in (spread, single):
        model.set_ungroup_grouped_query_attention(True)
    edit = [("blocks.0.attn.hook_k", lambda x, hook: x * torch.arange(4.0).to(x)[:, None])]
    found, expected = (m.run_with_hooks(tokens, fwd_hooks=edit) for m in (spread, single))
    return max(moved, difference(found, expected, "ungrouped while it runs"))


@check
def positions_and_dtypes_of_records(out: Path) -> float:
    single = make(**LLAMA)
    spread = tensor_parallel(single)
    kwargs: dict[str, Any] = {
        "names_filter": ["*.attn.hook_pattern", "*.attn.hook_z", "*.mlp.hook_post"],
        "pos_slice": (1, 4),
        "dtype": torch.float32,
    }
    a, b = (m.run_with_cache(some_tokens(), **kwargs)[1].cache_dict for m in (spread, single))
    return largest(a, b, "sliced")


@check
def recorded_gradients(out: Path) -> float:
    single = make(**LLAMA)
    spread = tensor_parallel(single)
    a, b = (
        m.run_with_cache(some_tokens(), return_type="loss", incl_bwd=True, names_filter=everything)[
            1
        ].cache_dict
        for m in (spread, single)
    )
    return largest(a, b, "gradients")


@check
def second_derivatives(out: Path) -> float:
    """Of the loss by what the first block reads, through explicit attention."""
    single = make(n_layers=1, use_fused_attention=False, **LLAMA)
    spread = tensor_parallel(single)
    start = torch.randn(2, 4, 24, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found = []
    for model in (spread, single):
        x = start.clone().requires_grad_()
        logits = model(x, start_at_layer=0)
        (first,) = torch.autograd.grad(logits.square().sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), x)
        found.append(second)
    return difference(*found)
