"""Path patching: what one part writes is changed on the way along some paths alone."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.circuits.edge_run import EdgeRun, most_worlds
from interp.circuits.graph import ARROW, LOGITS, Graph
from interp.circuits.references import EdgeReference, sender_hooks
from interp.errors import InputError, require
from interp.patching.metrics import Metric
from interp.patching.read_out import LogitsFunction

if TYPE_CHECKING:
    import pandas as pd

    from interp.transformer import HookedTransformer

Paths = Sequence[str] | Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class PathResult:
    """The metric with each path (or set of paths, or edge) patched.

    Attributes:
        paths: What was patched, such as `L0H1->L1H0.k`.
        values: The metric in each of these runs, `[path, batch]`; without `batch` where the metric
            gave one number for all prompts.
        base: The metric of the run without a patch, `[batch]` or a scalar.
    """

    paths: tuple[str, ...]
    values: Float[Tensor, "path *batch"]
    base: Float[Tensor, "*batch"]

    @property
    def effects(self) -> Float[Tensor, "path *batch"]:
        """What each patch changed: the patched metric less the base's."""
        return self.values - self.base

    def scores(self) -> dict[str, float]:
        """Path → its effect, the mean over prompts."""
        effects = self.effects
        means = effects.mean(-1) if effects.ndim == 2 else effects
        return dict(zip(self.paths, means.tolist(), strict=True))

    def frame(self) -> pd.DataFrame:
        """A row for each path: `path`, `value` (mean over prompts) and `effect`."""
        import pandas as pd

        values = self.values.mean(-1) if self.values.ndim == 2 else self.values
        effects = list(self.scores().values())
        return pd.DataFrame({"path": self.paths, "value": values.tolist(), "effect": effects})


def patch_edges(
    model: HookedTransformer,
    tokens: Int[Tensor, "batch pos"],
    source: Mapping[str, Float[Tensor, "batch_or_1 pos_or_1 ..."]],
    metric: Metric | LogitsFunction,
    edges: Sequence[str] | None = None,
    attention_mask: Int[Tensor, "batch pos"] | None = None,
    token_type_ids: Int[Tensor, "batch pos"] | None = None,
    max_bytes: int | None = None,
) -> PathResult:
    """Patch every edge by itself: one reader sees what one sender wrote in the source run.

    All that follows is recomputed. These are the exact effects that edge attribution patching
    estimates. On heads and MLPs it is what `patching.path_sweep` gives,
    which lays them on a grid; `interventions.KnockOutEdge` edits one edge in any run.

    Args:
        model: A single stack with norms in front of what reads.
        tokens: The prompts that are run.
        source: Activations of the source run, as in a cache; all senders' hooks are needed.
        metric: A `Metric`, or a function of full logits that gives a number or one per prompt.
        edges: Which. None: all of the graph.
        attention_mask: As for `forward`.
        token_type_ids: As for `forward`.
        max_bytes: About how much memory the worlds that share a run may take. None: half of what
            is free on a GPU, 128 MiB elsewhere.

    Raises:
        InputError: for an edge that is not in the graph, and as `EdgeRun`.
    """
    there = EdgeReference("resample", "the source run", source)
    run = EdgeRun(model, tokens, there, attention_mask, token_type_ids, max_bytes=max_bytes)
    graph = run.graph
    names = tuple(graph.edges if edges is None else edges)
    places = [graph.parse(edge) for edge in names]
    base = run.values(graph.exists[None], metric)[0]
    found = base.expand(len(names), *base.shape).clone()
    # By receiver, as worlds that depart from the base late are cheap where they share a run.
    order = sorted(range(len(names)), key=lambda i: graph.receiver_index(places[i][1]))
    for which in torch.tensor(order, dtype=torch.long).split(most_worlds(graph)):
        live = graph.exists.repeat(len(which), 1, 1)
        for world, i in enumerate(which.tolist()):
            sender, receiver = places[i]
            live[world, graph.sender_index(sender), graph.receiver_index(receiver)] = False
        found[which.to(found.device)] = run.values(live, metric)
    return PathResult(names, found, base)


