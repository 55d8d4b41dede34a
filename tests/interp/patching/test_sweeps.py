"""Sweeps against one plain run for every place, on every kind of model and every hook."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp import HookedTransformer, InputError, patching
from tests.covering import EXHAUSTIVE, every_nth
from tests.interp.kinds import (
    KINDS,
    everything,
    one_place_each,
    some_tokens,
    with_padding,
)
from tests.interp.patching.cases import arguments, inputs, mask_of, squares
from tests.interp.patching.loop import patched_one_by_one

Check = Callable[..., None]
Make = Callable[..., HookedTransformer]
Kind = Callable[[str], HookedTransformer]

PADDING = (None, "left", "right")


def some_metric(model: HookedTransformer, number: int) -> Any:
    right = torch.tensor([0, 1, 0])
    if number == 0:
        return patching.LogitDiff(right, 1 - right)
    if number == 1:
        return squares
    if number == 2 or model.cfg.classifies:
        return patching.LogProb(1)
    # Every prompt read at another position.
    return patching.Logit(right, torch.tensor([1, 0, 2]))


@pytest.mark.parametrize("name", KINDS)
def test_every_hook_of_every_kind_as_one_by_one(name: str, kind: Kind, assert_close: Check) -> None:
    model = kind(name)
    place = list(KINDS).index(name)
    padding = PADDING[place % 3]
    run = inputs(model, padding)
    with torch.no_grad():
        _, source = model.run_with_cache(**inputs(model, padding, 7), names_filter=everything)
    reached = 0
    # In the blocks a sixth of the hooks of a kind, and another sixth of the next one's; of
    # encoder-decoders, which are few, every second kind of hook. Outside them half.
    inside = [hook for hook in model.hook_dict if "blocks." in hook]
    hooks = [hook for hook in model.hook_dict if "blocks." not in hook]
    hooks = list(every_nth(hooks, 2, place))
    if model.cfg.architecture == "encoder-decoder":
        hooks += every_nth(one_place_each(inside, place), 2, place)
    else:
        hooks += every_nth(inside, 6, place)
    for number, hook in enumerate(hooks):
        probe = patching.sites(model, hook)
        some = {"positions": [number % 2 - 1, 1]} if "pos" in probe.axes.names else {}
        if probe.axes.n_heads:
            some["heads"] = [number % probe.axes.n_heads]
        if "src_pos" in probe.axes.names and number % 2:
            some["sources"] = [-1, 1]
        sites = patching.sites(model, hook, **some)
        metric = some_metric(model, number % 4)
        put_in = 0.5 if number % 5 == 4 and not hook.endswith("hook_tokens") else source
        found = patching.sweep(model, run["input"], put_in, sites, metric, **arguments(run))
        expected = patched_one_by_one(model, run, put_in, sites, metric, mask_of(model, run))
        assert_close(found.values, expected, f"{hook}, {padding}", 1e-10)
        reached += bool((expected - found.base).abs().max() > 1e-6)
    assert reached > 0.6 * len(hooks)
    assert not any(point.is_watched for point in model.hook_points())


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "gpt-oss", "t5"])
@pytest.mark.parametrize("padding", PADDING)
def test_fp32_grids_of_all_layers(
    name: str, padding: str | None, make_model: Make, assert_close: Check
) -> None:
    model = make_model(**KINDS[name])
    run = inputs(model, padding)
    with torch.no_grad():
        _, source = model.run_with_cache(**inputs(model, padding, 7), names_filter=everything)
    hooks = ("resid_pre", "attn_out", "mlp_out", "z", "k", "pattern")
    place = ["gpt2", "llama", "gemma2", "gpt-oss", "t5"].index(name)
    for hook in every_nth(hooks, 6, 3 * place + PADDING.index(padding)):
        sites = patching.sites(model, hook)
        metric = patching.LogitDiff(1, 2)
        found = patching.sweep(model, run["input"], source, sites, metric, **arguments(run))
        expected = patched_one_by_one(model, run, source, sites, metric, mask_of(model, run))
        assert_close(found.values, expected, hook)
        assert found.axis_names[:2] == ("layer", "pos")


@settings(max_examples=25 if EXHAUSTIVE else 12, deadline=None)
@given(data=st.data())
def test_random_grids(data: st.DataObject, kind: Kind, assert_close: Check) -> None:
    names = ["gpt2", "llama", "gemma3", "shortformer", "bloom", "dynamic", "bert", "translator"]
    model = kind(data.draw(st.sampled_from(names)))
    padding = data.draw(st.sampled_from(PADDING))
    n_pos = data.draw(st.integers(4, 7))
    run = inputs(model, padding, n_pos=n_pos)
    hooks = ["resid_pre", "resid_post", "z", "q", "v", "pattern", "attn_scores", "ln1.hook_scale"]
    hook = data.draw(st.sampled_from(hooks))
    lengths = {"positions": run.get("decoder_input", run["input"]).shape[1]}
    axes = patching.sites(model, hook).axes
    if axes.n_heads:
        lengths["heads"] = axes.n_heads
    if "src_pos" in axes.names:
        lengths["sources"] = lengths["positions"]
    chosen = {}
    for axis, n in lengths.items():
        entries = st.lists(st.integers(-n, n - 1), min_size=0, max_size=3)
        chosen[axis] = data.draw(st.one_of(st.sampled_from(["each", "all"]), entries))
    layers = data.draw(st.lists(st.integers(0, model.cfg.n_layers - 1), min_size=1, max_size=3))
    sites = patching.sites(model, hook, layers=layers, **chosen)
    metric = data.draw(
        st.sampled_from(
            [
                patching.LogitDiff(3, torch.tensor([1, 2, 4])),
                patching.Loss(run.get("decoder_input", run["input"])),
                patching.Logit(2, pos=1),
                patching.KLDivergence(
                    torch.randn(3, 31, generator=torch.Generator().manual_seed(1))
                ),
                squares,
                lambda logits: logits[:, -1, 3].sum(),
            ]
        )
    )
    with torch.no_grad():
        _, source = model.run_with_cache(
            **inputs(model, padding, 7, n_pos), names_filter=everything
        )
    max_bytes = data.draw(st.sampled_from([None, 1, 10_000, 100_000]))
    keywords = arguments(run)
    if isinstance(metric, patching.Loss):
        mask = mask_of(model, run)
        metric = patching.Loss(metric.tokens, mask)
    found = patching.sweep(
        model, run["input"], source, sites, metric, max_bytes=max_bytes, **keywords
    )
    if found.values.numel() == 0:
        assert [] in chosen.values()
        return
    expected = patched_one_by_one(model, run, source, sites, metric, mask_of(model, run))
    assert_close(found.values, expected, f"{hook} {chosen} {layers}", 1e-10)


@pytest.mark.parametrize("smallest", [1, 10, 10_000])
def test_any_split_into_batches_gives_the_same(
    smallest: int, kind: Kind, assert_close: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(patching.schedule.SMALLEST, "cpu", smallest)
    for name, padding in (("gpt2", None), ("gemma2", "left"), ("shortformer", "right")):
        model = kind(name)
        run = inputs(model, padding)
        with torch.no_grad():
            _, source = model.run_with_cache(**inputs(model, padding, 7))
        for metric in (patching.Loss(), patching.LogitDiff(1, 2), squares):
            sites = patching.sites(model, "z", heads=[1])
            found = patching.sweep(model, run["input"], source, sites, metric, **arguments(run))
            oracle = metric
            if isinstance(metric, patching.Loss):
                oracle = patching.Loss(run["input"], mask_of(model, run))
            expected = patched_one_by_one(model, run, source, sites, oracle, mask_of(model, run))
            assert_close(found.values, expected, f"{name} {padding} {metric}", 1e-10)


def test_loss_is_that_of_each_prompt_by_itself(kind: Kind, assert_close: Check) -> None:
    model = kind("gpt2")
    run = inputs(model, "right")
    found = patching.sweep(model, run["input"], 0.0, "resid_pre", patching.Loss(), **arguments(run))
    lengths = run["attention_mask"].sum(1).tolist()
    with torch.no_grad():
        alone = [
            model(row[None, :n], return_type="loss")
            for row, n in zip(run["input"], lengths, strict=True)
        ]
    assert_close(found.base, torch.stack(alone), "base", 1e-10)


CUDA = pytest.param(
    "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
)


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-10), ("bfloat16", 0.05)])
def test_devices_and_dtypes_follow_the_cpu_in_fp64(
    device: str, dtype: str, tolerance: float, make_model: Make, assert_close: Check
) -> None:
    """Half precision within about eight units in the last place of the largest logit."""
    there = make_model(dtype="float64", **KINDS["llama"])
    model = make_model(dtype=dtype, device=device, **KINDS["llama"])
    tokens = some_tokens()
    _, source = there.run_with_cache(some_tokens(seed=7), names_filter=everything)
    for site in ("resid_pre", "z", "k", "pattern", "mlp_out"):
        for metric in (patching.LogitDiff(1, 2), patching.LogProb(3), patching.Loss(), squares):
            expected = patching.sweep(there, tokens, source, site, metric)
            found = patching.sweep(model, tokens.to(device), source, site, metric)
            assert found.values.device.type == device
            values = found.values.cpu()
            assert_close(values, expected.values.to(values), f"{site} {metric}", tolerance)


# --- what is not run -----------------------------------------------------------------------------


def rows_run(model: HookedTransformer, sweep: Callable[[], Any]) -> list[int]:
    """How many rows each layer's MLP is given, in all."""
    rows = [0] * model.cfg.n_layers

    def count(layer: int) -> Any:
        def hook(module: Any, args: Any) -> None:
            rows[layer] += args[0].shape[0] * args[0].shape[1]

        return hook

    handles = [
        block.mlp.register_forward_pre_hook(count(layer))
        for layer, block in enumerate(model.blocks)
    ]
    sweep()
    for handle in handles:
        handle.remove()
    return rows


