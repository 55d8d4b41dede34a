"""Circuits: edges between what writes and what reads, patched, searched and judged.

`Graph` names a model's edges (`L0H1->L1H0.k`). `patch_edges` patches each by itself, `patch_paths`
whole paths. `top_edges`, `smallest` and `greedy` choose edges by their scores or effects, `judge`
says how faithful the choice is where all others carry a reference (`mean_reference`, …), and
`Circuit` keeps it. Below them all is `EdgeRun`, which runs a model with some of its edges alone.
"""

from interp.circuits.circuit import Circuit
from interp.circuits.edge_run import EdgeRun
from interp.circuits.faithfulness import Judgement, judge, judge_in, minimality
from interp.circuits.graph import Graph, Receiver, Sender
from interp.circuits.paths import PathResult, patch_edges, patch_paths, source_of
from interp.circuits.references import (
    EdgeReference,
    mean_reference,
    resample_reference,
    zero_reference,
)
from interp.circuits.search import (
    greedy,
    ranked,
    smallest,
    threshold,
    top_edges,
    without_dangling,
)

__all__ = [
    "Circuit",
    "EdgeReference",
    "EdgeRun",
    "Graph",
    "Judgement",
    "PathResult",
    "Receiver",
    "Sender",
    "greedy",
    "judge",
    "judge_in",
    "mean_reference",
    "minimality",
    "patch_edges",
    "patch_paths",
    "ranked",
    "resample_reference",
    "smallest",
    "source_of",
    "threshold",
    "top_edges",
    "without_dangling",
    "zero_reference",
]
