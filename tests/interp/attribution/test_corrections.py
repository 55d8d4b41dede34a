"""AtP* against its definition, one place after the other, with hooks and softmax as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from interp import HookedTransformer, InputError, patching
from interp.attribution.attribution_patching import estimate
from interp.attribution.corrections import atp_star, one_key_patched
from interp.attribution.gradients import run_with_gradients
from tests.interp.kinds import KINDS, everything, given_to, some_tokens, with_padding

Check = Callable[..., None]
Kind = Callable[[str], HookedTransformer]
Make = Callable[..., HookedTransformer]

METRIC = patching.LogitDiff(0, 1)
# Between them every way from queries and keys to scores,
FIXABLE = (
    "gpt2", "llama", "llama-ungrouped", "multi-query", "bidirectional-tied", "wide-heads",
    "unscaled", "gemma2", "gemma3", "stablelm2", "gpt-oss", "shortformer", "bloom", "bert",
    "next-sentence",
)  # fmt: skip
# and every way in which layers add to the stream.
DROPPED = (
    "gpt2", "neox", "attn-only", "no-norm", "gemma2", "olmo2", "mixtral-post", "shortformer",
    "bert",
)  # fmt: skip


def inputs(model: HookedTransformer, place: int, seed: int = 0) -> dict[str, Any]:
    run = given_to(model, n_batch=2, n_pos=4, seed=seed)
    return with_padding(run, [0, 1], place % 3 == 1) if place % 3 else run


def rest_of(run: dict[str, Any]) -> dict[str, Any]:
    return {name: x for name, x in run.items() if name != "input"}


@pytest.mark.parametrize("name", FIXABLE)
def test_the_fix_place_by_place(name: str, kind: Kind, assert_close: Check) -> None:
    """A run for every query and key, whose pattern is then taken to first order."""
    model = kind(name)
    place = list(KINDS).index(name)
    run = inputs(model, place)
    with torch.no_grad():
        _, source = model.run_with_cache(**inputs(model, place, 7), names_filter=everything)
    hooks = [h for h in model.hook_dict if h.endswith(("hook_q", "hook_k"))]
    patterns = [h for h in model.hook_dict if h.endswith("hook_pattern")]
    base = run_with_gradients(model, run["input"], [*hooks, *patterns], METRIC, **rest_of(run))
    layer = place % model.cfg.n_layers
    pattern = f"blocks.{layer}.attn.hook_pattern"
    for part in "qk":
        hook = f"blocks.{layer}.attn.hook_{part}"
        n_heads = source[hook].shape[2]

        def changed(at: tuple[Any, ...], hook: str = hook) -> Tensor:
            def put_in(x: Tensor, hook: Any) -> None:
                x[at] = source[hook.name][at]

            with torch.no_grad(), model.hooks([(hook, put_in)]):
                _, cache = model.run_with_cache(**run, names_filter=pattern)
            change = cache[pattern] - base.activations[pattern]
            return (change * base.gradients[pattern]).flatten(1).sum(1)

        every = slice(None)
        expected = torch.stack([
            torch.stack([changed((every, p, h)) for h in range(n_heads)]) for p in range(4)
        ])  # fmt: skip
        sites = patching.sites(model, part, layers=[layer])
        rest = {**rest_of(run), "grad_drop": False}
        found = atp_star(model, run["input"], source, sites, METRIC, **rest)
        assert found.signed
        assert_close(found.change[0], expected, part)
        together = patching.sites(model, part, layers=[layer], positions="all")
        found = atp_star(model, run["input"], source, together, METRIC, **rest)
        expected = torch.stack([changed((every, every, h)) for h in range(n_heads)])
        assert_close(found.change[0], expected, f"{part}, all positions")
    assert not any(point.is_watched for point in model.hook_points())


@pytest.mark.parametrize("name", DROPPED)
def test_dropped_gradients_layer_by_layer(name: str, kind: Kind, assert_close: Check) -> None:
    """GradDrop with a run of its own for each layer, whose additions are cut off by `detach`."""
    model = kind(name)
    place = list(KINDS).index(name)
    run = inputs(model, place)
    with torch.no_grad():
        _, source = model.run_with_cache(**inputs(model, place, 7), names_filter=everything)
    n_layers = model.cfg.n_layers
    for part in ("z", "attn_out", "resid_pre", "resid_mid", "v", "ln1.hook_normalized"):
        if part not in ("z", "v") and not {f"blocks.0.{part}", f"blocks.0.hook_{part}"} & {
            *model.hook_dict
        }:
            continue
        sites = patching.sites(model, part)
        sizes = []
        inside = 0  # of a layer is what has no gradient without it
        for layer in range(n_layers):
            added = [f"blocks.{layer}.{n}" for n in ("hook_attn_out", "hook_mlp_out")]
            cut = [(h, lambda x, hook: x.detach()) for h in added if h in model.hook_dict]
            dropped = run_with_gradients(
                model, run["input"], list(sites.hooks), METRIC, cut, **rest_of(run)
            )
            of_layers = []
            for hook in sites.hooks:
                product = source[hook] - dropped.activations[hook]
                product = product * dropped.gradients[hook]
                if hook in added:
                    # It is itself what is dropped; a hook sees what flows on, behind the cut.
                    product = torch.zeros_like(product)
                if hook.startswith(f"blocks.{layer}."):
                    inside += not product.any()
                of_layers.append(product.sum(-1).movedim(0, -1))
            sizes.append(torch.stack(of_layers).abs())
        found = atp_star(model, run["input"], source, sites, METRIC, **rest_of(run))
        assert inside in (0, n_layers), part
        n = n_layers - bool(inside)
        assert_close(found.change, sum(sizes) / n, part)  # type: ignore[arg-type]
        assert not found.signed
        with pytest.raises(InputError, match="no sign"):
            _ = found.values


def test_both_together(make_model: Make, assert_close: Check) -> None:
    """The fix's changes with each layer's gradient dropped, in three layers."""
    model = make_model(dtype="float64", n_layers=3)
    run, other = some_tokens(), some_tokens(seed=4)
    _, source = model.run_with_cache(other)
    for part in "qk":
        sizes = []
        for layer in range(3):
            cut = [
                (f"blocks.{layer}.hook_{n}_out", lambda x, hook: x.detach())
                for n in ("attn", "mlp")
            ]
            with model.hooks(cut):
                found = atp_star(model, run, source, part, METRIC, grad_drop=False)
            sizes.append(found.change.abs())
        found = atp_star(model, run, source, part, METRIC)
        assert_close(found.change, sum(sizes) / 2, part)  # type: ignore[arg-type]
    # One number for all prompts: its changes are added up before they become sizes.
    single = atp_star(model, run, source, "v", lambda x: (x[:, -1, 0] - x[:, -1, 1]).mean())
    assert single.change.ndim == 3
    assert (single.change <= atp_star(model, run, source, "v", METRIC).mean() + 1e-12).all()


def test_without_corrections_it_is_attribution_patching(
    make_model: Make, assert_close: Check
) -> None:
    model = make_model(dtype="float64")
    run, other = some_tokens(), some_tokens(seed=4)
    _, source = model.run_with_cache(other)
    for part in ("q", "k", "z", "mlp_out"):
        found = atp_star(model, run, source, part, METRIC, qk_fix=False, grad_drop=False)
        assert_close(found.change, estimate(model, run, source, part, METRIC).change)
        # The fix is about queries and keys alone.
        fixed = atp_star(model, run, source, part, METRIC, grad_drop=False)
        assert torch.equal(fixed.change, found.change) == (part not in "qk")


def plainly(scores: Tensor, patched: Tensor, gradient: Tensor, sinks: Tensor | None) -> Tensor:
    """Softmax by softmax."""

    def pattern(x: Tensor) -> Tensor:
        if sinks is not None:
            x = torch.cat([x, sinks[:, None, None].expand(*x.shape[:-1], 1)], -1)
        nowhere = (x == -torch.inf).all(-1, keepdim=True)
        found = x.masked_fill(nowhere, 0.0).softmax(-1).masked_fill(nowhere, 0.0)
        return found[..., : scores.shape[-1]]

    changes = []
    for key in range(scores.shape[-1]):
        one = scores.clone()
        one[..., key] = patched[..., key]
        changes.append(((pattern(one) - pattern(scores)) * gradient).sum((-1, -2)))
    return torch.stack(changes, -1)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    size=st.sampled_from([0.0, 1.0, 30.0, 2000.0]),
    n_keys=st.integers(1, 6),
    with_sinks=st.booleans(),
    masked=st.booleans(),
)
def test_one_key_patched(
    seed: int, size: float, n_keys: int, with_sinks: bool, masked: bool, assert_close: Check
) -> None:
    """Ties, one-hot rows (scores of thousands), rows with one key or none."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    shape = (2, 3, 4, n_keys)
    scores, patched, gradient = size * drawn(*shape), size * drawn(*shape), drawn(*shape)
    if masked:
        allowed = torch.ones(4, n_keys, dtype=torch.bool).tril()
        allowed[1] = False
        scores, patched = (x.masked_fill(~allowed, -torch.inf) for x in (scores, patched))
    sinks = size * drawn(3) if with_sinks else None
    found = one_key_patched(scores, patched, gradient, sinks)
    assert_close(found, plainly(scores, patched, gradient, sinks))
    half = [None if x is None else x.float() for x in (scores, patched, gradient, sinks)]
    single = one_key_patched(*half)  # type: ignore[arg-type]
    exact = plainly(*(None if x is None else x.double() for x in half))  # type: ignore[arg-type]
    assert_close(single, exact.float())


def test_bad_input(make_model: Make, kind: Kind) -> None:
    tokens = some_tokens()
    one_layer = make_model(n_layers=1)
    with pytest.raises(InputError, match="This model has one"):
        atp_star(one_layer, tokens, 0.0, "z", METRIC)
    assert atp_star(one_layer, tokens, 0.0, "q", METRIC, grad_drop=False).change.shape[:3] == (
        1,
        5,
        4,
    )
    with pytest.raises(InputError, match="encoder-decoder"):
        atp_star(kind("t5"), tokens, 0.0, "z", METRIC)
    full = kind("olmo2")
    with pytest.raises(InputError, match="normalised together"):
        atp_star(full, tokens, 0.0, "q", METRIC)
    assert atp_star(full, tokens, 0.0, "q", METRIC, qk_fix=False).change.shape[0] == 2
    model = make_model()
    with (
        model.hooks([("blocks.0.attn.hook_pattern", lambda x, hook: x)]),
        pytest.raises(InputError, match="no hook changes"),
    ):
        atp_star(model, tokens, 0.0, "k", METRIC)
