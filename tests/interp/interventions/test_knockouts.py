"""Knock-outs of heads, edges and attention links against plain hooks and by their definition."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from interp import HookedTransformer, InputError, load_model
from interp.circuits.graph import Graph
from interp.interventions import (
    KnockOutAttention,
    KnockOutEdge,
    KnockOutHead,
    Mean,
    Place,
    Reference,
    Scale,
    Zero,
    hooks_for,
)
from interp.zoo import known
from interp.zoo.recipes.repeats import repeated_rows
from interp.zoo.recipes.symbols import SYMBOLS
from tests.interp.interventions.loop import edited, recorded
from tests.interp.kinds import given_to, some_tokens, with_padding

OTHER = Reference(some_tokens(seed=9))
# Every kind of model with edges: positions added and rotated, parallel, grouped, folded.
EDGED = [
    "gpt2", "neox", "llama", "llama-ungrouped", "grouped-standard", "no-norm", "next-sentence",
    "attn-only", "unscaled",
]  # fmt: skip


def run(model: HookedTransformer, items: Any, **given: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.run_with_hooks(**given, fwd_hooks=hooks_for(model, items))


@pytest.mark.parametrize("by", ["zero", "mean", "resample", "patch"])
def test_a_head_is_a_place(
    kind: Callable[[str], HookedTransformer], by: str, assert_close: Any
) -> None:
    model, tokens = kind("llama"), some_tokens()
    reference = None if by == "zero" else OTHER
    other = recorded(model, "blocks.1.attn.hook_z", input=some_tokens(seed=9))

    def knock_out(x: torch.Tensor) -> torch.Tensor:
        for row in range(3):
            for pos in (0, 4):
                x[row, pos, 3] = {
                    "zero": 0.0,
                    "mean": other[:, pos, 3].mean(0),
                    "patch": other[row, pos, 3],
                }[by]
        return x

    item = KnockOutHead("L1H3", positions=[0, -1], by=by, reference=reference)
    if by == "resample":
        expected = run(model, item.expanded(), input=tokens)
    else:
        expected = edited(model, {"input": tokens}, blocks__1__attn__hook_z=knock_out)
    assert_close(run(model, item, input=tokens), expected)


def test_heads_of_an_encoder_decoder(
    kind: Callable[[str], HookedTransformer], assert_close: Any
) -> None:
    model = kind("marian")
    given = given_to(model)

    def zero(x: torch.Tensor) -> torch.Tensor:
        x[:, :, 2] = 0.0
        return x

    for part, hook in (
        ("attn", "decoder.blocks.0.attn.hook_z"),
        ("cross_attn", "decoder.blocks.0.cross_attn.hook_z"),
        ("encoder.attn", "encoder.blocks.0.attn.hook_z"),
    ):
        expected = edited(model, given, **{hook: zero})
        assert_close(run(model, KnockOutHead("L0H2", part=part), **given), expected, part)


def _written(model: HookedTransformer, label: str, given: dict[str, torch.Tensor]) -> torch.Tensor:
    """What a sender writes, `[batch, pos, d_model]`."""
    node = Graph.of(model).sender(label)
    x = recorded(model, node.hook, **given)
    if node.head is None:
        return x
    return x[:, :, node.head] @ model.blocks[node.layer].attn.W_O[node.head]


@pytest.mark.parametrize("name", EDGED)
def test_every_edge(kind: Callable[[str], HookedTransformer], name: str, assert_close: Any) -> None:
    """One receiver reads the base less what the sender writes, and all others read the base."""
    model = kind(name)
    given, other = given_to(model), given_to(model, seed=9)
    types = other.get("token_type_ids")
    reference = Reference(other["input"], None, types)
    graph = Graph.of(model)
    written = {label: _written(model, label, given) for label in graph.senders}
    elsewhere = {label: _written(model, label, other) for label in graph.senders}
    for i, edge in enumerate(graph.edges):
        if i % 7:  # some of every kind
            continue
        sender, receiver = graph.parse(edge)
        node = graph.receiver(receiver)
        by = ("zero", "mean", "patch")[i // 7 % 3]
        instead = {
            "zero": torch.zeros_like(written[sender]),
            "mean": elsewhere[sender].mean(0, keepdim=True),
            "patch": elsewhere[sender],
        }[by]

        def read(
            x: torch.Tensor,
            change: torch.Tensor = instead - written[sender],
            head: int | None = node.head,
        ) -> torch.Tensor:
            if head is None:
                return x + change
            x[:, :, head] += change
            return x

        expected = edited(model, given, **{node.hook: read})
        item = KnockOutEdge(edge, by=by, reference=None if by == "zero" else reference)
        assert_close(run(model, item, **given), expected, item.describe())


def test_all_edges_of_a_sender_are_the_sender(
    kind: Callable[[str], HookedTransformer], assert_close: Any
) -> None:
    model, tokens = kind("gpt2"), some_tokens()
    for label in ("L0H2", "L1H0"):
        edges = [e for e in Graph.of(model).edges if e.startswith(f"{label}->")]
        for by, reference in (("zero", None), ("mean", OTHER)):
            found = run(
                model, [KnockOutEdge(e, by=by, reference=reference) for e in edges], input=tokens
            )
            head = KnockOutHead(label, by=by, reference=reference)
            assert_close(found, run(model, head, input=tokens), f"{label} {by}")


def test_an_edge_carries_what_the_sender_writes_in_this_run(
    kind: Callable[[str], HookedTransformer], assert_close: Any
) -> None:
    """Whatever edits stand before or after it in the list, and upstream of the sender."""
    model, tokens = kind("gpt2"), some_tokens()
    edge, scaled = KnockOutEdge("L0H1->L1H0.k"), Scale(Place("z", layers=0, heads=1), 3.0)
    upstream = Zero("hook_pos_embed")

    with model.hooks(fwd_hooks=hooks_for(model, [upstream, scaled])):
        written = recorded(model, "blocks.0.attn.hook_result", input=tokens)[:, :, 1]
        with model.hooks(fwd_hooks=[("blocks.1.hook_k_input", lambda x, hook: _less(x, written))]):
            expected = model(tokens)
    assert_close(run(model, [edge, scaled, upstream], input=tokens), expected)
    assert_close(run(model, [upstream, scaled, edge], input=tokens), expected)


def test_what_was_seen_before_an_edge_stays(
    kind: Callable[[str], HookedTransformer], assert_close: Any
) -> None:
    """A hook that keeps what a receiver reads keeps that, not what the edge makes of it."""
    model, tokens = kind("gpt2"), some_tokens()
    name, kept = "blocks.1.hook_k_input", []
    unedited = recorded(model, name, input=tokens)
    with model.hooks(fwd_hooks=[(name, lambda x, hook: kept.append(x))]):
        run(model, KnockOutEdge("L0H1->L1H0.k"), input=tokens)
    assert_close(kept[-1], unedited)


def test_an_edge_sees_what_later_interventions_make_of_its_sender(
    kind: Callable[[str], HookedTransformer], assert_close: Any
) -> None:
    model, tokens = kind("gpt2"), some_tokens()
    scaled = Scale(Place("mlp_out", layers=0), 3.0)
    with model.hooks(fwd_hooks=hooks_for(model, scaled)):
        written = recorded(model, "blocks.0.hook_mlp_out", input=tokens)
        with model.hooks(fwd_hooks=[("blocks.1.hook_k_input", lambda x, hook: _less(x, written))]):
            expected = model(tokens)
    edge = KnockOutEdge("L0MLP->L1H0.k")
    assert_close(run(model, [edge, scaled], input=tokens), expected)


def _less(x: torch.Tensor, written: torch.Tensor) -> torch.Tensor:
    x[:, :, 0] -= written
    return x


@pytest.mark.parametrize("name", ["gpt2", "llama", "gpt-oss", "bert", "bloom"])
def test_cut_links(kind: Callable[[str], HookedTransformer], name: str, assert_close: Any) -> None:
    model = kind(name)
    given = given_to(model)
    hook = "blocks.1.attn.hook_pattern"
    pattern = recorded(model, hook, **given)

    def pattern_with(item: KnockOutAttention) -> torch.Tensor:
        with model.hooks(fwd_hooks=hooks_for(model, item)):
            return recorded(model, hook, **given)

    links = {"sources": [0, 2], "destinations": -1, "layers": 1, "heads": 1}
    expected = pattern.clone()
    expected[:, 1, -1, [0, 2]] = 0.0
    assert_close(pattern_with(KnockOutAttention(**links, renormalise=False)), expected)
    if not model.cfg.attn_sinks:  # these keep the share that they had among the scores
        expected[:, 1, -1] /= expected[:, 1, -1].sum(-1, keepdim=True)
        assert_close(pattern_with(KnockOutAttention(**links)), expected)
    # Nothing left: the destination reads nothing.
    found = pattern_with(KnockOutAttention(destinations=1, layers=1, heads=[0]))
    assert found[:, 0, 1].abs().max() == 0.0
    assert_close(found[:, 1:], pattern[:, 1:])


def test_cut_links_of_padded_rows(
    kind: Callable[[str], HookedTransformer], assert_close: Any
) -> None:
    model = kind("gpt2")
    given = with_padding(given_to(model), [0, 1, 2], left=True)
    item = KnockOutAttention(sources=0, destinations=[-1, 1])
    with torch.no_grad():
        found = model.run_with_hooks(**given, fwd_hooks=hooks_for(model, item, **given))
    for row, n_pad in enumerate([0, 1, 2]):
        single = given["input"][row : row + 1, n_pad:]
        assert_close(found[row : row + 1, n_pad:], run(model, item, input=single))


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda: KnockOutHead("1.2"), "a head is written L0H3"),
        (lambda: KnockOutHead("L2H0"), "layers must lie in -2 … 1. Received 2"),
        (lambda: KnockOutHead("L0H4"), "must lie in -4 … 3. Received 4"),
        (lambda: KnockOutHead("L0H0", by="mean"), "by='mean' came without one"),
        (lambda: KnockOutHead("L0H0", reference=OTHER), "by='zero' came with one"),
        (lambda: KnockOutHead("L0H0", by="median"), "by must be one of zero, mean"),
        (lambda: KnockOutHead("L0H0", pooled=True), "only a mean is pooled"),
        (lambda: KnockOutHead("L0H0", seed=1), "only 'resample' has a seed"),
        (lambda: KnockOutHead("L0H0", part="attention"), "part must be one of"),
        (lambda: KnockOutEdge("L0H1"), "an edge is written"),
        (lambda: KnockOutEdge("L0H1->L1H9.k"), "no receiver of this model"),
        (lambda: KnockOutEdge("L1H1->L0H0.k"), "reads before L1H1 writes"),
        (lambda: KnockOutAttention(renormalise="yes"), "renormalise must be True or False"),
        (lambda: KnockOutAttention(heads=4), "must lie in -4 … 3. Received 4"),
        (lambda: KnockOutAttention(part="mlp"), "part must be one of"),
    ],
)  # fmt: skip
def test_refusals(
    kind: Callable[[str], HookedTransformer], make: Callable[[], Any], rule: str
) -> None:
    with pytest.raises(InputError, match=rule):
        hooks_for(kind("gpt2"), make())


def test_edges_where_norms_lie_between(kind: Callable[[str], HookedTransformer]) -> None:
    with pytest.raises(InputError, match="norm_placement='sandwich'"):
        hooks_for(kind("gemma2"), KnockOutEdge("L0H1->L1H0.q"))


def test_a_run_that_begins_behind_the_sender(kind: Callable[[str], HookedTransformer]) -> None:
    model = kind("gpt2")
    residual = torch.zeros(1, 3, 24, dtype=torch.float64)
    with pytest.raises(InputError, match="the sender did not run before the receiver"):
        model.run_with_hooks(
            residual, start_at_layer=1, fwd_hooks=hooks_for(model, KnockOutEdge("embed->L1H0.q"))
        )


# --- models whose mechanism is known -------------------------------------------------------------


@pytest.mark.parametrize("make", ["induction", "previous_token", "name_mover", "bracket_counter"])
@pytest.mark.parametrize("by", ["zero", "mean"])
def test_ablations_find_what_their_definition_predicts(make: str, by: str) -> None:
    truth = getattr(known, make)()
    model = truth.model
    reference = Reference(truth.reference)

    def effect(*labels: str) -> torch.Tensor:
        items = []
        for label in labels:
            layer = int(label[1 : label.index("MLP" if "MLP" in label else "H")])
            place = Place("mlp_out", layers=layer)
            if "MLP" not in label:
                place = Place("z", layers=layer, heads=int(label.rpartition("H")[2]))
            items.append(Zero(place) if by == "zero" else Mean(place, reference))
        logits = run(model, items, input=truth.clean)
        return truth.metric.per_prompt(logits) - truth.clean_value

    singles = {label: effect(label) for label in [*truth.heads, *truth.mlps]}
    assert truth.found(singles) == truth.expected["ablation"]
    for labels in truth.expected.get("joint_ablation", ()):
        joint = {"joint": effect(*labels)}
        assert truth.found(joint) and not truth.found({k: singles[k] for k in labels})


def test_a_backup_hides_a_single_ablation() -> None:
    truth = known.name_mover()

    def left(*heads: str) -> float:
        items = [KnockOutHead(head) for head in heads]
        logits = run(truth.model, items, input=truth.clean)
        return float(truth.metric.per_prompt(logits).mean() / truth.clean_value.mean())

    assert abs(left("L2H0") - 1) < 0.05 and abs(left("L3H0") - 1) < 0.05
    assert abs(left("L2H0", "L3H0")) < 0.05


def test_the_gain_on_repeats_hangs_on_the_induction_circuit() -> None:
    """Every head of layer 1 is an induction head: one alone is not missed, all together are."""
    model = load_model("zoo:induction", device="cpu")
    n = 16
    tokens = repeated_rows(torch.Generator().manual_seed(0), 32, n)
    reference = Reference(repeated_rows(torch.Generator().manual_seed(1), 32, n))
    chance = math.log(len(SYMBOLS))

    def loss(by: str, *heads: str) -> float:
        """Of the repeat's tokens, from its second on."""
        given = None if by == "zero" else reference
        items = [KnockOutHead(head, by=by, reference=given) for head in heads]
        logits = run(model, items, input=tokens)
        return float(model.loss_fn(logits, tokens, per_token=True)[:, n + 1 :].mean())

    assert loss("zero") < 1e-3
    induction = [f"L1H{head}" for head in range(4)]
    for by in ("zero", "mean"):
        assert loss(by, "L0H3") < 1e-3  # a head with no part in it
        assert loss(by, "L0H1") > 0.5  # the previous-token head
        assert all(loss(by, head) < 0.01 for head in induction)
        assert loss(by, *induction) > chance
