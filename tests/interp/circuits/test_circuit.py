"""Circuits are read as they were written, in every form."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp import HookedTransformer, InputError
from interp.circuits import Circuit, Graph
from tests.interp.circuits.plain import GRAPHS

Kind = Callable[[str], HookedTransformer]


def some_circuit(graph: Graph, share: float, seed: int) -> Circuit:
    generator = torch.Generator().manual_seed(seed)
    mask = (torch.rand(graph.exists.shape, generator=generator) < share) & graph.exists
    scores = torch.randn(graph.exists.shape, dtype=torch.float64, generator=generator)
    scores = scores.masked_fill(~graph.exists, torch.nan)
    return Circuit.of(graph, mask, scores, "mean over 7 “prompts” <&>", "eap-ig, top 5")


@settings(max_examples=30, deadline=None, derandomize=True)
@given(name=st.sampled_from(GRAPHS), share=st.sampled_from([0.0, 0.1, 1.0]), seed=st.integers(0))
def test_files_hold_all_of_it(name: str, share: float, seed: int, kind: Kind) -> None:
    graph = Graph.of(kind(name))
    circuit = some_circuit(graph, share, seed % 2**32)
    for again in (
        Circuit.from_json(circuit.to_json()),
        Circuit.from_graphml(circuit.to_graphml()),
    ):
        assert again == circuit and list(again.edges) == list(circuit.edges)
    frame = circuit.frame().drop_duplicates("edge")
    again = Circuit.from_frame(graph, frame, circuit.ablation, circuit.method)
    assert again == circuit and len(frame) == len(circuit)
    assert torch.equal(again.mask(graph), circuit.mask(graph))


def test_graphml_is_read_by_networkx(kind: Kind, tmp_path: object) -> None:
    networkx = pytest.importorskip("networkx", reason="reads GraphML where it is installed")
    graph = Graph.of(kind("llama"))
    edges = {"embed->L0KV1.v": 0.5, "L0H2->L0MLP": -0.25, "L0MLP->L1H3.q": 2.0, "L1H3->logits": 1.5}
    circuit = Circuit.of(graph, edges, edges, "zero")
    read = networkx.parse_graphml(circuit.to_graphml())
    scores = {f"{a}->{b}": d["score"] for a, b, d in read.edges(data=True) if "score" in d}
    assert scores == edges and read.is_directed()
    # Through the value that two heads share, the MLP, and one head.
    path = networkx.shortest_path(read, "embed", "logits")
    assert path == ["embed", "L0KV1.v", "L0H2", "L0MLP", "L1H3.q", "L1H3", "logits"]


def test_nodes_and_table(kind: Kind) -> None:
    graph = Graph.of(kind("llama"))
    circuit = Circuit.of(graph, ["L1H0->logits", "embed->L0KV0.k"])
    assert circuit.nodes == ["embed", "L0H0", "L0H1", "L1H0", "logits"] and len(circuit) == 2
    # L0H0 and L0H1 share a key; where one of them writes, the other is no part of the circuit.
    one = Circuit.of(graph, ["L1H0->logits", "embed->L0KV0.k", "L0H1->L1H0.q"])
    assert one.nodes == ["embed", "L0H1", "L1H0", "logits"]
    assert circuit.frame().values.tolist() == [
        ["embed->L0KV0.k", "embed", "L0H0", "L0KV0.k", 1.0],
        ["embed->L0KV0.k", "embed", "L0H1", "L0KV0.k", 1.0],
        ["L1H0->logits", "L1H0", "logits", "logits", 1.0],
    ]


def test_errors(kind: Kind) -> None:
    graph = Graph.of(kind("gpt2"))

    def refused(match: str, of: Callable[[], object]) -> None:
        with pytest.raises(InputError, match=match):
            of()

    refused("no sender", lambda: Circuit.of(graph, ["L7H0->logits"]))
    refused("every edge needs a score", lambda: Circuit.of(graph, ["L0H0->logits"], {}))
    nan = torch.full(graph.exists.shape, torch.nan)
    refused("must be finite", lambda: Circuit.of(graph, ["L0H0->logits"], nan))
    refused(r"scores must be \[sender, receiver\]", lambda: Circuit.of(graph, [], nan[:2]))
    refused("must be JSON", lambda: Circuit.from_json("{"))
    refused("an object with edges and feeds", lambda: Circuit.from_json("[1]"))
    refused("a score must be a number", lambda: Circuit.from_json(
        '{"edges": {"embed->logits": "x"}, "feeds": {"logits": []}}'))  # fmt: skip
    refused("feeds must be lists of senders", lambda: Circuit.from_json(
        '{"edges": {"embed->L0H0.q": 1}, "feeds": {"L0H0.q": "L0H0"}}'))  # fmt: skip
    refused("must be False where there is none", lambda: Circuit.of(
        graph, torch.ones_like(graph.exists)))  # fmt: skip
    refused("feeds of the receiver", lambda: Circuit("m", {"embed->logits": 1.0}, {}))
    refused("a finite number", lambda: Circuit("m", {"a->b": torch.inf}, {"b": ()}))
    refused("must be GraphML", lambda: Circuit.from_graphml("<a>"))
    refused("must have a graph", lambda: Circuit.from_graphml("<a/>"))
    frame = Circuit.of(graph, ["L0H0->logits"]).frame()
    refused("needs edge and score", lambda: Circuit.from_frame(graph, frame.drop(columns="score")))