def test_only_layers_and_positions_that_differ_and_are_read_are_run(
    make_model: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(patching.schedule.SMALLEST, "cpu", 1)
    model = make_model(n_layers=3)
    tokens = some_tokens(2, 6)

    def rows(metric: Any, **chosen: Any) -> list[int]:
        sites = patching.sites(model, "resid_pre", **chosen)
        ran = rows_run(model, lambda: patching.sweep(model, tokens, 0.0, sites, metric))
        return [n - 12 for n in ran]  # without the base: 2 prompts of 6 positions

    last = patching.Logit(1)
    assert rows(last, layers=[1], positions=[2]) == [0, 2 * 4, 2]
    assert rows(last, layers=[0, 1], positions=[2, 4]) == [2 * (4 + 2), 4 * (4 + 2), 8]
    assert rows(patching.Logit(1, pos=3), layers=[1], positions=[2]) == [0, 2 * 2, 2]
    assert rows(patching.Logit(1, pos=3), layers=[1], positions=[4, 5]) == [0, 0, 0]
    assert rows(squares, layers=[2], positions=[1]) == [0, 0, 2 * 5]


def test_function_unembeds_only_what_it_reads(make_model: Make) -> None:
    model = make_model()
    seen = []
    model.unembed.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape[1]))
    metric = lambda logits: logits[:, -1, 3].mean()
    patching.sweep(model, some_tokens(2, 6), 0.0, "resid_pre", metric)
    assert seen[0] == 6 and set(seen[1:]) == {1}


