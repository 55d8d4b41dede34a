"""Which edges are enough for a behaviour: a circuit, how faithful it is, and what is left out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from analyses.base import Analysis
from analyses.circuits.figures import SCORES, circuit_figures
from analyses.inputs.pairs import PairParams, Pairs, TakesPairs, pairs_table, resolve_pairs
from analyses.patching.edges import Runs, input_of, make_runs
from analyses.registry import register
from analyses.results.checks import SCALED, TOLERANCES, scaled_error
from analyses.results.result import AnalysisResult, Check
from interp.attribution.edges import edge_attribution
from interp.circuits import (
    Circuit,
    EdgeReference,
    EdgeRun,
    Graph,
    Judgement,
    greedy,
    judge_in,
    mean_reference,
    minimality,
    patch_edges,
    ranked,
    smallest,
    threshold,
    top_edges,
    without_dangling,
    zero_reference,
)
from interp.circuits.graph import LOGITS, misfit
from interp.errors import require

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

Ablation = Literal["resample", "mean", "zero"]
DRAWN = 60  # edges of the drawing
LEADING = 20
RANDOM = "resample, edges in random order"


class CircuitSearchParams(PairParams):
    """The pairs, how edges are scored and chosen, and what ablated edges carry."""

    score: Literal["eap-ig", "eap", "exact"] = Field(
        "eap-ig",
        description="How edges are ranked: eap-ig and eap estimate what each edge carries to first "
        "order; exact patches each edge, one run for each.",
    )
    steps: int = Field(5, ge=1, le=200, description="Points of eap-ig's line between the prompts.")
    search: Literal["faithfulness", "top", "threshold", "greedy"] = Field(
        "faithfulness",
        description="faithfulness: the first few edges of the ranking that reach it; top: so many; "
        "threshold: those of a score of at least tau; greedy: edges are cut one after the other as "
        "long as each cut costs less than tau (ACDC), without a ranking.",
    )
    faithfulness: float = Field(
        0.9, gt=0, le=1, description="Of search=faithfulness: the share of the metric to keep."
    )
    n_edges: int = Field(50, ge=1, description="Of search=top: how many edges to keep.")
    tau: float = Field(
        0.01,
        gt=0,
        description="Of search=threshold and greedy, as a share of the metric's difference "
        "between the clean and the corrupted prompts.",
    )
    ablation: Ablation = Field(
        "resample",
        description="What edges outside the circuit carry while it is searched: what they carry in "
        "the corrupted prompt (resample), their mean over all prompts given, by position (mean), "
        "or zero.",
    )
    points: int = Field(12, ge=2, le=60, description="Sizes at which circuits are judged.")
    random_orders: int = Field(
        3, ge=1, le=50, description="Random rankings to compare with, of the same sizes."
    )
    seed: int = Field(0, description="Of the random rankings.")
    drop_each: int = Field(
        50,
        ge=0,
        description="Run the circuit without each of its edges, so many at most, those of the "
        "highest scores first: what each is worth.",
    )


@dataclass(frozen=True)
class CircuitExperiment:
    """The model, the prompts, and runs of edges with each ablation."""

    model: HookedTransformer
    graph: Graph
    pairs: Pairs
    runs: Runs
    references: Mapping[Ablation, EdgeReference]
    edge_runs: Mapping[Ablation, EdgeRun]

    def judge(self, ablation: Ablation, circuits: Sequence[Tensor]) -> Judgement:
        """Judge circuits with an ablation."""
        return judge_in(self.edge_runs[ablation], circuits, self.pairs.metric)


@register
class CircuitSearch(TakesPairs, Analysis[CircuitSearchParams]):
    """A circuit of edges: ranked, chosen, and judged with three ablations.

    Sources: Conmy et al. 2023, Towards Automated Circuit Discovery; Syed et al. 2023 and Hanna et
    al. 2024 (EAP, EAP-IG); Marks et al. 2024 and Mueller et al. 2025 (how circuits are judged).
    """

    name = "circuit-search"
    question = "Which edges between heads, MLPs and embeddings are enough for this behaviour?"
    caveat = (
        "A circuit is one of several that would do, found for these prompts and this contrast: "
        "what both prompts have in common is not in it, and it depends on the ablation, whose kind "
        "and reference set stand with every number. Scores of EAP and EAP-IG are first-order "
        "estimates that rank edges; they are not effects. High faithfulness says that the circuit "
        "is enough, not that it is needed: completeness, what the rest of the model does without "
        "it, is near 0 only where nothing else does the same. A backup that is silent on these "
        "prompts is in no circuit. Judge both on prompts that the circuit was not chosen on."
    )

    @classmethod
    def supports(cls, model: HookedTransformer) -> str | None:
        """What reads must read a sum of what was written."""
        return misfit(model)

    def quick(self, params: CircuitSearchParams) -> CircuitSearchParams:
        """Fewer points, and fewer edges dropped."""
        few = {
            "points": min(params.points, 6),
            "random_orders": 1,
            "drop_each": min(params.drop_each, 10),
        }
        return params.model_copy(update=few)

    def run(self, model: HookedTransformer, params: CircuitSearchParams) -> AnalysisResult:
        """Score the edges, choose some, and judge them and others."""
        pairs = resolve_pairs(model, params)
        experiment = _experiment(model, pairs)
        scores = _scores(experiment, params)
        with torch.no_grad():
            chosen = _chosen(experiment, params, scores)
            mask = without_dangling(experiment.graph, chosen)
            require(
                bool(mask.any()),
                "a circuit must lead from an embedding to the logits. Those edges do not: choose "
                f"more. Received {int(chosen.sum())} edges by search={params.search!r}",
            )
            circuit = _circuit(experiment, params, mask, scores)
            tables = {
                "summary": _summary(experiment, params, mask),
                "edges": _edges(experiment, params, circuit, mask),
                "nodes": _nodes(experiment.graph, circuit),
                "curve": _curve(experiment, params, scores),
                "leading": _leading(experiment, scores),
                "pairs": pairs_table(
                    model, pairs, experiment.runs.clean, experiment.runs.corrupted
                ),
            }
            checks = _checks(experiment, chosen, mask)
        return self.result(
            model,
            params,
            tables=tables,
            figures=circuit_figures(params, pairs, tables),
            checks=checks,
            tokens=[*pairs.clean.tolist(), *pairs.corrupted.tolist()],
        )


@torch.no_grad()
def _experiment(model: HookedTransformer, pairs: Pairs) -> CircuitExperiment:
    runs = make_runs(model, pairs, "noise")
    everything = torch.cat([pairs.clean, pairs.corrupted])
    references: dict[Ablation, EdgeReference] = {
        "resample": EdgeReference(
            "resample", "resample from the corrupted prompt of the pair, by position", runs.source
        ),
        "mean": mean_reference(
            model, everything, what=f"the {len(everything)} clean and corrupted prompts"
        ),
        "zero": zero_reference(model),
    }
    edge_runs = {kind: EdgeRun(model, pairs.clean, ref) for kind, ref in references.items()}
    return CircuitExperiment(model, Graph.of(model), pairs, runs, references, edge_runs)


def _scores(experiment: CircuitExperiment, params: CircuitSearchParams) -> dict[str, float]:
    """What the metric of the clean run loses, by estimate or exactly, without each edge."""
    model, pairs = experiment.model, experiment.pairs
    if params.score == "exact":
        found = patch_edges(model, pairs.clean, experiment.runs.source, pairs.metric).scores()
        return {edge: -effect for edge, effect in found.items()}
    estimate = edge_attribution(
        model, pairs.clean, pairs.corrupted, pairs.metric, params.score, params.steps,
        direction="noise",
    )  # fmt: skip
    scores = estimate.scores.cpu().double()[experiment.graph.exists]
    return dict(zip(experiment.graph.edges, (-scores).tolist(), strict=True))


def _chosen(
    experiment: CircuitExperiment, params: CircuitSearchParams, scores: Mapping[str, float]
) -> Tensor:
    """The edges chosen, those that dangle among them (but for `faithfulness`)."""
    graph, metric = experiment.graph, experiment.pairs.metric
    tau = params.tau * abs(experiment.runs.span)
    reference = experiment.references[params.ablation]
    if params.search == "top":
        return top_edges(graph, scores, params.n_edges, prune=False)
    if params.search == "threshold":
        return threshold(graph, scores, tau, prune=False)
    if params.search == "greedy":
        tokens = experiment.pairs.clean
        return greedy(experiment.model, tokens, reference, metric, tau, prune=False)
    run = experiment.edge_runs[params.ablation]
    return smallest(run, scores, metric, params.faithfulness)[0]


def _circuit(
    experiment: CircuitExperiment,
    params: CircuitSearchParams,
    mask: Tensor,
    scores: Mapping[str, float],
) -> Circuit:
    how = {
        "faithfulness": f"the first edges that keep {params.faithfulness:g} of the metric",
        "top": f"the first {params.n_edges} edges",
        "threshold": f"edges of at least {params.tau:g} of the metric's difference",
        "greedy": f"cut one by one as long as each costs less than {params.tau:g} of the "
        "metric's difference",
    }[params.search]
    ablation = experiment.references[params.ablation].description
    method = f"{SCORES[params.score]}; {how}"
    return Circuit.of(experiment.graph, mask, scores, ablation, method)


def _summary(
    experiment: CircuitExperiment, params: CircuitSearchParams, mask: Tensor
) -> pd.DataFrame:
    """The circuit judged with each ablation."""
    rows = []
    for kind, reference in experiment.references.items():
        found = experiment.judge(kind, [mask])
        rows.append(
            {
                "ablation": kind,
                "reference": reference.description,
                "searched_with": kind == params.ablation,
                "edges": int(mask.sum()),
                "of_edges": found.n_edges,
                "faithfulness": float(found.faithfulness[0]),
                "completeness": float(found.completeness[0]),
                "metric_all_edges": float(found.clean.mean()),
                "metric_circuit": float(found.circuits.mean()),
                "metric_without_it": float(found.complements.mean()),
                "metric_no_edges": float(found.ablated.mean()),
            }
        )
    return pd.DataFrame(rows)


def _edges(
    experiment: CircuitExperiment, params: CircuitSearchParams, circuit: Circuit, mask: Tensor
) -> pd.DataFrame:
    """The circuit's edges, largest score first; `Circuit.from_frame` reads it."""
    rows = circuit.frame()
    rows["normalised"] = rows["score"] / abs(experiment.runs.span)
    rows["input"] = rows["receiver"].map(input_of)
    rows["source_level"] = [_level(experiment.graph, name) for name in rows["source"]]
    rows["target_level"] = [_level(experiment.graph, name) for name in rows["target"]]
    order = rows["score"].abs().sort_values(ascending=False, kind="stable").index
    rows = rows.loc[order].reset_index(drop=True)
    if params.drop_each:
        run = experiment.edge_runs[params.ablation]
        first = list(dict.fromkeys(rows["edge"]))[: params.drop_each]
        worth = minimality(run, mask, experiment.pairs.metric, first)
        rows["faithfulness_lost"] = rows["edge"].map(worth).astype(float)  # NaN: not measured
    # Of the heads that share a key or value, those that write nothing in the circuit are not drawn.
    leads_on = rows["target"].isin([*rows["source"], LOGITS])
    number = rows["edge"].map({edge: i for i, edge in enumerate(rows["edge"].unique())})
    rows["drawn"] = leads_on & (number < DRAWN)
    return rows


