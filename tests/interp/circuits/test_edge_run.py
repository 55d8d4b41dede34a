"""Edge runs against the restated Transformer with every edge taken off in a loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from interp import HookedTransformer, InputError, patching
from interp.circuits import (
    EdgeRun,
    Graph,
    mean_reference,
    resample_reference,
    source_of,
    zero_reference,
)
from tests.covering import examples
from tests.interp.circuits.plain import GRAPHS, logits_of_edges, plain_values, written
from tests.interp.kinds import given_to, some_tokens, with_padding

Check = Callable[..., None]
Kind = Callable[[str], HookedTransformer]
PADDING = (None, "left", "right")


def inputs(model: HookedTransformer, padding: str | None, seed: int = 0) -> dict[str, Tensor]:
    run = given_to(model, seed=seed)
    return run if padding is None else with_padding(run, [0, 2, 1], padding == "left")


def as_arguments(run: dict[str, Tensor]) -> dict[str, Any]:
    return {"tokens" if name == "input" else name: x for name, x in run.items()}


def some_live(graph: Graph, n: int, share: float, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, *graph.exists.shape, generator=generator) < share


def metric_of(model: HookedTransformer) -> patching.Metric:
    return patching.LogitDiff(torch.tensor([0, 1, 0]), torch.tensor([1, 0, 1]))


@torch.no_grad()
@pytest.mark.parametrize("name", GRAPHS)
def test_all_edges_live_and_none(name: str, kind: Kind, assert_close: Check) -> None:
    model = kind(name)
    here, there = inputs(model, "left"), inputs(model, "left", seed=7)
    run = EdgeRun(model, reference=resample_reference(model, **as_arguments(there)),
                  **as_arguments(here))  # fmt: skip
    live = torch.stack([run.graph.exists, torch.zeros_like(run.graph.exists)])
    found = run.logits(live)
    assert_close(found[0], model(**here), "all", 1e-12)
    assert_close(found[1], model(**there), "none")


@torch.no_grad()
@settings(max_examples=examples(60), deadline=None, derandomize=True)
@given(
    name=st.sampled_from(GRAPHS),
    padding=st.sampled_from(PADDING),
    ablation=st.sampled_from(["resample", "mean", "pooled", "zero"]),
    share=st.sampled_from([0.2, 0.6, 0.95]),
    seed=st.integers(0, 1000),
)
def test_any_edges_are_as_restated(
    name: str, padding: str | None, ablation: str, share: float, seed: int,
    kind: Kind, assert_close: Check,
) -> None:  # fmt: skip
    model = kind(name)
    here, there = inputs(model, padding, seed), inputs(model, padding, seed + 1)
    values = plain_values(model, there)
    if ablation == "resample":
        elsewhere = written(model, values)
        reference = resample_reference(model, **as_arguments(there))
    elif ablation == "zero":
        elsewhere = {k: torch.zeros_like(x) for k, x in written(model, values).items()}
        reference = zero_reference(model)
    else:
        real = there.get("attention_mask", torch.ones_like(there["input"])).bool()
        elsewhere = {}
        for label, x in written(model, values).items():
            mean = torch.empty_like(x)
            for pos in range(x.shape[1]):
                rows = [x[row, pos] for row in range(3) if real[row, pos]]
                if ablation == "pooled":
                    rows = list(x[real])
                mean[:, pos] = torch.stack(rows).mean(0)
            elsewhere[label] = mean
        by_position = ablation == "mean"
        reference = mean_reference(model, **as_arguments(there), by_position=by_position)
        assert reference.kind == "mean"
    run = EdgeRun(model, reference=reference, **as_arguments(here))
    live = some_live(run.graph, 2, share, seed)
    found = run.logits(live)
    for world in range(2):
        edges = set(run.graph.labels(live[world] & run.graph.exists))
        expected = logits_of_edges(model, here, edges, elsewhere)
        real = slice(None)
        if padding is not None and expected.ndim == 3:
            real = here["attention_mask"].bool()
        assert_close(found[world][real], expected[real], f"{name} {ablation}", 1e-10)


@torch.no_grad()
@settings(max_examples=examples(40), deadline=None, derandomize=True)
@given(
    name=st.sampled_from(GRAPHS),
    padding=st.sampled_from(PADDING),
    share=st.sampled_from([0.1, 0.5, 0.9]),
    seed=st.integers(0, 1000),
    resamples=st.booleans(),
)
def test_senders_that_start_are_as_restated(
    name: str, padding: str | None, share: float, seed: int, resamples: bool,
    kind: Kind, assert_close: Check,
) -> None:  # fmt: skip
    model = kind(name)
    here, other = inputs(model, padding, seed), inputs(model, padding, seed + 1)
    base = plain_values(model, inputs(model, padding, seed + 2) if resamples else here)
    reference = None
    if resamples:
        there = as_arguments(inputs(model, padding, seed + 2))
        reference = resample_reference(model, **there)
    source = source_of(model, **as_arguments(other))
    run = EdgeRun(model, reference=reference, source=source, **as_arguments(here))
    graph = run.graph
    live = some_live(graph, 2, share, seed)
    drawn = torch.rand(2, len(graph.senders), generator=torch.Generator().manual_seed(seed))
    starts = drawn < 0.3
    found = run.logits(live, starts)
    for world in range(2):
        # The restatement replaces whole hooks, so heads that do not start are taken from its run.
        begun = {graph.senders[i] for i in starts[world].nonzero()[:, 0].tolist()}
        edges = set(graph.labels(live[world] & graph.exists))
        expected = logits_of_edges(
            model, here, edges, written(model, base), _started(model, source, begun)
        )
        real = slice(None)
        if padding is not None and expected.ndim == 3:
            real = here["attention_mask"].bool()
        assert_close(found[world][real], expected[real], f"{name}", 1e-10)


def _started(model: HookedTransformer, source: dict[str, Tensor], begun: set[str]) -> Any:
    """Hook → what replaces its tensor, of heads only those that start."""

    def put(name: str, x: Tensor) -> Tensor:
        if name.endswith("hook_z"):
            layer = name.split(".")[1]
            heads = [h for h in range(model.cfg.n_heads) if f"L{layer}H{h}" in begun]
            x = x.clone()
            x[:, :, heads] = source[name][:, :, heads]
            return x
        label = {"hook_embed": "embed", "hook_pos_embed": "pos_embed",
                 "hook_token_type_embed": "token_type_embed"}.get(name)  # fmt: skip
        label = label or f"L{name.split('.')[1]}MLP"
        return source[name] if label in begun else x

    return put


@torch.no_grad()
@pytest.mark.parametrize("name", ["gpt2", "llama", "neox", "next-sentence", "shortformer"])
def test_worlds_together_are_worlds_one_by_one(name: str, kind: Kind, assert_close: Check) -> None:
    model, given_ = kind(name), inputs(kind(name), "right")
    reference = resample_reference(model, **as_arguments(inputs(model, "right", 7)))
    run = EdgeRun(model, reference=reference, **as_arguments(given_))
    live, metric = some_live(run.graph, 9, 0.8, 3), metric_of(model)
    live[3] = True
    live[5, :, :-1] = True  # departs from the base in the logits alone
    live[6, :, : len(run.graph.receivers) // 2 + 1] = True  # in the last layer
    found = run.values(live, metric)
    assert found.shape == (9, 3)
    alone = torch.stack([run.values(one[None], metric)[0] for one in live])
    assert_close(found, alone, name, 1e-12)
    tight = EdgeRun(model, reference=reference, **as_arguments(given_), max_bytes=1)
    assert_close(found, tight.values(live, metric), name, 1e-12)
    mask = None if model.cfg.classifies else given_["attention_mask"]
    logits = run.logits(live)
    by_hand = torch.stack([metric.per_prompt(x, mask) for x in logits])
    assert_close(found, by_hand, name, 1e-12)
    function = run.values(live, lambda x: metric.per_prompt(x, mask))
    assert_close(found, function, name, 1e-12)
    assert run.values(live[:0], metric).shape == (0, 3)


@torch.no_grad()
def test_a_row_gives_what_it_gives_alone(kind: Kind, assert_close: Check) -> None:
    model = kind("llama")
    here, there = some_tokens(), some_tokens(seed=7)
    live = some_live(Graph.of(model), 4, 0.5, 0)
    whole = EdgeRun(model, here, resample_reference(model, there)).logits(live)
    for row in range(3):
        one = slice(row, row + 1)
        run = EdgeRun(model, here[one], resample_reference(model, there[one]))
        assert_close(run.logits(live), whole[:, one], "row", 1e-12)


@torch.no_grad()
@pytest.mark.parametrize("hook", ["blocks.0.attn.hook_pattern", "blocks.1.hook_mlp_in",
                                  "ln_final.hook_normalized", "hook_embed"])  # fmt: skip
def test_hooks_of_ones_own_count(hook: str, kind: Kind, assert_close: Check) -> None:
    model, here = kind("gpt2"), some_tokens()
    reference = resample_reference(model, some_tokens(seed=7))

    def change(x: Tensor, hook: Any) -> None:
        x[1] *= 1.5  # one row of the batch

    live = some_live(Graph.of(model), 3, 0.7, 0)
    live[0] = True
    plain = EdgeRun(model, here, reference).logits(live)
    with model.hooks([(hook, change)]):
        run = EdgeRun(model, here, reference)
        found = run.logits(live)
        assert_close(found[0], model(here), hook, 1e-12)
        values = run.values(live, patching.Logit(3))
    assert_close(values, found[:, :, -1, 3], hook, 1e-12)
    assert_close(found[:, [0, 2]], plain[:, [0, 2]], hook, 1e-12)
    assert (found[:, 1] - plain[:, 1]).abs().max() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("hook", ["blocks.1.attn.hook_result", "blocks.1.hook_attn_out"])
def test_hooks_behind_what_a_head_writes_are_refused(hook: str, kind: Kind) -> None:
    """With the layer's attention off, an edge from it would carry what nobody writes."""
    model, here = kind("gpt2"), some_tokens()
    reference = resample_reference(model, some_tokens(seed=7))
    with (
        model.hooks([(hook, lambda x, hook: torch.zeros_like(x))]),
        pytest.raises(InputError, match=f"put hooks there. Received hooks on .*{hook}"),
    ):
        EdgeRun(model, here, reference)
    EdgeRun(model, here, reference)


