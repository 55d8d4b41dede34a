"""Edge scores against gradients taken edge by edge, small steps of exact paths, and integrals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from interp import HookedTransformer, InputError, patching
from interp.attribution.attribution_patching import estimate
from interp.attribution.edges import EdgeScores, edge_attribution
from interp.attribution.inputs import quadrature
from interp.circuits.graph import Graph
from tests.covering import covering
from tests.interp.kinds import KINDS, everything, some_tokens

Check = Callable[..., None]
Kind = Callable[[str], HookedTransformer]
Make = Callable[..., HookedTransformer]

METRIC = patching.LogitDiff(torch.tensor([0, 1]), torch.tensor([1, 0]))
CLEAN, CORRUPTED = some_tokens(2), some_tokens(2, seed=7)


def with_graph(name: str) -> bool:
    fields = KINDS[name]
    return not (
        fields.get("architecture") == "encoder-decoder"
        or fields.get("norm_placement", "pre") != "pre"
        or fields.get("post_embedding_ln")
    )


GRAPHS = [name for name in KINDS if with_graph(name)]
RULES = ("midpoint", "right", "gauss")


def plainly(model: HookedTransformer, at: Tensor | None = None) -> Tensor:
    """Of every edge, from what its sender would add to what its receiver reads, by autograd.

    One number, t, for each edge; the metric's derivative by t, where t of the sender's change is
    added to the reader's input. `at`: the embeddings that the run has.
    """
    graph = Graph.of(model)
    with torch.no_grad():
        _, clean = model.run_with_cache(CLEAN, names_filter=everything)
        _, base = model.run_with_cache(CORRUPTED, names_filter=everything)
    changes = []
    for node in graph.sender_nodes:
        hook = node.hook.replace("hook_z", "hook_result")
        change = clean[hook] - base[hook]
        changes.append(change if node.head is None else change[:, :, node.head])
    amounts = torch.zeros(*graph.exists.shape, 2, dtype=torch.float64, requires_grad=True)
    hooks: list[Any] = []
    for r, receiver in enumerate(graph.receiver_nodes):

        def add(x: Tensor, hook: Any, r: int = r, head: int | None = receiver.head) -> Tensor:
            read = sum(
                amounts[s, r][:, None, None] * changes[s]
                for s in range(len(changes)) if graph.exists[s, r]
            )  # fmt: skip
            if head is None:
                return x + read
            return (
                x
                + torch.nn.functional.one_hot(torch.tensor(head), x.shape[2])[:, None]
                * read[:, :, None]
            )

        hooks.append((receiver.hook, add))
    if at is not None:
        hooks.append(("hook_embed", lambda x, hook: at))
    value = METRIC.per_prompt(model.run_with_hooks(CORRUPTED, fwd_hooks=hooks))
    (found,) = torch.autograd.grad(value.sum(), amounts)
    return found.masked_fill(~graph.exists[..., None], torch.nan)


@pytest.mark.parametrize("name", GRAPHS)
def test_edge_by_edge(name: str, kind: Kind, assert_close: Check) -> None:
    model = kind(name)
    with torch.no_grad():
        found = edge_attribution(model, CLEAN, CORRUPTED, METRIC)
    assert found.by_prompt is not None
    expected = plainly(model)
    assert torch.equal(found.by_prompt.isnan(), expected.isnan())
    assert_close(found.by_prompt.nan_to_num(), expected.nan_to_num())
    assert_close(found.scores.nan_to_num(), expected.mean(-1).nan_to_num())
    # What a sender does is the sum of what its edges do, and that is the estimate of the node.
    with torch.no_grad():
        _, source = model.run_with_cache(CLEAN)
    for hook in ("hook_embed", "z", "mlp_out"):
        if hook == "mlp_out" and model.cfg.attn_only:
            continue
        sites = patching.sites(model, hook, positions="all")
        node = estimate(model, CORRUPTED, source, sites, METRIC).change.reshape(-1, 2)
        labels = {"z": "H", "mlp_out": "MLP", "hook_embed": "embed"}[hook]
        rows = [
            i for i, s in enumerate(found.graph.senders)
            if (s == "embed" if labels == "embed" else labels in s)
        ]  # fmt: skip
        assert_close(found.by_prompt[rows].nansum(1), node, hook)


@pytest.mark.parametrize(
    ("name", "rule"), covering(["gpt2", "llama", "attn-only"], RULES, strength=1)
)
def test_the_mean_over_the_line(name: str, rule: Any, kind: Kind, assert_close: Check) -> None:
    model = kind(name)
    found = edge_attribution(model, CLEAN, CORRUPTED, METRIC, "eap-ig", 3, rule)
    assert found.steps == 3 and found.rule == rule
    low, high = model.embed(CORRUPTED).detach(), model.embed(CLEAN).detach()
    expected = sum(
        weight * plainly(model, low + place * (high - low))
        for place, weight in zip(*(x.tolist() for x in quadrature(3, rule)), strict=True)
    )
    assert isinstance(expected, Tensor) and found.by_prompt is not None
    assert_close(found.by_prompt.nan_to_num(), expected.nan_to_num())


def missing(scores: EdgeScores) -> float:
    """How far the edges of the embedding are from adding up to the metric's difference."""
    assert scores.by_prompt is not None
    embedding = scores.by_prompt[scores.graph.sender_index("embed")].nansum(0)
    return float((embedding - (scores.source - scores.base)).abs().max())