def _level(graph: Graph, node: str) -> int:
    """How far up a node stands: embeddings, then the heads and the MLP of each layer, logits."""
    found = re.fullmatch(r"L(\d+)(H\d+|MLP)", node)
    if found is None:
        last = graph.receiver(LOGITS).step + 1
        return last if node == LOGITS else 0
    return 2 * int(found[1]) + (2 if found[2] == "MLP" else 1)


def _nodes(graph: Graph, circuit: Circuit) -> pd.DataFrame:
    """Every part of the circuit: how many edges it has, and their scores."""
    frame = circuit.frame()
    rows = []
    for node in sorted(circuit.nodes, key=lambda name: (_level(graph, name), name)):
        written, read = frame[frame["source"] == node], frame[frame["target"] == node]
        rows.append(
            {
                "node": node,
                "level": _level(graph, node),
                "edges_in": len(read),
                "edges_out": len(written),
                "score_in": float(read["score"].abs().sum()),
                "score_out": float(written["score"].abs().sum()),
            }
        )
    return pd.DataFrame(rows)


def _curve(
    experiment: CircuitExperiment, params: CircuitSearchParams, scores: Mapping[str, float]
) -> pd.DataFrame:
    """Circuits of the first 1, …, all edges of the ranking, judged with each ablation."""
    graph = experiment.graph
    sizes = np.unique(np.geomspace(1, len(graph.edges), params.points).round().astype(int))

    def circuits(order: list[str]) -> list[Tensor]:
        # With those that dangle: nothing may run through them, but the rest lacks them too.
        return [graph.mask(order[:n]) for n in sizes]

    def judged(kind: Ablation, masks: list[Tensor]) -> pd.DataFrame:
        found = experiment.judge(kind, masks)
        kept, missed = found.area()
        on_paths = [int(without_dangling(graph, mask).sum()) for mask in masks]
        frame = found.frame().assign(area_kept=kept, area_missed=missed, edges_on_paths=on_paths)
        return frame.rename(columns={"edges": "first_edges"})

    order = ranked(graph, scores)
    masks = circuits(order)
    frames = [
        judged(kind, masks).assign(reference=reference.description)
        for kind, reference in experiment.references.items()
    ]
    generator = np.random.default_rng(params.seed)
    several = []
    for _ in range(params.random_orders):
        shuffled = [order[i] for i in generator.permutation(len(order))]
        several.append(judged("resample", circuits(shuffled)).drop(columns="ablation"))
    mean = pd.concat(several).groupby("first_edges").mean().reset_index()
    mean["edges_on_paths"] = mean["edges_on_paths"].round().astype(int)
    what = experiment.references["resample"].description
    frames.append(mean.assign(ablation=RANDOM, reference=what))
    table = pd.concat(frames, ignore_index=True)
    first = ["ablation", "first_edges", "edges_on_paths", "share", "faithfulness", "completeness"]
    return table[[*first, "metric", "area_kept", "area_missed", "reference"]]


