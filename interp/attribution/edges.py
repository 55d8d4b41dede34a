"""Edge attribution patching: a first-order estimate of patching every edge of a model by itself.

An edge carries what a sender writes into what one receiver reads. To first order, patching it
changes the metric by the change of what the sender writes, along the gradient at that reader:

    score(s → r) = Σ over pos (source output of s − base output of s) · ∂ metric / ∂ input of r

- `eap`: with the gradient of the base run (Syed et al. 2023, Attribution Patching Outperforms
  Automated Circuit Discovery; there the base is the clean run: direction="noise"). Two runs forward
  and one backward, whatever the number of edges.
- `eap-ig`: with the mean of the gradients along the straight line between the token embeddings of
  the corrupted and of the clean prompt (Hanna et al. 2024, Have Faith in Faithfulness; its variant
  that interpolates inputs). A run forward and backward for each step. It sees through regions where
  the gradient of either end vanishes.

All scores of a receiver are one matrix product; nothing of the size [edge, d_model] is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.attribution.gradients import traced
from interp.attribution.inputs import Rule, quadrature
from interp.circuits.graph import ARROW, Graph, Sender
from interp.errors import require, require_one_of
from interp.patching.metrics import Metric
from interp.patching.read_out import LogitsFunction
from interp.precision import wide

if TYPE_CHECKING:
    import pandas as pd

    from interp.transformer import HookedTransformer

EdgeMethod = Literal["eap", "eap-ig"]
PatchDirection = Literal["denoise", "noise"]


@dataclass(frozen=True)
class EdgeScores:
    """The estimated change of a metric by patching each edge by itself.

    Attributes:
        graph: What the labels are of.
        scores: `[sender, receiver]`, the mean over prompts; NaN where there is no edge. Positive:
            the patch would raise the metric.
        by_prompt: `[sender, receiver, batch]`; None where the metric gave one number for all.
        base, source: The metric of the run that is patched and of that whose outputs are put in,
            `[batch]` or a scalar: measured, not estimated.
        method, steps, rule: How it was estimated; `steps` and `rule` are those of `eap-ig`.
        direction: `denoise`: clean outputs are put into the corrupted run; `noise`: the reverse.
    """

    graph: Graph
    scores: Float[Tensor, "sender receiver"]
    by_prompt: Float[Tensor, "sender receiver batch"] | None
    base: Float[Tensor, "*batch"]
    source: Float[Tensor, "*batch"]
    method: EdgeMethod
    steps: int
    rule: Rule | None
    direction: PatchDirection

    def of(self, edge: str) -> float:
        """The score of one edge, `"L0H1->L1H0.k"`.

        Raises:
            InputError: for an edge that is not in the graph.
        """
        sender, receiver = self.graph.parse(edge)
        place = self.graph.sender_index(sender), self.graph.receiver_index(receiver)
        return float(self.scores[place])

    def ranked(self, absolute: bool = True) -> list[tuple[str, float]]:
        """Every edge with its score, the largest (by magnitude, unless not `absolute`) first."""
        exists = self.graph.exists
        found = self.scores.cpu().double()[exists]
        order = (found.abs() if absolute else found).argsort(descending=True, stable=True)
        labels, values = self.graph.edges, found.tolist()
        return [(labels[i], values[i]) for i in order.tolist()]

    def to_frame(self) -> pd.DataFrame:
        """One row for each edge, in the graph's order: `edge`, `sender`, `receiver`, `score`."""
        import pandas as pd

        edges = self.graph.edges
        senders, receivers = zip(*(edge.split(ARROW) for edge in edges), strict=True)
        scores = self.scores.cpu().double()[self.graph.exists].numpy()
        return pd.DataFrame(
            {"edge": edges, "sender": senders, "receiver": receivers, "score": scores}
        )