@pytest.mark.parametrize("name", ["llama", "next-sentence"])
def test_integrals_are_complete(name: str, kind: Kind) -> None:
    """The fundamental theorem of calculus along the line between the embeddings."""
    model = kind(name)
    errors = {
        rule: [
            missing(edge_attribution(model, CLEAN, CORRUPTED, METRIC, "eap-ig", steps, rule))
            for steps in ((32,) if rule == "gauss" else (4, 16))
        ]
        for rule in RULES
    }
    assert errors["right"][1] < 0.4 * errors["right"][0]  # 1 / steps
    assert errors["midpoint"][1] < 0.1 * errors["midpoint"][0]  # 1 / steps²
    assert errors["gauss"][0] < 1e-6
    plain = missing(edge_attribution(model, CLEAN, CORRUPTED, METRIC))
    assert plain > 10 * errors["midpoint"][1]


def test_exact_paths_where_the_metric_is_linear(make_model: Make, assert_close: Check) -> None:
    """Without norms the logits are linear in what is written to them, and values in a pattern."""
    model = make_model(
        dtype="float64", normalization_type=None, attn_only=True, act_fn=None, n_layers=2
    )
    scores = edge_attribution(model, CLEAN, CORRUPTED, METRIC)
    with torch.no_grad():
        _, source = model.run_with_cache(CLEAN, names_filter=everything)
    senders = patching.sites(model, "z", positions="all")
    for receivers, labels in (
        (patching.sites(model, "resid_post", layers=[1], positions="all"), ["logits"]),
        (patching.sites(model, "v_input", layers=[1], positions="all"), None),
    ):
        exact = patching.path_sweep(model, CORRUPTED, source, senders, receivers, METRIC)
        change = (exact.values - exact.base).flatten(0, 1)
        change = change.reshape(8, -1, 2)
        columns = [
            scores.graph.receiver_index(r) for r in labels or [f"L1H{h}.v" for h in range(4)]
        ]
        rows = [scores.graph.sender_index(f"L{i}H{h}") for i in range(2) for h in range(4)]
        assert scores.by_prompt is not None
        found = scores.by_prompt[rows][:, columns]
        assert torch.equal(found.isnan(), change.isnan())
        assert_close(found.nan_to_num(), change.nan_to_num())


def test_directions(make_model: Make, assert_close: Check) -> None:
    model = make_model(dtype="float64")
    clean, corrupted = CLEAN, CORRUPTED
    noise = edge_attribution(model, clean, corrupted, METRIC, direction="noise")
    swapped = edge_attribution(model, corrupted, clean, METRIC)
    assert_close(noise.scores.nan_to_num(), swapped.scores.nan_to_num())
    assert_close(noise.base, swapped.base)
    # The line is the same line in both directions, and all rules mean the same places on it.
    for rule in RULES:
        ways = [
            edge_attribution(model, clean, corrupted, METRIC, "eap-ig", 3, rule, direction)  # type: ignore[arg-type]
            for direction in ("denoise", "noise")
        ]
        assert_close(ways[0].scores.nan_to_num(), -ways[1].scores.nan_to_num(), rule)


