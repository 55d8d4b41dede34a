"""A circuit: a set of edges with their scores, to be kept, drawn and read again."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from jaxtyping import Bool, Float
from torch import Tensor

from interp.circuits.graph import ARROW, LOGITS, Graph
from interp.errors import InputError, require
from interp.files import parse_json, short

if TYPE_CHECKING:
    import pandas as pd

_NAMESPACE = "http://graphml.graphdrawing.org/xmlns"
_WRITES, _FEEDS = "writes", "feeds"


@dataclass(frozen=True, repr=False)
class Circuit:
    """Edges of a model's graph, and how they were found.

    Attributes:
        model_name: Of the model.
        edges: Edge → score, in the graph's order.
        feeds: Receiver → the senders that are made of what it reads, for each receiver of an edge.
        ablation: What the edges outside carry, in words.
        method: How the edges were scored and chosen, in words.
    """

    model_name: str
    edges: Mapping[str, float]
    feeds: Mapping[str, tuple[str, ...]]
    ablation: str = ""
    method: str = ""

    def __post_init__(self) -> None:
        for edge, score in self.edges.items():
            parts = edge.split(ARROW)
            require(
                len(parts) == 2 and parts[1] in self.feeds,
                f"an edge must be sender{ARROW}receiver, with feeds of the receiver. Received "
                f"{edge!r}",
            )
            require(
                isinstance(score, float) and math.isfinite(score),
                f"a score must be a finite number. {edge} has {score!r}",
            )

    @classmethod
    def of(
        cls,
        graph: Graph,
        edges: Iterable[str] | Bool[Tensor, "sender receiver"],
        scores: Mapping[str, float] | Float[Tensor, "sender receiver"] | None = None,
        ablation: str = "",
        method: str = "",
    ) -> Circuit:
        """The circuit of these edges.

        Args:
            graph: The model's graph.
            edges: Labels, or a mask.
            scores: Of each edge: by label, or `[sender, receiver]`. None: 1 for each.
            ablation: What the edges outside carry, in words.
            method: How the edges were scored and chosen, in words.

        Raises:
            InputError: for an edge that is not in the graph, or that has no finite score.
        """
        mask = edges if isinstance(edges, Tensor) else graph.mask(edges)
        labels = graph.labels(mask)
        values = dict.fromkeys(labels, 1.0) if scores is None else score_of(graph, scores)
        missing = [edge for edge in labels if edge not in values]
        require(not missing, f"every edge needs a score. There is none for {missing[:3]}")
        read = {graph.parse(edge)[1] for edge in labels}
        feeds = {node.label: node.feeds for node in graph.receiver_nodes if node.label in read}
        found = {edge: float(values[edge]) for edge in labels}
        return cls(graph.model_name, found, feeds, ablation, method)

    def __len__(self) -> int:
        return len(self.edges)

    def __repr__(self) -> str:
        from interp.display.circuit import circuit_text

        return circuit_text(self)

    def _repr_html_(self) -> str:
        from interp.display.circuit import circuit_html

        return circuit_html(self)

    @property
    def nodes(self) -> list[str]:
        """Embeddings, heads and MLPs that are part of it, and the logits, each once.

        Of heads that share what is read, those that write something in it; all where none does.
        """
        writers = {edge.split(ARROW)[0] for edge in self.edges}
        found: dict[str, None] = {}
        for edge in self.edges:
            sender, receiver = edge.split(ARROW)
            fed = self.feeds[receiver] or (receiver,)
            writing = [label for label in fed if label in writers]
            found |= dict.fromkeys([sender, *(writing or fed)])
        return list(found)

    def mask(self, graph: Graph) -> Bool[Tensor, "sender receiver"]:
        """Its edges as a mask.

        Raises:
            InputError: where the graph lacks one: it is another model's.
        """
        return graph.mask(self.edges)

    # --- files -----------------------------------------------------------------------------------

    def to_json(self) -> str:
        """All of it as JSON."""
        fields = {
            "model_name": self.model_name,
            "ablation": self.ablation,
            "method": self.method,
            "edges": dict(self.edges),
            "feeds": {receiver: list(senders) for receiver, senders in self.feeds.items()},
        }
        return json.dumps(fields, indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Circuit:
        """What `to_json` wrote.

        Raises:
            InputError: for other text.
        """
        try:
            found = parse_json(text)
        except InputError as fault:
            raise InputError(f"a circuit must be JSON. {fault}.") from fault
        rule = "a circuit's JSON must be an object with edges and feeds. Received"
        if not isinstance(found, dict) or not {"edges", "feeds"} <= found.keys():
            raise InputError(f"{rule} {text[:80]!r}.")
        edges, feeds = found["edges"], found["feeds"]
        if not isinstance(edges, dict) or not isinstance(feeds, dict):
            raise InputError(f"{rule} {text[:80]!r}.")
        return cls(
            str(found.get("model_name", "")),
            {edge: _number(score) for edge, score in edges.items()},
            {receiver: _labels(receiver, senders) for receiver, senders in feeds.items()},
            str(found.get("ablation", "")),
            str(found.get("method", "")),
        )

    def to_graphml(self) -> str:
        """All of it as GraphML, for tools that draw graphs.

        Nodes are senders and receivers. Edges are those of the circuit (`kind="writes"`, with their
        `score`), and one from each receiver to what is made of what it reads (`kind="feeds"`), so
        that paths run from embeddings to the logits.
        """
        root = ElementTree.Element("graphml", xmlns=_NAMESPACE)
        for name, of, kind in _KEYS:
            key = {"id": name, "for": of, "attr.name": name, "attr.type": kind}
            ElementTree.SubElement(root, "key", key)
        graph = ElementTree.SubElement(root, "graph", id="circuit", edgedefault="directed")
        for name in ("model_name", "ablation", "method"):
            _data(graph, name, getattr(self, name))
        labels: dict[str, None] = {}
        for edge in self.edges:
            labels |= dict.fromkeys(edge.split(ARROW))
        labels |= {sender: None for senders in self.feeds.values() for sender in senders}
        for label in labels:
            ElementTree.SubElement(graph, "node", id=label)
        for edge, score in self.edges.items():
            sender, receiver = edge.split(ARROW)
            found = ElementTree.SubElement(graph, "edge", source=sender, target=receiver)
            _data(found, "kind", _WRITES)
            _data(found, "score", repr(score))
        for receiver, senders in self.feeds.items():
            for sender in senders:
                if sender != receiver:
                    found = ElementTree.SubElement(graph, "edge", source=receiver, target=sender)
                    _data(found, "kind", _FEEDS)
        ElementTree.indent(root)
        return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"

    @classmethod
    def from_graphml(cls, text: str) -> Circuit:
        """What `to_graphml` wrote.

        Raises:
            InputError: for other text.
        """
        try:
            # An entity can unfold to any length, and no circuit needs one.
            require("<!DOCTYPE" not in text, "a circuit's GraphML must declare no entities")
            root = ElementTree.fromstring(text)
        except (ElementTree.ParseError, ValueError) as fault:
            if isinstance(fault, InputError):
                raise
            raise InputError(f"a circuit must be GraphML. {fault}.") from fault
        graph = root.find(f"{{{_NAMESPACE}}}graph")
        if graph is None:
            raise InputError(f"a circuit's GraphML must have a graph. Received <{root.tag}>.")
        about = _read_data(graph)
        edges: dict[str, float] = {}
        fed: dict[str, tuple[str, ...]] = {}
        for element in graph.iter(f"{{{_NAMESPACE}}}edge"):
            data = _read_data(element)
            source, target = element.get("source", ""), element.get("target", "")
            if data.get("kind") == _FEEDS:
                fed[source] = (*fed.get(source, ()), target)
            else:
                edges[f"{source}{ARROW}{target}"] = _number(data.get("score"))
        # A receiver that is one node with what it feeds (an MLP, or the end) has no edge for it.
        read = dict.fromkeys(edge.split(ARROW)[1] for edge in edges)
        feeds = {r: fed.get(r, () if r == LOGITS else (r,)) for r in read}
        return cls(
            about.get("model_name", ""),
            edges,
            feeds,
            about.get("ablation", ""),
            about.get("method", ""),
        )

    def frame(self) -> pd.DataFrame:
        """A row for each edge: `edge`, `source`, `target` (nodes), `receiver` and `score`.

        A receiver that several heads share has a row for each of them.
        """
        import pandas as pd

        found = []
        for edge, score in self.edges.items():
            sender, receiver = edge.split(ARROW)
            targets = self.feeds[receiver] or (receiver,)
            found += [(edge, sender, target, receiver, score) for target in targets]
        return pd.DataFrame(found, columns=["edge", "source", "target", "receiver", "score"])

    @classmethod
    def from_frame(
        cls, graph: Graph, frame: pd.DataFrame, ablation: str = "", method: str = ""
    ) -> Circuit:
        """The circuit of a table with the columns `edge` and `score`, as `frame` makes it.

        Raises:
            InputError: for a table that lacks one of them, or edges that are not in the graph.
        """
        missing = [name for name in ("edge", "score") if name not in frame]
        require(not missing, f"a table of edges needs edge and score. It lacks {missing}")
        scores = dict(zip(frame["edge"], frame["score"].astype(float), strict=True))
        return cls.of(graph, scores, scores, ablation, method)


def score_of(
    graph: Graph, scores: Mapping[str, float] | Float[Tensor, "sender receiver"]
) -> dict[str, float]:
    """Edge → score, in the graph's order, for the edges that have one.

    Raises:
        InputError: for a tensor that is not `[sender, receiver]`, an edge that is not in the graph,
            and a score that is not finite where there is an edge.
    """
    if isinstance(scores, Tensor):
        require(
            scores.shape == graph.exists.shape,
            f"scores must be [sender, receiver] = {tuple(graph.exists.shape)}. Received "
            f"{tuple(scores.shape)}",
        )
        of_edges = scores.detach().cpu().double()[graph.exists]
        found = dict(zip(graph.edges, of_edges.tolist(), strict=True))
    else:
        given = {ARROW.join(graph.parse(edge)): float(score) for edge, score in scores.items()}
        found = {edge: given[edge] for edge in graph.edges if edge in given}
    wrong = [edge for edge, score in found.items() if not math.isfinite(score)]
    require(not wrong, f"scores of edges must be finite. That of {wrong[:3]} is not")
    return found


_KEYS = (
    ("model_name", "graph", "string"),
    ("ablation", "graph", "string"),
    ("method", "graph", "string"),
    ("kind", "edge", "string"),
    ("score", "edge", "double"),
)


def _data(parent: ElementTree.Element, key: str, value: str) -> None:
    ElementTree.SubElement(parent, "data", key=key).text = value


def _read_data(parent: ElementTree.Element) -> dict[str, str]:
    return {d.get("key", ""): d.text or "" for d in parent.findall(f"{{{_NAMESPACE}}}data")}


def _labels(receiver: str, senders: Any) -> tuple[str, ...]:
    if not isinstance(senders, list) or not all(isinstance(label, str) for label in senders):
        raise InputError(
            f"feeds must be lists of senders. {short(receiver, 80)} has {short(senders, 80)}."
        )
    return tuple(senders)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as fault:
        raise InputError(f"a score must be a number. Received {value!r:.80}.") from fault
