"""What two processes that share a model check together: `test_parallel.py` runs and reads them.

Each check runs in both processes at once, beside the same model on one. What it returns is the
largest difference that it has seen.
"""

from __future__ import annotations

import copy
import dataclasses
import datetime
import json
import shutil
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode

from interp import HookedTransformer, HookedTransformerConfig, KeyValueCache, load_model
from interp.attribution import direct_logit_attribution, edge_attribution, estimate
from interp.attribution.direct import hooks_needed
from interp.errors import InputError
from interp.lens import logit_lens
from interp.parallel import Ranks, ReplicaError, load_tensor_parallel, tensor_parallel
from interp.patching import (
    get_act_patch_attn_head_all_pos_every,
    get_act_patch_block_every,
    get_act_patch_resid_pre,
)
from tests.conftest import _scramble
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

# Heads, key/value heads and neurons in numbers that two ranks can share.
USABLE = {
    **{name: fields for name, fields in KINDS.items() if "num_experts" not in fields},
    "wide-heads": {**KINDS["wide-heads"], "n_heads": 2},
    "bloom": {**KINDS["bloom"], "n_heads": 4, "d_head": 6, "n_key_value_heads": 2},
}
del USABLE["multi-query"]
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
SMALL = {
    "n_layers": 2, "d_model": 24, "n_ctx": 16, "n_heads": 4, "d_head": 6, "d_mlp": 20,
    "act_fn": "gelu", "d_vocab": 31, "device": "cpu",
}  # fmt: skip
LLAMA = KINDS["llama"]

CHECKS: dict[str, Callable[[Path], float | None]] = {}


class Absent(Exception):
    """What a check needs is not here."""


def check(fn: Callable[[Path], float | None]) -> Callable[[Path], float | None]:
    CHECKS[fn.__name__] = fn
    return fn


def make(dtype: torch.dtype = torch.float64, **fields: Any) -> HookedTransformer:
    fields = {**SMALL, **fields, "dtype": dtype}
    return _scramble(HookedTransformer(HookedTransformerConfig(**fields)))


def whole(x: Any) -> Tensor:
    return x.full_tensor() if isinstance(x, DTensor) else x


def difference(found: Any, expected: Any, what: str = "", tolerance: float | None = None) -> float:
    """The largest, relative to max(1, max |expected|); more than its dtype's is a fault."""
    found, expected = whole(found).detach(), whole(expected).detach()
    assert type(found) is Tensor, f"{what}: {type(found)}"
    assert found.shape == expected.shape and found.dtype == expected.dtype, what
    if not expected.is_floating_point():
        assert torch.equal(found, expected), what
        return 0.0
    finite = expected.isfinite()
    assert torch.equal(finite, found.isfinite()), what
    a, b = found[finite].double(), expected[finite].double()
    if not b.numel():
        return 0.0
    error = float((a - b).abs().max()) / max(1.0, float(b.abs().max()))
    assert error <= (tolerance or TOLERANCE[expected.dtype]), f"{what}: {error:.1e}"
    return error


def largest(found: dict[str, Any], expected: dict[str, Any], what: str) -> float:
    assert found.keys() == expected.keys(), found.keys() ^ expected.keys()
    return max(difference(found[n], expected[n], f"{what} {n}") for n in expected)


def refused(by: Callable[[], Any], *said: str, error: type[Exception] = InputError) -> None:
    with pytest.raises(error) as fault:
        by()
    assert all(part in str(fault.value) for part in said), str(fault.value)


# --- numbers -------------------------------------------------------------------------------------


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


# Every way of sharing that there is; the others differ in what each rank does by itself.
CHOSEN = ("gptj", "full-ungrouped", "t5")
for _name in USABLE if EXHAUSTIVE else CHOSEN:
    CHECKS[f"kind {_name}"] = _of_kind(_name)
for _name in USABLE if EXHAUSTIVE else ():
    CHECKS[f"fp32 {_name}"] = _of_kind(_name, torch.float32)


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


# --- what is sent --------------------------------------------------------------------------------


