"""What analyses of edges share: the two runs, and tables of edges in the model's order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
from jaxtyping import Float, Int
from torch import Tensor

from analyses.inputs.pairs import Pairs
from interp.circuits.graph import LOGITS, Graph
from interp.circuits.references import resample_reference
from interp.errors import require

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

Direction = Literal["denoise", "noise"]


@dataclass(frozen=True)
class Runs:
    """The run that is patched, and that whose writes are put in.

    Attributes:
        tokens: Of the run that is patched.
        source: What every sender writes in the other.
        base, put_in: The metric of the two, `[batch]`.
        direction: `denoise`: the corrupted run is patched with the clean one; `noise`: the reverse.
    """

    tokens: Int[Tensor, "batch pos"]
    source: Mapping[str, Float[Tensor, "batch pos ..."]]
    base: Float[Tensor, "batch"]
    put_in: Float[Tensor, "batch"]
    direction: Direction

    @property
    def clean(self) -> Float[Tensor, "batch"]:
        """The metric of the clean run."""
        return self.put_in if self.direction == "denoise" else self.base

    @property
    def corrupted(self) -> Float[Tensor, "batch"]:
        """The metric of the corrupted run."""
        return self.base if self.direction == "denoise" else self.put_in

    @property
    def span(self) -> float:
        """What a normalised effect of 1 is, in the metric's units."""
        return float((self.put_in - self.base).mean())

    def table(self, quantity: str) -> pd.DataFrame:
        """One row: which run is patched with which, and what 0 and 1 of a normalised effect are."""
        base, put_in = (
            ("corrupted", "clean") if self.direction == "denoise" else ("clean", "corrupted")
        )
        row = {
            "direction": self.direction,
            "run": base,
            "written_in": put_in,
            "quantity": quantity,
            "pairs": len(self.base),
            "value_at_0": float(self.base.mean()),
            "value_at_1": float(self.put_in.mean()),
        }
        return pd.DataFrame([row])


def make_runs(model: HookedTransformer, pairs: Pairs, direction: Direction) -> Runs:
    """Run both prompts of every pair.

    Raises:
        InputError: where the metric is the same in both.
    """
    ends = (pairs.corrupted, pairs.clean)
    tokens, other = ends if direction == "denoise" else ends[::-1]
    base, put_in = (pairs.metric.per_prompt(model(t)).double() for t in (tokens, other))
    runs = Runs(tokens, resample_reference(model, other).activations, base, put_in, direction)
    require(
        abs(runs.span) > 1e-6 * max(1.0, abs(float(base.mean()))),
        f"the clean and the corrupted prompts must differ in the {pairs.quantity}. Received "
        f"{float(base.mean()):g} for both",
    )
    return runs


def edge_columns(graph: Graph, edges: list[str]) -> dict[str, Any]:
    """Of each edge: its ends, their places in the model, and which input of the reader it is.

    `reader` is a node: a head (`L1H0`), a group of heads that share keys and values (`L1KV0`), an
    MLP or the logits; `input` is `q`, `k`, `v`, `mlp` or `logits`. Places (`sender_order`,
    `reader_order`) count nodes in the order in which they run.
    """
    ends = [graph.parse(edge) for edge in edges]
    readers = [reader_of(receiver) for _, receiver in ends]
    in_order = {name: i for i, name in enumerate(dict.fromkeys(map(reader_of, graph.receivers)))}
    return {
        "edge": edges,
        "sender": [sender for sender, _ in ends],
        "reader": readers,
        "input": [input_of(receiver) for _, receiver in ends],
        "sender_order": [graph.sender_index(sender) for sender, _ in ends],
        "reader_order": [in_order[reader] for reader in readers],
    }


def reader_of(receiver: str) -> str:
    """`L1H0.k` → `L1H0`."""
    return receiver.split(".")[0]


def input_of(receiver: str) -> str:
    """`L1H0.k` → `k`; `mlp` and `logits` for those."""
    if receiver == LOGITS:
        return LOGITS
    return receiver.split(".")[1] if "." in receiver else "mlp"