# --- results and errors --------------------------------------------------------------------------


def test_frame_has_a_row_for_each_place_and_prompt(kind: Kind) -> None:
    model = kind("llama")
    sites = patching.sites(model, "k", layers=[1], positions=[-1, 0], heads=[1])
    found = patching.sweep(model, some_tokens(), 0.0, sites, patching.Logit(3))
    frame = found.to_frame()
    assert list(frame.columns) == ["layer", "pos", "head", "prompt", "value"]
    assert frame[["layer", "pos", "head", "prompt"]].values.tolist() == [
        [1, pos, 1, prompt] for pos in (4, 0) for prompt in range(3)
    ]
    assert torch.equal(torch.tensor(frame["value"].values), found.values.flatten())
    assert torch.equal(found.mean(), found.values.mean(-1))
    scalar = patching.sweep(model, some_tokens(), 0.0, sites, lambda logits: logits.mean())
    assert scalar.values.shape == (1, 2, 1) and scalar.mean() is scalar.values
    assert list(scalar.to_frame().columns) == ["layer", "pos", "head", "value"]
    single = patching.sites(model, "hook_embed", positions="all")
    one = patching.sweep(model, some_tokens(), 0.0, single, lambda logits: logits.mean())
    assert one.values.shape == () and len(one.to_frame()) == 1


