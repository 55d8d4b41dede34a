"""How much of a behaviour a circuit keeps, and how much is left without it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.circuits.edge_run import EdgeRun
from interp.circuits.graph import Graph
from interp.circuits.references import EdgeReference
from interp.errors import InputError, require
from interp.patching.metrics import Metric
from interp.patching.read_out import LogitsFunction

if TYPE_CHECKING:
    import pandas as pd

    from interp.transformer import HookedTransformer

EdgeSet = Sequence[str] | Bool[Tensor, "sender receiver"]


@dataclass(frozen=True)
class Judgement:
    """What circuits give, and what the rest of the model gives without them.

    Attributes:
        ablation: What edges carry that are not live.
        sizes: Number of edges of each circuit.
        n_edges: Number of edges of the model.
        circuits: The metric with the circuit's edges live alone, `[circuit, batch]` (or without
            `batch`, as the metric gives it).
        complements: The metric with all other edges live.
        clean: The metric with all edges live.
        ablated: The metric with none live. With `resample` that is the run on the other prompts.
    """

    ablation: EdgeReference
    sizes: tuple[int, ...]
    n_edges: int
    circuits: Float[Tensor, "circuit *batch"]
    complements: Float[Tensor, "circuit *batch"]
    clean: Float[Tensor, "*batch"]
    ablated: Float[Tensor, "*batch"]

    @property
    def faithfulness(self) -> Float[Tensor, "circuit"]:
        """(m(circuit) − m(ablated)) / (m(clean) − m(ablated)), of the means over prompts.

        1 where a circuit does what the model does; it may lie above 1 and below 0 (Wang et al.
        2022, §4; normalised as by Marks et al. 2024, Sparse Feature Circuits, §3.2).
        """
        return self._normalised(self.circuits)

    @property
    def completeness(self) -> Float[Tensor, "circuit"]:
        """The same of the rest of the model: near 0 where a circuit leaves nothing out.

        Small is good. (That it is near 0 says that the circuit is needed, and that what it does is
        not done elsewhere as well.)
        """
        return self._normalised(self.complements)

    def _normalised(self, values: Tensor) -> Tensor:
        clean, ablated = self.clean.mean(), self.ablated.mean()
        values = values.mean(-1) if values.ndim == 2 else values
        return (values - ablated) / (clean - ablated)

    def frame(self) -> pd.DataFrame:
        """A row for each circuit: size, share of the edges, metric, faithfulness, completeness."""
        import pandas as pd

        values = self.circuits.mean(-1) if self.circuits.ndim == 2 else self.circuits
        return pd.DataFrame(
            {
                "ablation": self.ablation.kind,
                "edges": self.sizes,
                "share": [size / self.n_edges for size in self.sizes],
                "metric": values.tolist(),
                "faithfulness": self.faithfulness.tolist(),
                "completeness": self.completeness.tolist(),
            }
        )

    def area(self) -> tuple[float, float]:
        """Over the share k of edges from 0 to 1: ∫ f dk, and ∫ |1 − f| dk, by trapezoids.

        The first rewards circuits that keep the metric high, the second those that keep it as it is
        (CPR and CMD of Mueller et al. 2025, MIB). No edges (f = 0) and all of them (f = 1) count
        as measured.
        """
        points = dict(zip(self.sizes, self.faithfulness.tolist(), strict=True))
        points |= {0: 0.0, self.n_edges: 1.0}
        shares = torch.tensor(sorted(points), dtype=torch.float64) / self.n_edges
        values = torch.tensor([points[size] for size in sorted(points)], dtype=torch.float64)
        kept = torch.trapezoid(values, shares)
        missed = torch.trapezoid((1 - values).abs(), shares)
        return float(kept), float(missed)


def judge(
    model: HookedTransformer,
    tokens: Int[Tensor, "batch pos"],
    reference: EdgeReference,
    circuits: Sequence[EdgeSet],
    metric: Metric | LogitsFunction,
    attention_mask: Int[Tensor, "batch pos"] | None = None,
    token_type_ids: Int[Tensor, "batch pos"] | None = None,
    max_bytes: int | None = None,
) -> Judgement:
    """Run the model with the edges of each circuit alone, and without them.

    Args:
        model: A single stack with norms in front of what reads.
        tokens: The prompts that show the behaviour.
        reference: What edges carry that are not live: `resample_reference`, `mean_reference` or
            `zero_reference`.
        circuits: Sets of edges, as labels or masks.
        metric: A `Metric`, or a function of full logits that gives a number or one per prompt.
        attention_mask: As for `forward`.
        token_type_ids: As for `forward`.
        max_bytes: As for `EdgeRun`.

    Raises:
        InputError: where the metric is the same with all edges as with none, so that there is
            nothing to recover; for an edge that is not in the graph; and as `EdgeRun`.
    """
    run = EdgeRun(model, tokens, reference, attention_mask, token_type_ids, max_bytes=max_bytes)
    return judge_in(run, circuits, metric)


def judge_in(
    run: EdgeRun,
    circuits: Sequence[EdgeSet],
    metric: Metric | LogitsFunction,
) -> Judgement:
    """`judge` in a run that is there already.

    Raises:
        InputError: for a run without an ablation, and as `judge`.
    """
    if run.ablation is None:
        raise InputError("a circuit is judged in a run with an ablation. This has none.")
    exists = run.graph.exists
    masks = [as_mask(run.graph, edges) for edges in circuits]
    rest = [exists & ~mask for mask in masks]
    live = torch.stack([exists, torch.zeros_like(exists), *masks, *rest])
    found = run.values(live, metric)
    clean, ablated = found[0], found[1]
    _require_apart(clean, ablated)
    sizes = tuple(int(mask.sum()) for mask in masks)
    n_edges, several = int(exists.sum()), found[2:]
    kept, left = several[: len(masks)], several[len(masks) :]
    return Judgement(run.ablation, sizes, n_edges, kept, left, clean, ablated)


def minimality(
    run: EdgeRun,
    circuit: EdgeSet,
    metric: Metric | LogitsFunction,
    edges: Sequence[str] | None = None,
) -> dict[str, float]:
    """How much a circuit's faithfulness falls without each of its edges.

    Args:
        run: Of the prompts, with what edges carry that are not live.
        circuit: The circuit.
        metric: What faithfulness is of.
        edges: Which of its edges are left out, one at a time. None: each.

    Raises:
        InputError: for edges that are not in the circuit, and as `judge`.
    """
    mask = as_mask(run.graph, circuit)
    edges = run.graph.labels(mask) if edges is None else list(edges)
    without = []
    for edge in edges:
        one = run.graph.mask([edge])
        require(bool((one & mask).any()), f"edges must be of the circuit. Received {edge}")
        without.append(mask & ~one)
    live = torch.stack([run.graph.exists, torch.zeros_like(mask), mask, *without])
    values = run.values(live, metric)
    means = values.mean(-1) if values.ndim == 2 else values
    clean, ablated, whole = means[:3]
    _require_apart(clean, ablated)
    lost = (whole - means[3:]) / (clean - ablated)
    return dict(zip(edges, lost.tolist(), strict=True))


def _require_apart(clean: Tensor, ablated: Tensor) -> None:
    require(
        float(clean.mean()) != float(ablated.mean()),
        "the metric must differ between all edges and none, else there is nothing to recover. It "
        f"is {float(clean.mean()):.6g} in both",
    )


def as_mask(graph: Graph, edges: EdgeSet) -> Bool[Tensor, "sender receiver"]:
    """A set of edges as a mask.

    Raises:
        InputError: for an edge that is not in the graph, and a mask of another shape.
    """
    return graph.checked(edges) if isinstance(edges, Tensor) else graph.mask(edges)
