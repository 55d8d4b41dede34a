"""Which part's write matters to which reader: every direct path between two runs, by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pandas as pd
import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from analyses.base import Analysis
from analyses.inputs.pairs import PairParams, Pairs, TakesPairs, pairs_table, resolve_pairs
from analyses.patching.edges import Runs, edge_columns, make_runs
from analyses.registry import register
from analyses.results.checks import SCALED, TOLERANCES, scaled_error
from analyses.results.result import AnalysisResult, Check
from interp.charts.spec import Chart
from interp.circuits import (
    EdgeReference,
    EdgeRun,
    Graph,
    PathResult,
    patch_edges,
    patch_paths,
)
from interp.circuits.graph import ARROW, LOGITS, misfit
from interp.errors import InputError, require

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

    Readers = list[str]
else:
    Readers = Annotated[
        str | list[str],
        AfterValidator(lambda v: v if isinstance(v, list) else v.replace(",", " ").split()),
    ]

MOST = 4000  # edges that are patched without being asked for
FOLLOWED = 3  # readers that are looked at where there are more
LEADING = 20


class PathPatchingParams(PairParams):
    """The pairs, which way they are patched, and which readers are looked at."""

    direction: Literal["denoise", "noise"] = Field(
        "denoise",
        description="denoise: run the corrupted prompt, with what senders write in the clean one "
        "put in; noise: the other way round.",
    )
    readers: Readers = Field(
        [],
        description="Whose inputs are patched: heads (L1H0), one input of a head (L1H0.k), MLPs "
        "(L1MLP), logits. By default all of a model with up to 4000 edges; of a larger one the "
        "logits, and the three parts that matter most to them.",
    )
    through: str | None = Field(
        None,
        description="The head or MLP (L1H0, L1MLP) for paths of two edges: sender, this, logits. "
        "By default that with the largest edge into the logits.",
        pattern=r"^L\d+(H\d+|MLP)$",
    )


@dataclass(frozen=True)
class PathExperiment:
    """What is patched with what."""

    model: HookedTransformer
    graph: Graph
    pairs: Pairs
    runs: Runs

    def columns(self, found: PathResult) -> dict[str, Any]:
        """Of each path: the metric with it patched, its change, as a share, and its spread."""
        values = found.values.double()
        effects = values - self.runs.base
        n = effects.shape[1]
        spread = effects.std(1) / n**0.5 if n > 1 else torch.full((len(effects),), torch.nan)
        mean = effects.mean(1)
        return {
            "value": values.mean(1).cpu().numpy(),
            "effect": mean.cpu().numpy(),
            "standard_error": spread.double().cpu().numpy(),
            "normalised": (mean / self.runs.span).cpu().numpy(),
        }

    def edges(self, edges: list[str]) -> pd.DataFrame:
        """Patch these edges, each by itself."""
        tokens, metric = self.runs.tokens, self.pairs.metric
        found = patch_edges(self.model, tokens, self.runs.source, metric, edges)
        return pd.DataFrame({**edge_columns(self.graph, edges), **self.columns(found)})


@register
class PathPatching(TakesPairs, Analysis[PathPatchingParams]):
    """Path patching: every edge by itself, with all that follows recomputed.

    Sources: Wang et al. 2022, Interpretability in the Wild; Goldowsky-Dill et al. 2023, Localizing
    Model Behavior with Path Patching.
    """

    name = "path-patching"
    question = "Which part's output matters to which reader, through queries, keys or values?"
    caveat = (
        "Each path is patched by itself: effects do not add up, and where two paths carry the same "
        "information, patching one alone may show nothing, or wake a part that was silent. What "
        "both prompts have in common, mostly positions, is invisible. A path of one edge has all "
        "that follows its reader recomputed; a path of two edges changes nothing beside it. "
        "Normalised effects (0: as the run without a patch, 1: as the run that the writes are "
        "from) are ratios of means over pairs; the standard errors are over pairs alone."
    )

    @classmethod
    def supports(cls, model: HookedTransformer) -> str | None:
        """What reads must read a sum of what was written."""
        return misfit(model)

    def run(self, model: HookedTransformer, params: PathPatchingParams) -> AnalysisResult:
        """Patch edges, then paths through one part, and recompute some of it with plain hooks."""
        pairs = resolve_pairs(model, params)
        with torch.no_grad():
            runs = make_runs(model, pairs, params.direction)
            experiment = PathExperiment(model, Graph.of(model), pairs, runs)
            edges = _edges(experiment, params.readers)
            through = _through(experiment, params.through, edges)
            tables = {
                "runs": runs.table(pairs.quantity),
                "pairs": pairs_table(model, pairs, runs.clean, runs.corrupted),
                "edges": edges,
                "leading": _leading(edges),
            }
            tables["paths"] = _paths(experiment, through)
            checks = _checks(experiment, tables)
        return self.result(
            model,
            params,
            tables=tables,
            figures=_figures(experiment, tables, through),
            checks=checks,
            tokens=[*pairs.clean.tolist(), *pairs.corrupted.tolist()],
        )


def _edges(experiment: PathExperiment, asked: list[str]) -> pd.DataFrame:
    """The table of the edges that are patched."""
    graph = experiment.graph
    if asked:
        receivers = [r for name in asked for r in _receivers(graph, name)]
        return experiment.edges(_into(graph, receivers))
    if len(graph.edges) <= MOST:
        return experiment.edges(graph.edges)
    last = experiment.edges(_into(graph, [LOGITS]))
    order = last["effect"].abs().sort_values(ascending=False, kind="stable").index
    senders = [name for name in last.loc[order, "sender"] if graph.receivers_of(name)]
    receivers = [r for name in senders[:FOLLOWED] for r in graph.receivers_of(name)]
    return pd.concat([experiment.edges(_into(graph, receivers)), last], ignore_index=True)


def _receivers(graph: Graph, name: str) -> list[str]:
    found = [name] if name in graph.receivers else []
    if not found and name in graph.senders:
        found = graph.receivers_of(name)
    if not found:
        raise InputError(
            "readers must be heads, one input of a head, MLPs or logits, such as L1H0, "
            f"L1H0.k or L1MLP. Received {name!r}."
        )
    return found


def _into(graph: Graph, receivers: list[str]) -> list[str]:
    chosen = set(receivers)
    return [edge for edge in graph.edges if graph.parse(edge)[1] in chosen]


def _leading(edges: pd.DataFrame) -> pd.DataFrame:
    order = edges["effect"].abs().sort_values(ascending=False, kind="stable").index[:LEADING]
    columns = ["edge", "input", "value", "effect", "standard_error", "normalised"]
    rows = edges.loc[order, columns].reset_index(drop=True)
    rows.insert(0, "rank", range(1, len(rows) + 1))
    return rows


def _through(experiment: PathExperiment, asked: str | None, edges: pd.DataFrame) -> str:
    """The part that paths of two edges lead through."""
    graph = experiment.graph
    if asked is not None:
        require(asked in graph.senders, f"through must be a part of the model. Received {asked!r}")
        return asked
    into = edges[edges["reader"] == LOGITS]
    if into.empty:
        into = experiment.edges(_into(graph, [LOGITS]))
    into = into[[bool(graph.receivers_of(name)) for name in into["sender"]]]
    order = into["effect"].abs().sort_values(ascending=False, kind="stable").index
    return str(into.loc[order, "sender"].iloc[0])


def _paths(experiment: PathExperiment, through: str) -> pd.DataFrame:
    """Every path sender → this part → logits, through each of the part's inputs."""
    graph, runs = experiment.graph, experiment.runs
    first = _into(graph, graph.receivers_of(through))
    # A key or value that heads share leads on through this head alone.
    way = "" if through.endswith("MLP") else f"{ARROW}{through}"
    paths = [f"{edge}{way}{ARROW}{LOGITS}" for edge in first]
    metric = experiment.pairs.metric
    found = patch_paths(experiment.model, runs.tokens, runs.source, paths, metric)
    columns = edge_columns(graph, first)
    rows = pd.DataFrame({"path": paths, **columns, **experiment.columns(found)})
    return rows.drop(columns=["edge", "reader", "reader_order"]).assign(through=through)