def edge_attribution(
    model: HookedTransformer,
    clean: Int[Tensor, "batch pos"],
    corrupted: Int[Tensor, "batch pos"],
    metric: Metric | LogitsFunction,
    method: EdgeMethod = "eap",
    steps: int = 5,
    rule: Rule = "midpoint",
    direction: PatchDirection = "denoise",
    attention_mask: Int[Tensor, "batch pos"] | None = None,
    token_type_ids: Int[Tensor, "batch pos"] | None = None,
) -> EdgeScores:
    """Estimate patching each edge of a model by itself.

    Args:
        model: A single stack with norms in front of what reads alone.
        clean: The prompts that show the behaviour.
        corrupted: Prompts of the same shape that do not.
        metric: A `Metric`, or a function of full logits that can be differentiated. One that reads
            the tokens of its run (a `Loss` without tokens) is another one in the other run: give it
            tokens.
        method: `eap` or `eap-ig`.
        steps: Of `eap-ig`: at how many points of the line gradients are taken.
        rule: Of `eap-ig`: where these points lie between the corrupted prompt (0) and the clean one
            (1), and their weights, as in `integrated_gradients`. `midpoint`: (k − ½) / steps.
            `right`: k / steps, as published, which counts the clean end alone.
        direction: `denoise` patches the corrupted run with clean outputs, `noise` the reverse. With
            `eap` gradients are those of the run that is patched.
        attention_mask: 0 for padding, of clean and corrupted prompts alike.
        token_type_ids: Segments, likewise.

    Raises:
        InputError: for prompts of different shapes, another method, rule or direction, too few
            steps for a rule, a model without such a graph, and as `run_with_gradients`.
    """
    require_one_of("method", method, ("eap", "eap-ig"))
    require_one_of("direction", direction, ("denoise", "noise"))
    points, weights = quadrature(steps, rule)
    require(
        isinstance(clean, Tensor)
        and isinstance(corrupted, Tensor)
        and clean.shape == corrupted.shape,
        "clean and corrupted must be tokens of the same shape. Received "
        f"{getattr(clean, 'shape', clean)} and {getattr(corrupted, 'shape', corrupted)}",
    )
    graph = Graph.of(model)
    denoise = direction == "denoise"
    base_tokens, source_tokens = (corrupted, clean) if denoise else (clean, corrupted)
    rest = (attention_mask, None, None, token_type_ids)
    reads = list(dict.fromkeys(node.hook for node in graph.receiver_nodes))
    writes = list(dict.fromkeys(_written_at(model, node) for node in graph.sender_nodes))
    with traced(model, (source_tokens, *rest), writes, metric) as trace:
        source_value, there = trace.value, trace.activations
    hooks = [*writes, *reads] if method == "eap" else writes
    with traced(model, (base_tokens, *rest), hooks, metric) as trace:
        base_value, here = trace.value, {hook: trace.activations[hook] for hook in writes}
        gradients = trace.gradients(reads) if method == "eap" else {}
    if method == "eap-ig":
        first, last = [run["hook_embed"] for run in ((here, there) if denoise else (there, here))]
        for place, weight in zip(points.tolist(), weights.tolist(), strict=True):
            embedded = torch.lerp(first, last, place)

            def put_in(x: Tensor, hook: Any, embedded: Tensor = embedded) -> Tensor:
                return embedded

            edits = [("hook_embed", put_in)]
            with traced(model, (base_tokens, *rest), reads, metric, edits) as trace:
                for hook, gradient in trace.gradients().items():
                    weighted = wide(gradient) * weight
                    gradients[hook] = gradients[hook] + weighted if hook in gradients else weighted
    with torch.no_grad():
        changes = sender_changes(model, graph, there, here)
        by_prompt = _products(graph, changes, gradients)
    single = base_value.ndim == 0
    return EdgeScores(
        graph=graph,
        scores=by_prompt.sum(-1) if single else by_prompt.mean(-1),
        by_prompt=None if single else by_prompt,
        base=base_value,
        source=source_value,
        method=method,
        steps=steps if method == "eap-ig" else 1,
        rule=rule if method == "eap-ig" else None,
        direction=direction,
    )


def _written_at(model: HookedTransformer, node: Sender) -> str:
    """Where to record it: a head's own result is there (and costs memory) if somebody hooks it."""
    result = node.hook.replace("attn.hook_z", "attn.hook_result")
    return result if model.hook_dict[result].fwd_hooks else node.hook


def sender_changes(
    model: HookedTransformer,
    graph: Graph,
    source: Mapping[str, Float[Tensor, "batch pos ..."]],
    base: Mapping[str, Float[Tensor, "batch pos ..."]],
) -> Float[Tensor, "batch sender pos d_model"]:
    """What each sender writes in the source run less what it writes in the base run."""
    found: dict[str, Tensor] = {}
    changes = []
    for node in graph.sender_nodes:
        hook = _written_at(model, node)
        if hook not in found:
            change = source[hook] - base[hook]
            if hook.endswith("attn.hook_z"):
                block: Any = model.main_stack.blocks[node.layer]
                change = block.attn.head_results(change)
            found[hook] = change
        change = found[hook]
        changes.append(change if node.head is None else change[:, :, node.head])
    return wide(torch.stack(changes, 1))


def _products(
    graph: Graph,
    changes: Float[Tensor, "batch sender pos d_model"],
    gradients: Mapping[str, Tensor],
) -> Float[Tensor, "sender receiver batch"]:
    batch, n_senders = changes.shape[:2]
    steps = np.array([node.step for node in graph.sender_nodes])
    scores = changes.new_full((n_senders, len(graph.receiver_nodes), batch), torch.nan)
    first = 0
    while first < len(graph.receiver_nodes):
        node = graph.receiver_nodes[first]
        gradient = gradients[node.hook]
        n_before = int((steps <= node.step).sum())  # senders stand in the order that they write in
        gradient = wide(gradient)
        if gradient.ndim == 3:
            gradient = gradient.unsqueeze(2)
        found = torch.einsum("bspd,bprd->srb", changes[:, :n_before], gradient)
        scores[:n_before, first : first + gradient.shape[2]] = found
        first += gradient.shape[2]
    return scores