@torch.no_grad()
def test_hooks_must_be_those_of_the_base(kind: Kind) -> None:
    model, metric = kind("gpt2"), patching.Logit(3)
    change = ("ln_final.hook_normalized", lambda x, hook: 2 * x)
    outside = EdgeRun(model, some_tokens(), zero_reference(model))
    everything = outside.graph.exists[None]
    with model.hooks([change]):
        inside = EdgeRun(model, some_tokens(), zero_reference(model))
        inside.values(everything, metric)
        with pytest.raises(InputError, match="the hooks that it had"):
            outside.values(everything, metric)
    with pytest.raises(InputError, match="the hooks that it had"):
        inside.logits(everything)
    outside.logits(everything)


@torch.no_grad()
def test_nothing_is_left_and_nobody_else_records_it(kind: Kind) -> None:
    model, here = kind("gpt2"), some_tokens()
    live = some_live(Graph.of(model), 3, 0.5, 0)
    seen = []
    with model.hooks([("blocks.0.hook_resid_pre", lambda x, hook: seen.append(len(x)))]):
        _, cache = model.run_with_cache(here, names_filter="blocks.0.hook_resid_pre")
    EdgeRun(model, here, zero_reference(model)).values(live, patching.Logit(3))
    assert not any(p.is_watched for p in model.hook_points())
    assert cache["blocks.0.hook_resid_pre"].shape[0] == 3 and seen == [3]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_dtypes(dtype: torch.dtype, make_model: Any) -> None:
    model = make_model(dtype=dtype)
    run = EdgeRun(model, some_tokens(), resample_reference(model, some_tokens(seed=7)))
    live = some_live(run.graph, 2, 0.5, 0)
    assert run.logits(live).dtype == dtype
    assert run.values(live, patching.Logit(3)).dtype == torch.float32


