"""Two runs, and what putting a part of the one into the other does: a place at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from jaxtyping import Float, Int
from torch import Tensor

from analyses.inputs.pairs import Pairs
from interp.patching import Metric, Sites, sweep

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

Site = Literal["resid_pre", "attn_out", "mlp_out", "z", "q", "k", "v", "pattern"]
STREAMS: tuple[Site, ...] = ("resid_pre", "attn_out", "mlp_out")
BY_HEAD: tuple[Site, ...] = ("z", "q", "k", "v", "pattern")


@dataclass(frozen=True)
class PlaceExperiment:
    """Two runs and what is measured of a third, which is the first with a part of the second.

    Attributes:
        base_tokens: Of the run that is patched.
        source: The other run's activations.
        metric: Read of each run; `after` turns its values into those reported.
        base, put_in: The reported value of the two runs, `[batch]`.
        quantity: What is reported, in words.
    """

    model: HookedTransformer
    pairs: Pairs
    base_tokens: Int[Tensor, "batch pos"]
    source: Mapping[str, Float[Tensor, "batch ..."]]
    metric: Metric
    is_probability: bool
    base: Float[Tensor, "batch"]
    put_in: Float[Tensor, "batch"]
    quantity: str

    def after(self, values: Float[Tensor, "*grid"]) -> Float[Tensor, "*grid"]:
        """The reported values, from those of `metric`."""
        return values.exp() if self.is_probability else values

    def patched(self, places: Sites) -> tuple[Float[Tensor, "*grid"], tuple[tuple[int, ...], ...]]:
        """The mean reported value of every place, `[*grid]`, and the grid's labels."""
        swept = sweep(self.model, self.base_tokens, self.source, places, self.metric)
        return self.after(swept.values.double()).mean(-1), swept.labels

    def columns(self, values: Float[Tensor, "*grid"]) -> dict[str, Any]:
        """What a table says of places: the value, its change, and that as a share."""
        found = values.flatten().cpu().numpy()
        base, put_in = float(self.base.mean()), float(self.put_in.mean())
        effect = found - base
        return {"value": found, "effect": effect, "normalised": effect / (put_in - base)}