def test_padding(make_model: Make, assert_close: Check) -> None:
    """A padded prompt has the scores that it has alone."""
    model = make_model(dtype="float64")
    for left in (True, False):
        mask = torch.ones(2, 5, dtype=torch.long)
        mask[1, slice(0, 2) if left else slice(3, 5)] = 0
        metric = patching.LogitDiff(3, 4)
        both = edge_attribution(model, CLEAN, CORRUPTED, metric, "eap-ig", 2, attention_mask=mask)
        real = mask[1].bool()
        alone = edge_attribution(model, CLEAN[1:, real], CORRUPTED[1:, real], metric, "eap-ig", 2)
        assert both.by_prompt is not None
        assert_close(both.by_prompt[..., 1].nan_to_num(), alone.scores.nan_to_num())


def test_heads_whose_results_are_edited(make_model: Make, assert_close: Check) -> None:
    """What a head writes is its result as hooks left it: that of one knocked out there is none."""
    model = make_model(dtype="float64")

    def cut(x: Tensor, hook: Any) -> Tensor:
        return x * torch.tensor([1.0, 0.0, 2.0, 1.0], dtype=x.dtype)[:, None]

    expected = None
    for hook in ("hook_result", "hook_z"):
        with model.hooks([(f"blocks.0.attn.{hook}", cut)]):
            found = edge_attribution(model, CLEAN, CORRUPTED, METRIC, "eap-ig", 2)
        assert found.of("L0H1->logits") == 0.0 != found.of("L0H2->logits")
        expected = found.scores.nan_to_num() if expected is None else expected
        assert_close(found.scores.nan_to_num(), expected)
    look = [("*.hook_result", lambda x, hook: None)]
    plain = edge_attribution(model, CLEAN, CORRUPTED, METRIC)
    with model.hooks([(n, look[0][1]) for n in model.match_hooks(look[0][0])]):
        watched = edge_attribution(model, CLEAN, CORRUPTED, METRIC)
    assert_close(watched.scores.nan_to_num(), plain.scores.nan_to_num())


def test_labels_and_tables(make_model: Make, assert_close: Check) -> None:
    model = make_model(dtype="float64")
    scores = edge_attribution(model, CLEAN, CORRUPTED, METRIC)
    frame = scores.to_frame()
    assert list(frame["edge"]) == scores.graph.edges
    ranked = scores.ranked()
    assert [abs(x) for _, x in ranked] == sorted((abs(x) for _, x in ranked), reverse=True)
    assert [x for _, x in scores.ranked(absolute=False)] == sorted(frame["score"], reverse=True)
    edge, value = ranked[3]
    assert scores.of(edge) == value == float(frame.set_index("edge").loc[edge, "score"])
    assert set(dict(ranked)) == set(scores.graph.edges)
    single = edge_attribution(
        model, CLEAN, CORRUPTED, lambda x: METRIC.per_prompt(x).mean(), "eap-ig", 2
    )
    by_prompt = edge_attribution(model, CLEAN, CORRUPTED, METRIC, "eap-ig", 2)
    assert single.by_prompt is None
    assert_close(single.scores.nan_to_num(), by_prompt.scores.nan_to_num())


def test_bad_input(make_model: Make, kind: Kind) -> None:
    model = make_model()
    with pytest.raises(InputError, match="of the same shape"):
        edge_attribution(model, CLEAN, CORRUPTED[:, 1:], METRIC)
    with pytest.raises(InputError, match="method must be one of"):
        edge_attribution(model, CLEAN, CORRUPTED, METRIC, "ig")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="steps must be"):
        edge_attribution(model, CLEAN, CORRUPTED, METRIC, "eap-ig", 0)
    with pytest.raises(InputError, match="rule must be"):
        edge_attribution(model, CLEAN, CORRUPTED, METRIC, rule="centre")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="steps must be"):
        edge_attribution(model, CLEAN, CORRUPTED, METRIC, "eap-ig", 1, "trapezoid")
    with pytest.raises(InputError, match="graph of edges"):
        edge_attribution(kind("gemma2"), CLEAN, CORRUPTED, METRIC)