def test_errors(kind: Kind) -> None:
    model, here = kind("gpt2"), some_tokens()
    reference = resample_reference(model, some_tokens(seed=7))
    run = EdgeRun(model, here, reference)
    live, metric = some_live(run.graph, 2, 0.5, 0), patching.Logit(3)

    def refused(match: str, of: Callable[[], object]) -> None:
        with pytest.raises(InputError, match=match):
            of()

    refused(r"live must be \[world, 12, 27\]", lambda: run.values(live[0], metric))
    refused("live must be a bool", lambda: run.values(live.float(), metric))
    starts = torch.ones(2, 12, dtype=torch.bool)
    refused("starts need a source", lambda: run.values(live, metric, starts))
    refused("starts must be bool", lambda: run.values(live, metric, starts[:1]))
    refused("max_bytes must be", lambda: EdgeRun(model, here, reference, max_bytes=0))
    short = resample_reference(model, some_tokens(n_pos=4))
    refused(r"hook_embed must be \[3, 5, 24\]", lambda: EdgeRun(model, here, short))
    given = reference.activations
    refused("must be an EdgeReference.*Received dict", lambda: EdgeRun(model, here, given))  # type: ignore[arg-type]
    refused("must hold hook_embed", lambda: EdgeRun(model, here, None, source={}))
    refused("norms stand behind what writes", lambda: zero_reference(kind("gemma2")))
    refused("receivers must be in a layer", lambda: run.changes_read(live, [26], starts & False))
    mask = torch.ones_like(here)
    mask[:, 0] = 0
    refused("a token at every position", lambda: mean_reference(model, here, mask))
