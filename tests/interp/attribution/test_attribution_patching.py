"""Attribution patching against small steps of real patches, and against them where both agree."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from interp import HookedTransformer, InputError, patching
from interp.attribution.attribution_patching import estimate, estimate_several
from interp.attribution.gradients import run_with_gradients
from tests.covering import every_nth
from tests.interp.kinds import everything, given_to, some_tokens, with_padding

Check = Callable[..., None]
Kind = Callable[[str], HookedTransformer]
Make = Callable[..., HookedTransformer]

STEP = 1e-5
# Of all kinds gradients are tested in test_gradients; what is made of them, on these.
SOME = ("neox", "llama-ungrouped", "gemma2", "gpt-oss", "mixtral-post", "bert", "classifier", "t5")


def inputs(model: HookedTransformer, padding: str | None, seed: int = 0) -> dict[str, Any]:
    run = given_to(model, seed=seed)
    return run if padding is None else with_padding(run, [0, 2, 1], padding == "left")


def rest_of(run: dict[str, Any]) -> dict[str, Any]:
    return {name: x for name, x in run.items() if name != "input"}


def a_small_step(
    base: dict[str, Tensor], source: dict[str, Tensor], step: float
) -> dict[str, Tensor]:
    return {
        name: torch.where(x.isinf(), x, torch.lerp(x, source[name], step))
        for name, x in base.items()
        if x.is_floating_point()
    }


@pytest.mark.parametrize("name", SOME)
def test_small_steps_of_a_patch(name: str, kind: Kind, assert_close: Check) -> None:
    """Of all hooks: the estimate is the slope of what patching in a part of the way does."""
    model = kind(name)
    place = SOME.index(name)
    padding = (None, "left", "right")[place % 3]
    run = inputs(model, padding)
    with torch.no_grad():
        _, source = model.run_with_cache(**inputs(model, padding, 7), names_filter=everything)
        _, base = model.run_with_cache(**run, names_filter=everything)
    near, behind = (a_small_step(base, source, step) for step in (STEP, -STEP))
    metric = patching.LogitDiff(0, 1)
    reached = 0
    hooks = [h for h in near if "blocks.1." in h or "blocks" not in h]
    hooks = list(every_nth(hooks, 3, place))
    for number, hook in enumerate(hooks):
        probe = patching.sites(model, hook)
        some: dict[str, Any] = {}
        if number % 2 and "pos" in probe.axes.names:
            some["positions"] = [-1, 1]
        if number % 4 == 2:
            some["heads"] = "all"
        if "src_pos" in probe.axes.names and number % 2:
            some["sources"] = "each"
        sites = patching.sites(model, hook, **some)
        found = estimate(model, run["input"], source, sites, metric, **rest_of(run))
        swept, back = (
            patching.sweep(model, run["input"], x, sites, metric, **rest_of(run))
            for x in (near, behind)
        )
        assert found.axis_names == swept.axis_names and found.labels == swept.labels
        assert_close(found.base, swept.base)
        expected = (swept.values - back.values) / (2 * STEP)
        # Of the metric's third derivative a difference leaves STEP², along steps this long.
        length = float((source[hook] - base[hook]).nan_to_num().abs().max().clamp(min=1.0))
        assert_close(found.change, expected, f"{hook} {some}", 1e-8 * length**3)
        assert_close(found.values, found.base + found.change)
        reached += bool(found.change.abs().max() > 1e-6)
    assert reached > 0.6 * len(hooks)
    assert not any(point.is_watched for point in model.hook_points())


BARE: dict[str, Any] = {"normalization_type": None, "act_fn": "relu", "n_layers": 3}


@pytest.mark.parametrize("parallel", [False, True])
def test_what_is_linear_is_exact(parallel: bool, make_model: Make, assert_close: Check) -> None:
    """Without norms the logits are linear in what the last layer writes, and in its pattern."""
    model = make_model(dtype="float64", parallel_attn_mlp=parallel, **BARE)
    run, other = some_tokens(), some_tokens(seed=4)
    with torch.no_grad():
        _, source = model.run_with_cache(other, names_filter=everything)
    metric = patching.LogitDiff(3, 4)
    last = [2]
    hooks = ["mlp_out", "resid_post", "mlp.hook_post"]
    if parallel:  # no MLP reads what the heads of the layer write
        hooks += ["z", "v", "attn_out", "pattern", "result"]
    for hook in hooks:
        sites = patching.sites(model, hook, layers=last)
        found = estimate(model, run, source, sites, metric)
        assert_close(found.values, patching.sweep(model, run, source, sites, metric).values, hook)
        assert found.change.abs().max() > 1e-2
    # In the first layer it is not, and the estimate is no effect.
    sites = patching.sites(model, "z", layers=[0])
    found = estimate(model, run, source, sites, metric)
    exact = patching.sweep(model, run, source, sites, metric)
    assert (found.values - exact.values).abs().max() > 1e-2


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_layouts(data: st.DataObject, kind: Kind, assert_close: Check) -> None:
    """Choices of layers, positions, heads and sources, from the whole tensors by plain indexing."""
    model = kind(data.draw(st.sampled_from(["gpt2", "llama", "shortformer", "classifier"])))
    run, n_pos = given_to(model), 5
    with torch.no_grad():
        _, source = model.run_with_cache(**given_to(model, seed=5), names_filter=everything)
    hook = data.draw(st.sampled_from(["resid_pre", "z", "k", "pattern", "mlp_out"]))
    axes = patching.sites(model, hook).axes

    def choice(length: int) -> Any:
        several = st.lists(st.integers(-length, length - 1), min_size=1, max_size=3)
        return data.draw(st.one_of(st.sampled_from(["each", "all"]), several))

    chosen: dict[str, Any] = {"layers": data.draw(st.sampled_from([None, [1], [1, 0]]))}
    chosen["positions"] = choice(n_pos)
    if axes.n_heads:
        chosen["heads"] = choice(axes.n_heads)
    if "src_pos" in axes.names:
        chosen["sources"] = choice(n_pos)
    sites = patching.sites(model, hook, **chosen)
    metric = patching.LogProb(2)
    found = estimate(model, run["input"], source, sites, metric, **rest_of(run))
    gradients = run_with_gradients(model, run["input"], sites.hooks, metric, **rest_of(run))
    layers = []
    for name in sites.hooks:
        x = (source[name] - gradients.activations[name]) * gradients.gradients[name]
        if "src_pos" in axes.names:
            x = x.permute(2, 1, 3, 0)  # pos, head, src_pos, batch
        else:
            x = x.sum(-1).permute(*range(1, x.ndim - 1), 0)
        places = [n for n in ("pos", "head", "src_pos") if n in axes.names]
        for axis, argument in reversed(
            [
                (i, {"pos": "positions", "head": "heads", "src_pos": "sources"}[n])
                for i, n in enumerate(places)
            ]
        ):
            which = chosen[argument]
            if which == "all":
                x = x.sum(axis)
            elif which != "each":
                x = torch.stack([x.select(axis, i) for i in which], axis)
        layers.append(x)
    assert_close(found.change, torch.stack(layers))


def test_neurons(make_model: Make, assert_close: Check) -> None:
    model = make_model(dtype="float64", **BARE)
    run, other = some_tokens(), some_tokens(seed=4)
    _, source = model.run_with_cache(other)
    sites = patching.sites(model, "mlp.hook_post", layers=[2], positions=[-1])
    metric = patching.Logit(3)
    found = estimate(model, run, source, sites, metric, entries=True)
    assert found.axis_names == ("layer", "pos", "entry")
    assert found.change.shape == (1, 1, 20, 3) and found.labels[2] == tuple(range(20))
    _, base = model.run_with_cache(run)
    name = "blocks.2.mlp.hook_post"
    # A neuron writes its activation times a row of W_out, here straight to the logits.
    written = model.blocks[2].mlp.W_out @ model.W_U[:, 3]
    assert_close(found.change[0, 0].T, (source[name] - base[name])[:, -1] * written)
    whole = estimate(model, run, source, sites, metric)
    assert_close(found.change.sum(2), whole.change)
    frame = found.to_frame()
    assert list(frame) == ["layer", "pos", "entry", "prompt", "estimate"] and len(frame) == 60
    with pytest.raises(InputError, match="entries needs a hook with an axis behind"):
        estimate(model, run, source, "pattern", metric, entries=True)


def test_several_kinds_in_one_pass(make_model: Make, assert_close: Check) -> None:
    model = make_model(dtype="float64")
    run, other = some_tokens(), some_tokens(seed=4)
    _, source = model.run_with_cache(other)
    metric = patching.LogitDiff(3, 4)
    found = estimate_several(model, run, source, ["resid_pre", "z", "pattern", "mlp_out"], metric)
    assert list(found) == ["resid_pre", "z", "pattern", "mlp_out"]
    for name, one in found.items():
        assert_close(one.change, estimate(model, run, source, name, metric).change, name)
    some = {"last": patching.sites(model, "z", positions=[-1])}
    assert_close(
        estimate_several(model, run, source, some, metric)["last"].change,
        found["z"].change[:, -1:],
    )


def test_functions_and_numbers(make_model: Make, assert_close: Check) -> None:
    model = make_model(dtype="float64")
    run = some_tokens()
    metric = patching.LogitDiff(3, 4)
    zero = estimate(model, run, 0.0, "z", metric)
    _, cache = model.run_with_cache(run)
    empty = {name: torch.zeros_like(x) for name, x in cache.items()}
    assert_close(zero.change, estimate(model, run, empty, "z", metric).change)
    single = estimate(model, run, 0.0, "z", lambda x: (x[:, -1, 3] - x[:, -1, 4]).mean())
    assert_close(single.change, zero.change.mean(-1))
    assert_close(single.mean(), zero.mean())
    assert single.base.ndim == 0 and list(single.to_frame()) == ["layer", "pos", "head", "estimate"]


def test_bad_input(make_model: Make) -> None:
    model = make_model()
    run = some_tokens()
    metric = patching.Logit(3)
    with pytest.raises(InputError, match="the source must hold"):
        estimate(model, run, {}, "z", metric)
    for none in ([], {}, "mlp_out"):
        with pytest.raises(InputError, match="sites must be a list of names"):
            estimate_several(model, run, 0.0, none, metric)
    _, other = model.run_with_cache(run, attention_mask=torch.tensor([[1, 1, 1, 1, 0]] * 3))
    for source in (0.0, other):
        with pytest.raises(InputError, match="masked scores have"):
            estimate(model, run, source, "attn_scores", metric)
    with pytest.raises(InputError, match="sites must be what"):
        estimate(model, run, 0.0, 3, metric)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="needs a layer"):
        estimate(model, run, 0.0, patching.sites(model, "z", layers=[]), metric)
    with pytest.raises(InputError, match="positions must lie"):
        estimate(model, run, 0.0, patching.sites(model, "z", positions=[9]), metric)
