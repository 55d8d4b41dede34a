"""Labels, order and edges of graphs, against the definition written out."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from interp import HookedTransformer, InputError
from interp.circuits import Graph
from tests.interp.circuits.plain import GRAPHS, edges_of
from tests.interp.kinds import KINDS, everything, given_to

Kind = Callable[[str], HookedTransformer]


@pytest.mark.parametrize("name", GRAPHS)
def test_edges_are_those_of_the_definition(name: str, kind: Kind) -> None:
    model = kind(name)
    graph = Graph.of(model)
    assert len(set(graph.edges)) == len(graph.edges) == int(graph.exists.sum())
    assert set(graph.edges) == set(edges_of(model))
    # Edges of one sender together, and senders and receivers in the order in which they run.
    assert [s for s, _ in map(graph.parse, graph.edges)] == [
        s for i, s in enumerate(graph.senders) for _ in range(int(graph.exists[i].sum()))
    ]
    for nodes in (graph.sender_nodes, graph.receiver_nodes):
        steps = [node.step for node in nodes]
        assert steps == sorted(steps)


@torch.no_grad()
@pytest.mark.parametrize("name", GRAPHS)
def test_hooks_have_the_heads_that_labels_say(name: str, kind: Kind) -> None:
    model = kind(name)
    graph = Graph.of(model)
    _, cache = model.run_with_cache(**given_to(model), names_filter=everything)
    for node in (*graph.sender_nodes, *graph.receiver_nodes):
        x = cache[node.hook]
        if node.head is None:
            assert x.shape[-1] == model.cfg.d_model and x.ndim == 3
        else:
            assert node.head < x.shape[2]
    for hook in {node.hook for node in graph.receiver_nodes if node.head is not None}:
        heads = [node.head for node in graph.receiver_nodes if node.hook == hook]
        assert heads == list(range(cache[hook].shape[2]))


def test_labels(kind: Kind) -> None:
    graph = Graph.of(kind("gpt2"))
    assert graph.senders[:4] == ["embed", "pos_embed", "L0H0", "L0H1"]
    assert graph.senders[-1] == "L1MLP" and graph.receivers[-1] == "logits"
    assert graph.receivers[:2] == ["L0H0.q", "L0H1.q"]
    assert graph.parse("L0H3 -> L1H0.k") == ("L0H3", "L1H0.k")
    assert graph.receivers_of("L1H2") == ["L1H2.q", "L1H2.k", "L1H2.v"]
    assert graph.receivers_of("embed") == [] and graph.receivers_of("L0MLP") == ["L0MLP"]
    head = graph.sender("L1H2")
    assert (head.hook, head.layer, head.head) == ("blocks.1.attn.hook_z", 1, 2)
    reader = graph.receiver("L1H2.k")
    assert (reader.hook, reader.head) == ("blocks.1.hook_k_input", 2) and reader.feeds == ("L1H2",)
    assert graph.receiver("logits").hook == "blocks.1.hook_resid_post"


def test_shared_keys_and_values_have_one_reader(kind: Kind) -> None:
    graph = Graph.of(kind("llama"))
    assert graph.receivers_of("L1H2") == ["L1H2.q", "L1KV1.k", "L1KV1.v"]
    assert graph.receiver("L0KV0.v").feeds == ("L0H0", "L0H1")
    assert "L1H2.k" in Graph.of(kind("llama-ungrouped")).receivers


def test_masks_and_labels_are_inverse(kind: Kind) -> None:
    graph = Graph.of(kind("neox"))
    drawn = torch.rand(graph.exists.shape, generator=torch.Generator().manual_seed(0))
    mask = (drawn < 0.3) & graph.exists
    edges = graph.labels(mask)
    assert torch.equal(graph.mask(edges), mask) and len(edges) == int(mask.sum())
    assert graph.labels(graph.mask(reversed(edges))) == edges


def test_errors(kind: Kind) -> None:
    graph = Graph.of(kind("gpt2"))

    def refused(match: str, of: Callable[[], object]) -> None:
        with pytest.raises(InputError, match=match):
            of()

    refused("no sender of this model is called 'L2H0'.*Did you mean", lambda: graph.sender("L2H0"))
    refused("no receiver", lambda: graph.parse("L0H0->L1H0"))
    refused("L0H0.q reads before L1H0 writes", lambda: graph.parse("L1H0->L0H0.q"))
    refused("an edge is written", lambda: graph.parse("L0H0"))
    refused("an edge is written", lambda: graph.parse("L0H0->L1H0.q->logits"))
    refused("a list of edges", lambda: graph.mask("L0H0->L1H0.q"))
    refused("must be bool", lambda: graph.labels(torch.ones(2, 2, dtype=torch.bool)))
    refused("False where there is none", lambda: graph.labels(torch.ones_like(graph.exists)))
    for name in set(KINDS) - set(GRAPHS):
        refused("a graph of edges does not fit", lambda name=name: Graph.of(kind(name)))  # type: ignore[misc]
