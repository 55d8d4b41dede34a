"""Information flow routes: which parts of the streams below lead to a position at the top.

Nodes are the residual streams at each position. An edge leads from a node to one of the stream
above it: along the residual stream, through what the heads of that layer read of the position, or
through the MLP, and is as important as that part is in the sum (`interp.attribution.proximity`).
From the top down, every edge above a threshold is kept, and nodes that none of them leads to are
left out. Biases, and what hooks put into a stream, come from no node: there a route ends.

Beside its importance, which is a share of one sum, an edge has a flow: the share of the traced
positions' whole that passes it, the importances along each path multiplied.

Source: Ferrando & Voita 2024, Information Flow Routes: Automatically Interpreting Language Models
at Scale, §2 (routes); Ferrando et al. 2022 and Abnar & Zuidema 2020 (products along paths).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.attribution.proximity import StreamImportance
from interp.errors import require

EdgeKind = Literal["residual", "attention", "mlp"]
KINDS: tuple[EdgeKind, ...] = ("residual", "attention", "mlp")


@dataclass(frozen=True, slots=True)
class RouteEdge:
    """A part of a stream at one position, and where it comes from.

    Attributes:
        level: Of the stream that it leads into; it comes from the one below, `level - 1`.
        kind: `residual`, `attention` (all heads of the layer together) or `mlp`.
        source, destination: Positions.
        importance: Of this part among those of the stream there, 0 … 1.
        flow: Share of the traced positions' whole that passes here, 0 … 1.
    """

    level: int
    kind: EdgeKind
    source: int
    destination: int
    importance: float
    flow: float


@dataclass(frozen=True, slots=True)
class Routes:
    """The edges that lead to some positions at the top, and what flows where.

    Levels count streams: 0 is what the first block reads, the last what the unembedding reads.

    Attributes:
        labels: Of the levels: `0_pre`, then `0_mid`, `0_post`, …
        positions: Those traced.
        threshold: Edges whose importance is above it are kept.
        edges: From the top level down, by destination, then kind, then source.
        flow: Share of the traced positions' whole at every node, `[level, pos]`, in fp64, whatever
            the threshold.
        kept: The same along kept edges alone.
        reached: Nodes that kept edges lead from, and those traced.
        lost: What has come from no node (biases, edits, sums that no part comes near to) in all
            levels above and including this one, `[level]`: with `flow` it adds up to 1.
    """

    labels: tuple[str, ...]
    positions: tuple[int, ...]
    threshold: float
    edges: tuple[RouteEdge, ...]
    flow: Float[Tensor, "level pos"]
    kept: Float[Tensor, "level pos"]
    reached: Bool[Tensor, "level pos"]
    lost: Float[Tensor, "level"]


def trace_routes(
    importance: Sequence[StreamImportance],
    positions: Sequence[int] = (-1,),
    threshold: float = 0.04,
    row: int = 0,
) -> Routes:
    """Trace back from positions of the last stream.

    Args:
        importance: From `stream_importance`.
        positions: Where the traced predictions are made; negative ones count from the end. Several
            have equal shares.
        threshold: Edges of more importance than this are kept, 0 … 1.
        row: Of the batch.

    Raises:
        InputError: for no streams, a position or row that is not there, or a threshold outside
            0 … 1.
    """
    require(len(importance) > 0, "routes need streams to trace. Received none")
    fits = isinstance(threshold, int | float) and 0 <= threshold <= 1
    require(fits, f"threshold must lie in 0 … 1. Received {threshold!r}")
    n_rows, n_pos = importance[0].residual.shape
    require(-n_rows <= row < n_rows, f"row must lie in 0 … {n_rows - 1}. Received {row}")
    starts = _places(positions, n_pos)
    flow = torch.zeros(n_pos, dtype=torch.float64)
    flow[list(starts)] = 1.0 / len(starts)
    kept, reached = flow.clone(), flow > 0
    flows, kepts, reaches, losses = [flow], [kept], [reached], [0.0]
    edges: list[RouteEdge] = []
    for level in range(len(importance), 0, -1):
        parts = dict(_parts(importance[level - 1], row))
        keeps = {kind: (part > threshold) & reached[:, None] for kind, part in parts.items()}
        edges += _edges(level, parts, keeps, flow)
        whole = sum(parts.values(), torch.zeros(n_pos, n_pos, dtype=torch.float64))
        chosen = torch.zeros_like(whole)
        for kind, part in parts.items():
            chosen = chosen + part * keeps[kind]
        losses.append(losses[-1] + float(flow @ (1.0 - whole.sum(-1))))
        flow, kept = flow @ whole, kept @ chosen
        reached = torch.stack(list(keeps.values())).any(0).any(0)
        flows.append(flow)
        kepts.append(kept)
        reaches.append(reached)
    labels = (f"{importance[0].layer}_pre", *(each.label for each in importance))
    return Routes(
        labels=labels,
        positions=starts,
        threshold=float(threshold),
        edges=tuple(edges),
        flow=torch.stack(flows[::-1]),
        kept=torch.stack(kepts[::-1]),
        reached=torch.stack(reaches[::-1]),
        lost=torch.tensor(losses[::-1], dtype=torch.float64),
    )


def _places(positions: Sequence[int], n_pos: int) -> tuple[int, ...]:
    require(len(positions) > 0, "routes need a position to trace. Received none")
    for place in positions:
        fits = isinstance(place, int) and -n_pos <= place < n_pos
        require(fits, f"a position must lie in {-n_pos} … {n_pos - 1}. Received {place!r}")
    return tuple(sorted({place % n_pos for place in positions}))


def _parts(
    stream: StreamImportance, row: int
) -> Iterator[tuple[EdgeKind, Float[Tensor, "pos key_pos"]]]:
    """Each kind's importance of each source to each destination."""
    yield "residual", stream.residual[row].double().cpu().diag()
    if stream.heads is not None:
        yield "attention", stream.heads[row].double().sum(0).cpu()
    if stream.mlp is not None:
        yield "mlp", stream.mlp[row].double().cpu().diag()


def _edges(
    level: int,
    parts: dict[EdgeKind, Float[Tensor, "pos key_pos"]],
    keeps: dict[EdgeKind, Bool[Tensor, "pos key_pos"]],
    flow: Float[Tensor, "pos"],
) -> list[RouteEdge]:
    found = []
    for kind, part in parts.items():
        places = keeps[kind].nonzero()
        values = part[places[:, 0], places[:, 1]]
        passing = values * flow[places[:, 0]]
        for (destination, source), value, share in zip(
            places.tolist(), values.tolist(), passing.tolist(), strict=True
        ):
            found.append(RouteEdge(level, kind, source, destination, value, share))
    return sorted(found, key=lambda e: (e.destination, KINDS.index(e.kind), e.source))
