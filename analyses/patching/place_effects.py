"""How much each place matters on one prompt: every one of a grid patched or ablated by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args

import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor

from analyses.inputs.prompts import token_texts
from interp.errors import require, require_one_of
from interp.patching import KLDivergence, Logit, LogitDiff, LogProb, Metric, sites, sweep

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

Site = Literal["resid_pre", "attn_out", "mlp_out", "z"]
PutIn = Literal["zero", "mean", "patch"]
Measure = Literal["logit-diff", "logit", "probability", "kl"]


@torch.no_grad()
def place_effects(
    model: HookedTransformer,
    inputs: Mapping[str, Int[Tensor, "1 pos"]],
    site: Site,
    put_in: PutIn,
    measure: Measure,
    target: int,
    wrong: int | None = None,
    position: int = -1,
    other: Int[Tensor, "1 pos"] | None = None,
) -> pd.DataFrame:
    """Sweep over layer × position (`resid_pre`, `attn_out`, `mlp_out`) or layer × head (`z`).

    Args:
        model: The model.
        inputs: Arguments of `forward`, of one prompt.
        site: What is replaced; z of a head at all positions.
        put_in: `zero`; the `mean` over the prompt's positions; or, to `patch`, what the other
            prompt has at the same place.
        measure: What is read at `position`: the target's logit less the wrong one's, the target's
            logit or probability, or KL(unedited ‖ edited) in nats.
        target: The output that is followed.
        wrong: Another, of `logit-diff`.
        position: Where predictions are read; negative ones count from the end.
        other: The other prompt's tokens, as many as the prompt's (an encoder–decoder's source).

    Returns:
        layer, position and token or head, value (what is measured) and effect (less the unedited
        run's).

    Raises:
        InputError: for another site, source or measure, a second output or prompt that is wanted
            and missing, or of no use, and as `patching.sweep`.
    """
    require_one_of("site", site, get_args(Site))
    require_one_of("put_in", put_in, get_args(PutIn))
    require_one_of("measure", measure, get_args(Measure))
    require(
        (other is not None) == (put_in == "patch"),
        f"a second prompt belongs to put_in='patch', and there alone. Received {put_in!r}",
    )
    require(
        (wrong is not None) == (measure == "logit-diff"),
        f"a wrong output belongs to measure='logit-diff', and there alone. Received {measure!r}",
    )
    given: dict[str, Any] = dict(inputs)
    places = sites(model, site, positions="all" if site == "z" else "each")
    source: float | dict[str, Tensor] = 0.0
    if put_in != "zero":
        recorded = given if other is None else given | {"input": other}
        names = list(places.hooks)
        _, cache = model.run_with_cache(**recorded, names_filter=names, return_type=None)
        source = {name: cache[name] for name in names}
        if put_in == "mean":
            source = {k: x.mean(1, keepdim=True).expand_as(x) for k, x in source.items()}
    metric = _metric(model, given, measure, target, wrong, position)
    tokens = given.pop("input")
    swept = sweep(model, tokens, source, places, metric, **given)
    values, base = swept.values[..., 0].double(), swept.base[0].double()
    if measure == "probability":
        values, base = values.exp(), base.exp()
    axis = "head" if site == "z" else "position"
    index = pd.MultiIndex.from_product(swept.labels, names=["layer", axis])
    table = index.to_frame(index=False)
    if site != "z":
        read = inputs.get("decoder_input", inputs["input"])[0]
        texts = token_texts(model, read)
        table["token"] = [texts[i] for i in table["position"]]
    found = values.flatten().cpu().numpy()
    return table.assign(value=found, effect=found - float(base))


def _metric(
    model: HookedTransformer,
    inputs: dict[str, Any],
    measure: Measure,
    target: int,
    wrong: int | None,
    position: int,
) -> Metric:
    if measure == "logit-diff":
        assert wrong is not None
        return LogitDiff(target, wrong, position)
    if measure == "logit":
        return Logit(target, position)
    if measure == "probability":
        return LogProb(target, position)
    return KLDivergence(model(**inputs), position)