@check
def nothing_is_sent_that_nobody_asked_for(out: Path) -> None:
    spread = tensor_parallel(make(n_layers=3, **LLAMA))
    tokens = some_tokens()

    def sent(fn: Callable[[], Any]) -> tuple[int, int]:
        with _Sent() as seen:
            fn()
        sums = sum("reduce" in name for name in seen.names)
        return sums, len(seen.names) - sums

    with torch.no_grad():
        assert sent(lambda: spread(tokens)) == (6, 0)

        def record(name: str) -> None:
            spread.run_with_cache(tokens, names_filter=f"blocks.1.{name}")

        for name in ("attn.hook_z", "attn.hook_pattern", "mlp.hook_pre", "attn.hook_result"):
            assert sent(partial(record, name)) == (6, 1), name
        for name in ("hook_resid_pre", "hook_attn_out", "attn.hook_q_input", "ln1.hook_scale"):
            assert sent(partial(record, name)) == (6, 0), name

        def change() -> None:
            hooks = [("blocks.1.attn.hook_z", lambda z, hook: z * 2)]
            spread.run_with_hooks(tokens, fwd_hooks=hooks)

        assert sent(change) == (6, 1)

        def stop() -> None:
            spread.run_with_cache(tokens, names_filter="blocks.0.hook_*", return_type=None)

        assert sent(stop) == (2, 0)
    # Backward: another sum where each sublayer begins, of what flows back to it.
    loss = spread(tokens, return_type="loss")
    assert sent(loss.backward) == (6, 0)