def patch_paths(
    model: HookedTransformer,
    tokens: Int[Tensor, "batch pos"],
    source: Mapping[str, Float[Tensor, "batch_or_1 pos_or_1 ..."]],
    paths: Paths,
    metric: Metric | LogitsFunction,
    through_mlps: bool = False,
    attention_mask: Int[Tensor, "batch pos"] | None = None,
    token_type_ids: Int[Tensor, "batch pos"] | None = None,
    max_bytes: int | None = None,
) -> PathResult:
    """Patch paths of any length, each by itself, or sets of paths, each set together.

    A path is written `embed->L0H1->L1H0.k->logits`. Its first sender writes what it wrote in the
    source run; every part on the way reads that along the path's edges, and is recomputed; what is
    not on the way stays as in the base (Goldowsky-Dill et al. 2023, §3). A head on the way without
    `.q`, `.k` or `.v` is passed through all three. Behind a key or value that several heads share
    one of them may be named, else it goes on through all: `L0H1->L1KV0.k->L1H1->logits`.

    A path that ends in a reader (`L0H1->L1H0.k`) instead of `logits` changes what that reads; the
    run from there on is then an ordinary one, with all that follows recomputed (Wang et al. 2022,
    App. B).

    Args:
        model: A single stack with norms in front of what reads.
        tokens: The prompts that are run.
        source: Activations of the source run, as in a cache; all senders' hooks are needed.
        paths: Paths; or name → paths that are patched at once. Paths that are patched at once share
            their edges: what several of them make together, they are.
        metric: A `Metric`, or a function of full logits that gives a number or one per prompt.
        through_mlps: MLPs between two parts of a path are recomputed, so that they carry on what
            reaches them along the path (as Wang et al. do); otherwise they stay as in the base.
        attention_mask: As for `forward`.
        token_type_ids: As for `forward`.
        max_bytes: As in `patch_edges`.

    Raises:
        InputError: for what is no path of the graph, a set of which some end in the logits and some
            do not, and as `EdgeRun`.
    """
    require(not isinstance(paths, str), f"paths are a list of paths. Received {paths!r}")
    named = paths if isinstance(paths, Mapping) else {path: (path,) for path in paths}
    run = EdgeRun(model, tokens, None, attention_mask, token_type_ids, source, max_bytes)
    graph = run.graph
    sets = [_PathSet.of(graph, several, through_mlps) for several in named.values()]
    by_end: dict[tuple[int, ...], list[int]] = {}
    for i, one in enumerate(sets):
        by_end.setdefault(one.ends, []).append(i)
    everything = graph.exists[None]
    base = run.values(everything, metric)[0]
    found = base.expand(len(sets), *base.shape).clone()
    last = (len(graph.receivers) - 1,)
    stream = run.run.streams[0]
    for ends, which in _in_parts(by_end, run.max_bytes // (stream.nbytes * 2)):
        live = torch.stack([sets[i].live for i in which])
        starts = torch.stack([sets[i].starts for i in which])
        if ends == last:
            values = run.values(live, metric, starts)
        else:
            changed = run.changes_read(live, list(ends), starts)
            values = run.values(everything.expand(len(which), -1, -1), metric, added=changed)
        found[which] = values
    return PathResult(tuple(named), found, base)


def _in_parts(
    by_end: Mapping[tuple[int, ...], list[int]], most: int
) -> Iterator[tuple[tuple[int, ...], list[int]]]:
    """Sets of paths with the same ends, so few that what their ends read fits into memory."""
    for ends, which in by_end.items():
        size = max(most // len(ends), 1)
        for first in range(0, len(which), size):
            yield ends, which[first : first + size]


@dataclass(frozen=True)
class _PathSet:
    """The edges of paths, the senders that they begin at, and the receivers that they end at."""

    live: Bool[Tensor, "sender receiver"]
    starts: Bool[Tensor, "sender"]
    ends: tuple[int, ...]

    @classmethod
    def of(cls, graph: Graph, paths: Sequence[str], through_mlps: bool) -> _PathSet:
        require(
            not isinstance(paths, str) and len(paths) > 0,
            f"a set of paths is a list of one or more. Received {paths!r}",
        )
        live = torch.zeros_like(graph.exists)
        starts = torch.zeros(len(graph.senders), dtype=torch.bool)
        ends: set[int] = set()
        for path in paths:
            labels = [part.strip() for part in path.split(ARROW)] if isinstance(path, str) else []
            require(
                len(labels) > 1, f"a path is written sender{ARROW}…{ARROW}reader. Received {path!r}"
            )
            starts[graph.sender_index(labels[0])] = True
            writers = [labels[0]]
            ends_here: list[int] = []
            for before, label in itertools.pairwise(labels):
                if label in writers and "." in before and label != labels[-1]:
                    writers = [label]  # one of the heads that share what was read
                    continue
                require(
                    bool(writers), f"a path goes on behind {LOGITS}, its end. Received {path!r}"
                )
                readers = _readers(graph, label)
                for writer in writers:
                    for reader in readers:
                        _connect(graph, live, writer, reader, through_mlps)
                ends_here = [graph.receiver_index(reader) for reader in readers]
                one = label in graph.senders
                writers = [label] if one else list(graph.receiver(label).feeds)
            ends |= set(ends_here)
        last = len(graph.receivers) - 1
        require(
            ends == {last} or last not in ends,
            f"paths of a set must all end in {LOGITS}, or none. Received {list(paths)}",
        )
        return cls(live, starts, tuple(sorted(ends)))


def _readers(graph: Graph, label: str) -> list[str]:
    if label in graph.receivers:
        return [label]
    readers = graph.receivers_of(label)
    if not readers:
        raise InputError(f"a path can only begin at what reads nothing. {label} is on the way.")
    return readers


def _connect(
    graph: Graph, live: Bool[Tensor, "sender receiver"], writer: str, reader: str, mlps: bool
) -> None:
    """Make an edge live, and with `mlps` all that the MLPs between its ends carry."""
    graph.parse(f"{writer}{ARROW}{reader}")  # raises unless it is an edge
    start, end = graph.sender(writer).step, graph.receiver(reader).step
    between = []
    if mlps:
        between = [
            node.label
            for node in graph.sender_nodes
            if node.hook.endswith("hook_mlp_out")
            and graph.receiver(node.label).step >= start
            and node.step <= end
        ]
    chain = [writer, *between]
    for i, sender in enumerate(chain):
        for receiver in [*between[i:], reader]:
            live[graph.sender_index(sender), graph.receiver_index(receiver)] = True


def source_of(
    model: HookedTransformer,
    tokens: Int[Tensor, "batch pos"],
    attention_mask: Int[Tensor, "batch pos"] | None = None,
    token_type_ids: Int[Tensor, "batch pos"] | None = None,
) -> dict[str, Float[Tensor, "batch pos ..."]]:
    """What `source` asks for: the activations of every sender in a run on these prompts.

    Raises:
        InputError: for a model that has no graph of edges, and as `forward`.
    """
    from interp.circuits.references import resample_reference

    found = resample_reference(model, tokens, attention_mask, token_type_ids)
    return {hook: found.activations[hook] for hook in sender_hooks(Graph.of(model))}