def _checks(experiment: PathExperiment, tables: Mapping[str, pd.DataFrame]) -> list[Check]:
    model, runs, metric = experiment.model, experiment.runs, experiment.pairs.metric
    tolerance = TOLERANCES[model.cfg.dtype]
    there = EdgeReference("resample", "the other run", runs.source)
    run = EdgeRun(model, runs.tokens, there)
    none = run.values(torch.zeros_like(experiment.graph.exists)[None], metric)[0]
    tops = _one_of_each(tables["edges"])
    plain = [_plain_run(experiment, edge).mean() for edge in tops["edge"]]
    return [
        Check(
            name="all-edges-carry-all-over",
            value=scaled_error(none, runs.put_in),
            tolerance=tolerance,
            note="every edge of the model patched at once against the run that the writes are "
            f"from, every pair; {SCALED}",
        ),
        Check(
            name="edges-equal-plain-runs",
            value=scaled_error(torch.tensor(tops["value"].to_numpy()), torch.stack(plain).cpu()),
            tolerance=tolerance,
            note="the largest edge into each kind of input against a whole run with a hook that "
            f"adds what the sender writes more to what the reader reads; {SCALED}",
        ),
    ]


def _one_of_each(edges: pd.DataFrame) -> pd.DataFrame:
    """The largest edge into each kind of input."""
    order = edges["effect"].abs().sort_values(ascending=False, kind="stable").index
    return edges.loc[order].drop_duplicates("input")