class _Sent(TorchDispatchMode):
    """What is sent to other processes, by torch's names for it."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace in ("c10d", "_c10d_functional"):
            self.names.append(str(func))
        return func(*args, **(kwargs or {}))


# --- generating ----------------------------------------------------------------------------------


@check
def keys_and_values_are_kept(out: Path) -> float:
    worst = [0.0]
    for kind in ("llama", "gpt2", "llama-ungrouped", "bloom"):
        single = make(**USABLE[kind])
        spread = tensor_parallel(single)
        tokens = some_tokens(2, 9)
        with torch.no_grad():
            cache = KeyValueCache.init_cache(spread.cfg, "cpu", 2)
            parts = [spread(t, past_kv_cache=cache) for t in tokens.split([4, 1, 1, 3], 1)]
            worst.append(difference(torch.cat(parts, 1), single(tokens), kind))
        whole_heads = single.cfg.n_heads if "un" in kind else single.cfg.n_kv_heads
        assert cache[0].keys.shape[2] == whole_heads // 2
    return max(worst)


@check
def caches_of_other_models_are_refused(out: Path) -> None:
    single = make(n_heads=8, d_head=3, n_key_value_heads=8)
    other = KeyValueCache.init_cache(single.cfg, "cpu", 2)
    single(some_tokens(2, 3), past_kv_cache=other)
    spread = tensor_parallel(single)
    refused(lambda: spread(some_tokens(2, 1), past_kv_cache=other), "4 here", "with 8")


@check
def generates_alike(out: Path) -> None:
    single = make(**LLAMA, n_layers=2)
    spread = tensor_parallel(single)
    tokens = some_tokens(2, 4)
    options: dict[str, Any] = {"max_new_tokens": 5, "stop_at_eos": False}
    for more in ({"do_sample": False}, {"seed": 3}, {"num_beams": 3, "do_sample": False}):
        a, b = (m.generate(tokens, **options, **more) for m in (spread, single))
        assert torch.equal(a, b), more
    # Nobody says what to draw with, and the ranks' own generators stand elsewhere.
    torch.manual_seed(dist.get_rank())
    drawn = spread.generate(tokens, **options, temperature=3.0)
    both = [torch.empty_like(drawn) for _ in range(2)]
    dist.all_gather(both, drawn)
    assert torch.equal(*both)
    again = spread.generate(tokens, **options, temperature=3.0)
    assert not torch.equal(drawn, again)


# --- analyses ------------------------------------------------------------------------------------


@check
def patches(out: Path) -> float:
    worst = [0.0]
    for kind in ("gpt2", "llama") if EXHAUSTIVE else ("llama",):
        single = make(**KINDS[kind])
        spread = tensor_parallel(single)
        clean, corrupted = some_tokens(2, 5, 0), some_tokens(2, 5, 1)

        def metric(logits: Tensor) -> Tensor:
            return logits[:, -1, 3].mean() - logits[:, -1, 4].mean()

        found = []
        for model in (spread, single):
            cache = model.run_with_cache(clean)[1]
            found.append([
                sweep(model, corrupted, cache, metric)
                for sweep in (
                    get_act_patch_resid_pre,
                    get_act_patch_block_every,
                    get_act_patch_attn_head_all_pos_every,
                )
            ])  # fmt: skip
        worst += [difference(a, b, "patching") for a, b in zip(*found, strict=True)]
    return max(worst)


@check
def attributes(out: Path) -> float:
    single = make(**LLAMA)
    spread = tensor_parallel(single)
    clean, corrupted = some_tokens(1, 5, 0), some_tokens(1, 5, 1)

    def metric(logits: Tensor) -> Tensor:
        return logits[:, -1, 3] - logits[:, -1, 4]

    found = []
    for model in (spread, single):
        cache = model.run_with_cache(clean, names_filter=hooks_needed(model))[1]
        direct = direct_logit_attribution(model, cache, 3, 4)
        source = model.run_with_cache(clean)[1]
        z = estimate(model, corrupted, source, "z", metric).values
        lens = logit_lens(model, clean)
        edges = edge_attribution(model, clean, corrupted, metric)
        found.append((direct, z, lens, edges))
    return max(
        difference(a, b, f"attribution {i}")
        for i, (x, y) in enumerate(zip(*found, strict=True))
        for a, b in zip(_tensors(x), _tensors(y), strict=True)
    )


def _tensors(found: Any) -> list[Tensor]:
    if isinstance(found, Tensor):
        return [found]
    fields = (getattr(found, f.name) for f in dataclasses.fields(found))
    return [x for x in fields if isinstance(x, Tensor)]


# --- weights -------------------------------------------------------------------------------------


@check
def weights_read_whole(out: Path) -> float:
    single = make(**LLAMA, attn_sinks=True)
    spread = tensor_parallel(single)
    names = ("W_Q", "W_K", "W_V", "W_O", "b_Q", "b_K", "b_V", "b_O", "W_in", "W_gate", "W_out")
    worst = [difference(getattr(spread, n), getattr(single, n), n) for n in names]
    worst += [
        difference(spread.OV.AB, single.OV.AB, "OV"),
        difference(spread.accumulated_bias(2), single.accumulated_bias(2), "bias"),
        largest(spread.tl_parameters(), single.tl_parameters(), "tl_parameters"),
        difference(spread.blocks[0].attn.QK.AB, single.blocks[0].attn.QK.AB, "QK"),
        difference(
            spread.all_composition_scores("K"), single.all_composition_scores("K"), "composition"
        ),
    ]
    assert spread.blocks[0].attn.W_Q.requires_grad
    return max(worst)


@check
def each_rank_holds_its_share(out: Path) -> None:
    single = make(**LLAMA)
    spread = tensor_parallel(single)
    held = sum(whole_of(p).numel() for p in spread.parameters())
    shared = sum(p.numel() for p in single.parameters())
    spread_names = [n for n, p in spread.named_parameters() if isinstance(p, DTensor)]
    inside = sum(p.numel() for n, p in single.named_parameters() if n in spread_names)
    assert held == shared - inside // 2
    assert {n.rsplit(".", 1)[-1] for n in spread_names} == {
        "W_Q", "_W_K", "_W_V", "b_Q", "_b_K", "_b_V", "W_O", "W_in", "W_gate", "b_in", "W_out",
    }  # fmt: skip


def whole_of(p: Tensor) -> Tensor:
    return p.to_local() if isinstance(p, DTensor) else p


@check
def trains(out: Path) -> float:
    """Two steps of AdamW change weights as they do on one device."""
    single = make(**LLAMA)
    spread = tensor_parallel(single)
    tokens = some_tokens(4, 8)
    for model in (single, spread):
        optimiser = torch.optim.AdamW(model.parameters(), 1e-2)
        for _ in range(2):
            optimiser.zero_grad()
            model(tokens, return_type="loss").backward()
            optimiser.step()
    with torch.no_grad():
        logits = difference(spread(tokens), single(tokens), "logits after training", 1e-9)
    state = {n: whole(p) for n, p in spread.state_dict().items()}
    return max(logits, *(difference(state[n], p, n, 1e-9) for n, p in single.state_dict().items()))


@check
def frozen_weights_stay_frozen(out: Path) -> float:
    single = make(**LLAMA).requires_grad_(False)
    single.blocks[1].attn.W_O.requires_grad_(True)
    spread = tensor_parallel(single)
    for model in (single, spread):
        model(some_tokens(), return_type="loss").backward()
    trained = {n: p.grad for n, p in spread.named_parameters() if p.requires_grad}
    assert list(trained) == ["blocks.1.attn.W_O"]
    return difference(trained["blocks.1.attn.W_O"], single.blocks[1].attn.W_O.grad)


@check
def saves_and_loads(out: Path) -> float:
    single = make(**LLAMA)
    spread = tensor_parallel(single)
    spread.save(out / "saved")
    worst = [largest(load_model(out / "saved", "cpu").state_dict(), single.state_dict(), "saved")]
    read = load_tensor_parallel(out / "saved")
    worst.append(difference(read(some_tokens()), single(some_tokens()), "read"))
    together = spread.gathered()
    assert together is not None and type(together) is HookedTransformer
    worst.append(largest(together.state_dict(), single.state_dict(), "gathered"))
    assert (spread.gathered(on_rank=1) is None) == (dist.get_rank() == 0)
    other = make(**LLAMA)
    with torch.no_grad():
        for p in other.parameters():
            p.mul_(1.1)
    spread.load_state_dict(other.state_dict())
    worst.append(difference(spread(some_tokens()), other(some_tokens()), "loaded"))
    spread.load_state_dict(read.state_dict())
    worst.append(difference(spread(some_tokens()), single(some_tokens()), "loaded back"))
    (out / "file").mkdir(exist_ok=True)
    (out / "file" / "something").touch()
    refused(lambda: spread.save(out / "file"), "")
    return max(worst)


@check
def stories(out: Path) -> float:
    """Real weights: 8 heads, 4 key/value heads, five layers."""
    folder = Path(__file__).resolve().parents[4] / "shared" / "data" / "stories260K"
    if not folder.exists():
        raise Absent("needs the third-party stories260K in ../shared/data")
    mine = out / f"stories-{dist.get_rank()}"
    mine.mkdir()
    for name in ("config.json", "model.safetensors"):  # a tokenizer takes seconds to import
        shutil.copy(folder / name, mine / name)
    single, spread = load_model(mine, "cpu"), load_tensor_parallel(mine)
    tokens = torch.tensor([[1, 403, 407, 261, 378, 432, 383, 285, 261, 376]])
    with torch.no_grad():
        worst = [difference(spread(tokens), single(tokens), "logits")]
        a, b = (m.run_with_cache(tokens)[1].cache_dict for m in (spread, single))
        worst.append(largest(a, b, "hook"))
    a, b = (m.generate(tokens, 20, do_sample=False, stop_at_eos=False) for m in (spread, single))
    assert torch.equal(a, b) and a.shape[1] == 30
    return max(worst)


def shipped(out: Path) -> float:
    single, spread = load_model("zoo:induction", "cpu"), load_tensor_parallel("zoo:induction")
    tokens = torch.arange(6)[None] % single.cfg.d_vocab
    return difference(spread(tokens), single(tokens))


if EXHAUSTIVE:  # it takes a tokenizer, and that two seconds to import
    check(shipped)


# --- rules ---------------------------------------------------------------------------------------


@check
def replicas_are_compared(out: Path) -> None:
    single = make(**LLAMA)
    spread = tensor_parallel(single, check_replicas=True)
    tokens, rank = some_tokens(), dist.get_rank()
    loose = tensor_parallel(single)

    def noisy(x: Tensor, hook: Any) -> Tensor:
        return x + torch.randn(x.shape, generator=torch.Generator().manual_seed(rank)).to(x)

    for name in ("blocks.0.hook_resid_pre", "blocks.1.attn.hook_z", "blocks.0.mlp.hook_post"):
        spread.run_with_hooks(tokens, fwd_hooks=[(name, lambda x, hook: x * 2)])

        def run(name: str = name) -> None:
            spread.run_with_hooks(tokens, fwd_hooks=[(name, noisy)])

        refused(run, name, "the same on every rank", error=ReplicaError)

    def backward() -> None:
        with spread.hooks(bwd_hooks=[("blocks.0.attn.hook_z", noisy)]):
            spread(tokens, return_type="loss").backward()

    refused(backward, "blocks.0.attn.hook_z's gradient", error=ReplicaError)
    refused(lambda: spread(some_tokens(seed=rank)), "the input", error=ReplicaError)
    refused(lambda: spread(some_tokens(n_pos=4 + rank)), "its shape", error=ReplicaError)
    hooks = ["*.hook_resid_post", "*.hook_z", "*.hook_pattern", "*.hook_k", "unembed.hook_out"]
    spread.run_with_cache(tokens, names_filter=hooks, return_type="loss", incl_bwd=True)
    # Without the check the ranks go apart in silence: that is what it is for.
    loose.run_with_hooks(tokens, fwd_hooks=[("blocks.0.hook_resid_pre", noisy)])


@check
def what_cannot_be_is_refused(out: Path) -> None:
    spread = tensor_parallel(make(**LLAMA))
    refused(lambda: tensor_parallel(spread), "already")
    refused(lambda: tensor_parallel("gpt2"), "Received str")  # type: ignore[arg-type]
    refused(lambda: tensor_parallel(make(), 3), "processes is 2", "Received 3")
    refused(lambda: tensor_parallel(make(), True), "Received True")
    refused(lambda: tensor_parallel(make(), init_device_mesh("cpu", (2, 1))), "one axis")
    refused(lambda: tensor_parallel(make(n_heads=3)), "n_heads (3)", "2 ranks")
    refused(lambda: tensor_parallel(make(n_key_value_heads=1)), "n_key_value_heads (1)")
    refused(lambda: tensor_parallel(make(d_mlp=21)), "d_mlp (21)")
    experts = make(num_experts=4, experts_per_token=2, gated_mlp=True)
    refused(lambda: tensor_parallel(experts), "experts")
    refused(lambda: spread.to(torch.float32), "moved or converted")
    refused(spread.compile, "compiled", "gathered()")
    refused(spread.process_weights, "processed")
    refused(lambda: spread.load_state_dict({}, assign=True), "assign=False")
    refused(lambda: copy.deepcopy(spread), "copied")
    refused(lambda: spread.to_devices(["cpu"]), "moved")
    refused(lambda: type(spread).uninitialised(spread.cfg), "tensor_parallel")


@check
def meshes(out: Path) -> float:
    """A number, a mesh, an axis of a larger mesh, and a mesh of one rank."""
    single = make(**LLAMA)
    tokens = some_tokens()
    larger = init_device_mesh("cpu", (1, 2), mesh_dim_names=("data", "tensor"))
    alone = init_device_mesh("cpu", (2, 1), mesh_dim_names=("data", "tensor"))["tensor"]
    found = []
    for mesh, n in ((2, 2), (init_device_mesh("cpu", (2,)), 2), (larger["tensor"], 2), (alone, 1)):
        spread = tensor_parallel(single, mesh)
        assert spread.ranks.size == n
        found.append(difference(spread(tokens), single(tokens), str(mesh)))
    assert Ranks.of(None).rank == dist.get_rank()
    return max(found)


# --- running -------------------------------------------------------------------------------------


def main(rank: int, folder: Path) -> None:
    """Run every check; write which failed, and how much numbers differed, to `folder`."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder / 'meeting'}",
        rank=rank,
        world_size=2,
        timeout=datetime.timedelta(seconds=60),
    )
    found: dict[str, Any] = {}
    for name, fn in CHECKS.items():
        try:
            found[name] = {"difference": fn(folder)}
        except Absent as absent:
            found[name] = {"skipped": str(absent)}
        except Exception:
            # The other rank may now wait for this one in vain: no check after it means anything.
            found[name] = {"fault": traceback.format_exc()}
            break
    (folder / f"{rank}.json").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
