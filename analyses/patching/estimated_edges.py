"""Attribution patching of edges: estimates of every edge, beside exact patching of some."""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch
from torch import Tensor

from analyses.patching.estimate_setting import (
    Setting,
    agreement_row,
    leading_table,
    unpatched_check,
)
from analyses.results.checks import SCALED, TOLERANCES, scaled_error
from analyses.results.result import Check
from interp.attribution import EdgeScores, edge_attribution, run_with_gradients
from interp.attribution.inputs import Rule, quadrature
from interp.circuits import Receiver, Sender, patch_edges, source_of


def edges_of(setting: Setting) -> tuple[dict[str, pd.DataFrame], list[Check]]:
    """The tables and checks of `eap` and `eap-ig`."""
    model, params, pairs = setting.model, setting.params, setting.pairs
    method: Any = params.method
    scores = edge_attribution(
        model, pairs.clean, pairs.corrupted, pairs.metric,
        method, params.steps, params.rule, params.direction,
    )  # fmt: skip
    table = scores.to_frame().rename(columns={"score": "estimate"})
    order = table["estimate"].abs().sort_values(ascending=False, kind="stable").index
    table = table.loc[order].reset_index(drop=True)
    table.insert(0, "rank", range(1, len(table) + 1))
    table["normalised_estimate"] = table["estimate"] / setting.span
    tables = {"edges": table}
    if params.verify:
        n = min(params.max_exact, len(table))
        which = torch.linspace(0, len(table) - 1, n).round().long().unique().tolist()
        source = source_of(model, setting.source)
        chosen = table["edge"].iloc[which].tolist()
        exact = patch_edges(model, setting.base, source, pairs.metric, chosen).scores()
        table["exact_change"] = table["edge"].map(exact).astype(float)
        found, true = (torch.tensor(table[c].to_numpy()) for c in ("estimate", "exact_change"))
        tables["agreement"] = pd.DataFrame([agreement_row(setting, "edges", found, true, True)])
    tables["leading"] = leading_table(table, "edge", params.top)
    tables["drawn-edges"] = _drawn(scores, table.iloc[: params.top])
    return tables, [unpatched_check(setting, [scores]), _sums_check(setting, scores)]


def _drawn(scores: EdgeScores, rows: pd.DataFrame) -> pd.DataFrame:
    """Edges as a graph of heads and MLPs."""
    graph = scores.graph
    senders = [graph.sender(label) for label in rows["sender"]]
    receivers = [graph.receiver(label) for label in rows["receiver"]]
    parts = [node.label.partition(".") for node in receivers]
    return pd.DataFrame(
        {
            "from": rows["sender"],
            "to": [name for name, _, _ in parts],
            "through": [part or "all" for _, _, part in parts],
            "from_level": [_level(node, 0.0) for node in senders],
            "to_level": [
                _level(node, graph.receiver_nodes[-1].step / 2 + 0.5) for node in receivers
            ],
            "normalised_estimate": rows["normalised_estimate"],
        }
    ).reset_index(drop=True)


def _level(node: Sender | Receiver, outside: float) -> float:
    """How far up a node is drawn: a layer's heads half a step below its MLP."""
    if node.layer is None:
        return outside
    return node.layer + (1.0 if node.head is None else 0.5)


def _sums_check(setting: Setting, scores: EdgeScores) -> Check:
    """Each sender's edges against the gradient where it writes: the stream is the sum of both."""
    model, params, pairs = setting.model, setting.params, setting.pairs
    graph = scores.graph
    hooks = list(dict.fromkeys(node.hook for node in graph.sender_nodes))
    there, here = (
        run_with_gradients(model, tokens, hooks, pairs.metric)
        for tokens in (setting.source, setting.base)
    )
    points = [(here.gradients, 1.0)]
    if params.method == "eap-ig":
        ends = [r.activations["hook_embed"] for r in (here, there)]
        low, high = ends if params.direction == "denoise" else ends[::-1]
        points = [
            (
                run_with_gradients(
                    model,
                    setting.base,
                    hooks,
                    pairs.metric,
                    [("hook_embed", _putting(torch.lerp(low, high, place)))],
                ).gradients,
                weight,
            )
            for place, weight in _points(params.steps, params.rule)
        ]
    totals = []
    for node in graph.sender_nodes:
        change = there.activations[node.hook] - here.activations[node.hook]
        products = sum(weight * (change * g[node.hook]) for g, weight in points)
        assert isinstance(products, Tensor)
        product = products if node.head is None else products[:, :, node.head]
        totals.append(product.double().flatten(1).sum(1))
    assert scores.by_prompt is not None
    return Check(
        name="edges-of-a-sender-add-up",
        value=scaled_error(scores.by_prompt.nansum(1), torch.stack(totals)),
        tolerance=TOLERANCES[model.cfg.dtype],
        note="the scores of each sender's edges, summed, against the change times the gradient at "
        f"the sender itself, every pair; {SCALED}",
    )


def _points(steps: int, rule: Rule) -> list[tuple[float, float]]:
    places, weights = quadrature(steps, rule)
    return list(zip(places.tolist(), weights.tolist(), strict=True))


def _putting(embedded: Tensor) -> Any:
    return lambda x, hook: embedded
