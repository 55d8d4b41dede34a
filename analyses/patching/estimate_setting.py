"""What the parts of attribution patching share: parameters, the two runs, and tables."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from analyses.inputs.pairs import PairParams, Pairs
from analyses.results.checks import SCALED, TOLERANCES, scaled_error
from analyses.results.result import Check
from interp.attribution import EdgeScores, Estimate, agreement
from interp.attribution.inputs import Rule

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

Site = Literal["resid_pre", "attn_out", "mlp_out", "z", "q", "k", "v"]
STREAMS: tuple[Site, ...] = ("resid_pre", "attn_out", "mlp_out")
BY_HEAD: tuple[Site, ...] = ("z", "q", "k", "v")
ESTIMATED, EXACT = "first-order estimate", "exact patching"


class AttributionPatchingParams(PairParams):
    """The pairs, what is estimated and how, and what it is compared with."""

    method: Literal["atp", "atp*", "eap", "eap-ig"] = Field(
        "atp",
        description="atp: heads, MLPs and the residual stream, by one gradient. atp*: the same, "
        "corrected for saturated attention (QK fix) and cancellation (GradDrop; sizes without a "
        "sign). eap: edges, by the gradient of the run that is patched. eap-ig: edges, by the mean "
        "gradient between the two prompts' embeddings.",
    )
    direction: Literal["denoise", "noise"] = Field(
        "denoise",
        description="denoise: clean activations put into the corrupted run; noise: the reverse, "
        "as atp* and eap are published.",
    )
    sites: list[Site] | None = Field(
        None,
        description="Of atp and atp*: resid_pre, attn_out, mlp_out by layer and position; z, q, k, "
        "v by head at all positions. By default all that the model has.",
        min_length=1,
    )
    steps: int = Field(
        5, ge=1, le=200, description="Of eap-ig: at how many points between the prompts."
    )
    rule: Rule = Field(
        "midpoint",
        description="Of eap-ig: where these points lie between the prompts. As published: right, "
        "which counts the clean end alone.",
    )
    verify: bool = Field(
        True, description="Patch exactly too, and say how well the estimates agree with it."
    )
    max_exact: int = Field(
        2000,
        ge=10,
        description="At most so many edges are patched exactly: all, or some evenly spaced in the "
        "ranking.",
    )
    top: int = Field(12, ge=1, le=40, description="How many places or edges lead the list.")


@dataclass(frozen=True)
class Setting:
    """A run, the one whose activations would be put in, and what both give.

    Attributes:
        base, source: Their tokens.
        base_values, source_values: The metric of both, `[batch]`.
    """

    model: HookedTransformer
    pairs: Pairs
    params: AttributionPatchingParams
    base: Int[Tensor, "batch pos"]
    source: Int[Tensor, "batch pos"]
    base_values: Float[Tensor, "batch"]
    source_values: Float[Tensor, "batch"]

    @property
    def span(self) -> float:
        """What a normalised change of 1 is."""
        return float((self.source_values - self.base_values).mean())

    @property
    def drops(self) -> bool:
        """Whether GradDrop is used: estimates have no sign then. It needs two layers."""
        return self.params.method == "atp*" and self.model.cfg.n_layers > 1

    @property
    def floor(self) -> float:
        """Changes of the metric up to this size are rounding."""
        tolerance = TOLERANCES[self.model.cfg.dtype]
        return 0.1 * tolerance * max(1.0, float(self.base_values.abs().max()))


def columns(
    setting: Setting, estimated: Float[Tensor, "*grid"], exact: Float[Tensor, "*grid"] | None
) -> dict[str, Any]:
    """What a table says of places: the estimate, that as a share, and the exact change."""
    shown = estimated.flatten().double().cpu().numpy()
    unit = abs(setting.span) if setting.drops else setting.span
    found = {"estimate": shown, "normalised_estimate": shown / unit}
    if exact is not None:
        found["exact_change"] = exact.flatten().double().cpu().numpy()
    return found


def agreement_row(
    setting: Setting,
    name: str,
    estimated: Float[Tensor, "*grid"],
    exact: Float[Tensor, "*grid"],
    signed: bool,
) -> dict[str, Any]:
    """How well estimates of these places agree with exact patching."""
    found = agreement(estimated.flatten(), exact.flatten(), signed, setting.floor)
    return {
        "places": name,
        "n": found.n,
        "spearman_signed": found.signed,
        "spearman_magnitude": found.magnitude,
        "top_tenth": found.leading,
        "scale": found.scale,
    }


def leading_table(table: pd.DataFrame, place: str, n: int) -> pd.DataFrame:
    """The places with the largest estimates: a row for each estimate, one for the exact change."""
    order = table["estimate"].abs().sort_values(ascending=False, kind="stable").index[:n]
    top = table.loc[order]
    kinds = {ESTIMATED: "estimate", EXACT: "exact_change"}
    frames = [
        pd.DataFrame({"place": top[place], "kind": kind, "change": top[column]})
        for kind, column in kinds.items()
        if column in top
    ]
    return pd.concat(frames, ignore_index=True).dropna(ignore_index=True)


def unpatched_check(setting: Setting, found: Iterable[Estimate | EdgeScores]) -> Check:
    """The values that estimates start from, against a plain run."""
    tolerance = TOLERANCES[setting.model.cfg.dtype]
    errors = [scaled_error(one.base, setting.base_values) for one in found]
    return Check(
        name="unpatched-value-equals-plain-run",
        value=max(errors),
        tolerance=tolerance,
        note=f"the metric of the run that gradients are taken of, against a plain run; {SCALED}",
    )