def _plain_run(experiment: PathExperiment, edge: str) -> Tensor:
    """The metric of each pair, one edge patched by an ordinary hook."""
    graph, model, runs = experiment.graph, experiment.model, experiment.runs
    sender, receiver = graph.parse(edge)
    writes, reads = graph.sender(sender), graph.receiver(receiver)
    _, here = model.record(runs.tokens, names_filter=[writes.hook])
    change = runs.source[writes.hook] - here[writes.hook]
    if writes.head is not None:
        block: Any = model.blocks[int(writes.hook.split(".")[1])]
        change = change[:, :, writes.head] @ block.attn.W_O[writes.head]

    def add(x: Tensor, hook: Any) -> None:
        part = x if reads.head is None else x[:, :, reads.head]
        part += change

    logits = model.run_with_hooks(runs.tokens, fwd_hooks=[(reads.hook, add)])
    return experiment.pairs.metric.per_prompt(logits).double()


def _figures(
    experiment: PathExperiment, tables: Mapping[str, pd.DataFrame], through: str
) -> dict[str, Chart]:
    pairs, graph = experiment.pairs, experiment.graph
    how = "clean writes into the corrupted run" if experiment.runs.direction == "denoise" else (
        "corrupted writes into the clean run"
    )  # fmt: skip
    n = len(tables["edges"])
    of = "" if n == len(graph.edges) else f" of the {n} patched"
    unit = "normalised effect"
    figures = {
        "leading": Chart(
            kind="bars",
            table="leading",
            x="edge",
            value="normalised",
            value_label=unit,
            color="input",
            signed=True,
            title=f"Largest direct paths{of}: {how}",
            alt=f"The direct paths{of} with the largest effects, by the input of the reader. "
            f"What is measured: {pairs.quantity}.",
        )
    }
    # One chart: its panels share their scale, so that what is negligible looks so.
    figures["edges"] = Chart(
        kind="heatmap",
        table="edges",
        facet="input",
        x="sender_order",
        x_text="sender",
        x_label="sender",
        y="reader_order",
        y_text="reader",
        y_label="reader",
        value="normalised",
        value_label=unit,
        signed=True,
        title=f"Direct paths, by the input of the reader: {how}",
        alt="A panel for each kind of input: what each sender, across, does through that input of "
        f"each reader, down. What is measured: {pairs.quantity}.",
    )
    figures["paths"] = Chart(
        kind="heatmap",
        table="paths",
        x="sender_order",
        x_text="sender",
        x_label="sender",
        y="input",
        y_label=f"input of {through}",
        value="normalised",
        value_label=unit,
        signed=True,
        title=f"Paths sender → {through} → logits alone: {how}",
        alt=f"What each sender does along the path through {through} straight to the logits, by "
        f"the input of that part. What is measured: {pairs.quantity}.",
    )
    return figures
