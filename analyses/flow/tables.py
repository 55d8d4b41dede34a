"""Tables of information flow: nodes, edges, and the heads that edges are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from interp.attribution.proximity import StreamImportance
from interp.attribution.routes import Routes
from interp.charts.tokens import visible

if TYPE_CHECKING:
    from interp.cache import ActivationCache

_KIND = {"residual": "residual", "attention": "attention", "mlp": "MLP"}


def nodes_table(routes: Routes, texts: Sequence[str]) -> pd.DataFrame:
    """Every stream at every position: level, stream, position, token, flow, kept, on_route."""
    n = len(texts)
    return pd.DataFrame(
        {
            "level": [level for level in range(len(routes.labels)) for _ in range(n)],
            "stream": [label for label in routes.labels for _ in range(n)],
            "position": list(range(n)) * len(routes.labels),
            "token": list(texts) * len(routes.labels),
            "flow": routes.flow.flatten().numpy(),
            "kept": routes.kept.flatten().numpy(),
            "on_route": routes.reached.flatten().numpy(),
        }
    )


def edges_table(
    routes: Routes, importance: Sequence[StreamImportance], texts: Sequence[str]
) -> pd.DataFrame:
    """Every kept edge: where it leads into and from, its importance and its flow.

    `head` is the head that has the largest part of an edge of attention, "" for other edges.
    """
    strongest = {
        level: each.heads[0].argmax(0).tolist()
        for level, each in enumerate(importance, 1)
        if each.heads is not None
    }
    edges = routes.edges
    layers = [importance[e.level - 1].layer for e in edges]
    return pd.DataFrame(
        {
            "level": pd.Series([e.level for e in edges], dtype="int64"),
            "stream": pd.Series([routes.labels[e.level] for e in edges], dtype=object),
            "layer": pd.Series(layers, dtype="int64"),
            "kind": pd.Series([_KIND[e.kind] for e in edges], dtype=object),
            "source": pd.Series([e.source for e in edges], dtype="int64"),
            "source_token": pd.Series([texts[e.source] for e in edges], dtype=object),
            "destination": pd.Series([e.destination for e in edges], dtype="int64"),
            "destination_token": pd.Series([texts[e.destination] for e in edges], dtype=object),
            "importance": pd.Series([e.importance for e in edges], dtype="float64"),
            "flow": pd.Series([e.flow for e in edges], dtype="float64"),
            "head": pd.Series(
                [
                    f"L{layer}H{strongest[e.level][e.destination][e.source]}"
                    if e.kind == "attention"
                    else ""
                    for e, layer in zip(edges, layers, strict=True)
                ],
                dtype=object,
            ),
        }
    )


def graph_table(
    edges: pd.DataFrame, routes: Routes, texts: Sequence[str], most: int
) -> pd.DataFrame:
    """The kept edges of most flow, with a name for each node: position, token and stream."""

    def names(positions: pd.Series, levels: pd.Series) -> list[str]:
        return [
            f"{place} {visible(texts[place])} {routes.labels[level]}"
            for place, level in zip(positions, levels, strict=True)
        ]

    some = edges.nlargest(most, "flow").sort_index().reset_index(drop=True)
    return pd.DataFrame(
        {
            "from": names(some["source"], some["level"] - 1),
            "to": names(some["destination"], some["level"]),
            "from_level": some["level"] - 1,
            "to_level": some["level"],
            "kind": some["kind"],
            "importance": some["importance"],
            "flow": some["flow"],
        }
    )


def heads_table(
    routes: Routes,
    importance: Sequence[StreamImportance],
    cache: ActivationCache,
    texts: Sequence[str],
) -> pd.DataFrame:
    """What each head has of every kept edge of attention, and how much it looks there."""
    rows: list[dict[str, object]] = []
    for edge in routes.edges:
        if edge.kind != "attention":
            continue
        stream = importance[edge.level - 1]
        assert stream.heads is not None
        shares = stream.heads[0, :, edge.destination, edge.source].double().tolist()
        looks = cache["pattern", stream.layer][0, :, edge.destination, edge.source].double()
        for head, (share, look) in enumerate(zip(shares, looks.tolist(), strict=True)):
            if share > 0:
                rows.append(
                    {
                        "head": f"L{stream.layer}H{head}",
                        "layer": stream.layer,
                        "source": edge.source,
                        "source_token": texts[edge.source],
                        "destination": edge.destination,
                        "destination_token": texts[edge.destination],
                        "importance": share,
                        "flow": edge.flow * share / edge.importance,
                        "attention": look,
                    }
                )
    columns = [
        "head", "layer", "source", "source_token", "destination", "destination_token",
        "importance", "flow", "attention",
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def head_totals_table(routes: Routes, importance: Sequence[StreamImportance]) -> pd.DataFrame:
    """How much of the traced positions' whole passes each head, whatever the threshold."""
    frames = []
    for level, stream in enumerate(importance, 1):
        if stream.heads is None:
            continue
        by_destination = stream.heads[0].double().sum(-1).cpu()  # [head, pos]
        flows = by_destination @ routes.flow[level]
        frames.append(
            pd.DataFrame({"layer": stream.layer, "head": range(len(flows)), "flow": flows.numpy()})
        )
    return pd.concat(frames, ignore_index=True)


def parts_table(
    importance: Sequence[StreamImportance], texts: Sequence[str], edits: bool = False
) -> pd.DataFrame:
    """The importance of each kind of part of every stream at every position.

    Args:
        importance: Of one prompt.
        texts: The tokens' texts.
        edits: Whether to list what hooks put there.
    """
    frames = []
    for level, stream in enumerate(importance, 1):
        parts = {"residual": stream.residual[0], "bias": stream.bias[0]}
        if stream.heads is not None:
            parts["attention"] = stream.heads[0].sum((0, 2))
        if stream.mlp is not None:
            parts["MLP"] = stream.mlp[0]
        if edits:
            parts["edit"] = stream.edit[0]
        frames += [
            pd.DataFrame(
                {
                    "level": level,
                    "stream": stream.label,
                    "layer": stream.layer,
                    "position": range(len(texts)),
                    "token": list(texts),
                    "part": part,
                    "importance": values.double().cpu().numpy(),
                }
            )
            for part, values in parts.items()
        ]
    return pd.concat(frames, ignore_index=True)