def test_one_source_prompt_serves_all(kind: Kind, assert_close: Check) -> None:
    model = kind("gpt2")
    run = inputs(model, None)
    with torch.no_grad():
        _, source = model.run_with_cache(some_tokens(1, 5, seed=9))
    many = {name: x.expand(3, *x.shape[1:]) for name, x in source.items()}
    sites = patching.sites(model, "resid_mid")
    found = patching.sweep(model, run["input"], source, sites, patching.Logit(3))
    expected = patched_one_by_one(model, run, many, sites, patching.Logit(3))
    assert_close(found.values, expected, "one source", 1e-10)


def test_no_gradients_and_no_change_of_the_model(kind: Kind) -> None:
    model = kind("gpt2")
    tokens = some_tokens()
    before = model(tokens)
    found = patching.sweep(model, tokens, 0.0, "resid_pre", patching.Logit(3))
    assert not found.values.requires_grad
    assert torch.equal(model(tokens), before)


def test_errors(kind: Kind) -> None:
    model = kind("gpt2")
    tokens = some_tokens()
    _, source = model.run_with_cache(tokens)
    last = patching.Logit(1)

    def refused(match: str, *given: Any, **keywords: Any) -> None:
        with pytest.raises(InputError, match=match):
            patching.sweep(model, *given, **keywords)

    refused("of 3 prompts", some_tokens(3, 6), source, "resid_pre", last)
    refused("of 2 prompts", some_tokens(2, 5), source, "resid_pre", last)
    refused("must hold blocks.0.hook_resid_pre", tokens, {}, "resid_pre", last)
    refused("no hook is called 'resid_prae'", tokens, source, "resid_prae", last)
    sites = patching.sites(model, "resid_pre", positions=[5])
    refused("positions must lie in -5 … 4. Received 5", tokens, source, sites, last)
    sites = patching.sites(model, "z", heads=[-5])
    refused("heads must lie in -4 … 3. Received -5", tokens, source, sites, last)
    refused("tokens must lie in 0 … 30", tokens, source, "z", patching.Logit(31))
    refused("one per prompt", tokens, source, "z", patching.Logit(torch.tensor([1, 2])))
    refused("pos must lie within 5", tokens, source, "z", patching.Logit(1, pos=5))
    refused("metric must be", tokens, source, "z", "logit")
    refused("a number, or one per prompt", tokens, source, "z", lambda logits: logits[:, -1])
    refused("a number, or one per prompt .* None", tokens, source, "z", lambda logits: None)
    for wrong in (None, True, source["hook_embed"], "z"):
        refused("a source must be a mapping", tokens, wrong, "z", last)
    refused("must be a tensor", tokens, dict.fromkeys(source, 0.0), "z", last)
    refused("max_bytes must be", tokens, source, "z", last, max_bytes=0)
    refused("decoder_input has no meaning", tokens, source, "z", last, decoder_input=tokens)
    refused("sites must be", tokens, source, ["z"], last)
    one = with_padding({"input": tokens}, [0, 4, 1], left=True)["attention_mask"]
    refused("two real tokens", tokens, source, "z", patching.Loss(), attention_mask=one)
    with pytest.raises(InputError, match="needs decoder_input"):
        patching.sweep(kind("t5"), tokens, 0.0, "z", last)