def _leading(experiment: CircuitExperiment, scores: Mapping[str, float]) -> pd.DataFrame:
    """The edges of the highest scores."""
    edges = ranked(experiment.graph, scores)[:LEADING]
    values = [scores[edge] for edge in edges]
    return pd.DataFrame(
        {
            "rank": range(1, len(edges) + 1),
            "edge": edges,
            "input": [input_of(experiment.graph.parse(edge)[1]) for edge in edges],
            "score": values,
            "normalised": np.array(values) / abs(experiment.runs.span),
        }
    )


def _checks(experiment: CircuitExperiment, chosen: Tensor, mask: Tensor) -> list[Check]:
    tolerance = TOLERANCES[experiment.model.cfg.dtype]
    graph, runs, metric = experiment.graph, experiment.runs, experiment.pairs.metric
    run = experiment.edge_runs["resample"]
    live = torch.stack([graph.exists, torch.zeros_like(mask), chosen, mask])
    values = run.values(live, metric)
    return [
        Check(
            name="all-edges-and-none-are-the-two-runs",
            value=scaled_error(values[:2], torch.stack([runs.clean, runs.corrupted])),
            tolerance=tolerance,
            note="the metric with all edges live against the clean run, and with none live (each "
            f"carrying the corrupted run) against the corrupted run, every pair; {SCALED}",
        ),
        Check(
            name="dangling-edges-carry-nothing",
            value=scaled_error(values[3], values[2]),
            tolerance=tolerance,
            note="the circuit with and without the chosen edges that lie on no path from an "
            f"embedding to the logits, resample ablation, every pair; {SCALED}",
        ),
    ]
