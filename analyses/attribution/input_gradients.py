"""One method's attribution of an output to the tokens that a model reads, as a table.

Source: Shrikumar et al. 2017 (gradient × input); Sundararajan et al. 2017 (integrated gradients).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from analyses.inputs.prompts import token_texts
from interp.attribution.inputs import Baseline, input_gradients, integrated_gradients
from interp.errors import require_one_of
from interp.patching.metrics import Metric

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

Method = Literal["gradient × input", "gradient norm", "integrated gradients"]
METHODS: tuple[Method, ...] = ("gradient × input", "gradient norm", "integrated gradients")


@dataclass(frozen=True)
class TokenAttribution:
    """How an output depends on the tokens read.

    Attributes:
        table: sequence (`prompt`; of an encoder–decoder `source` and `target`), source (position),
            token, attribution.
        value: The output that is explained.
        difference: Of integrated gradients: the value less that at the baseline, which the
            attributions should sum to; None: the method has no such sum.
        error: The attributions' sum less that difference.
    """

    table: pd.DataFrame
    value: float
    difference: float | None
    error: float | None


def token_attribution(
    model: HookedTransformer,
    metric: Metric,
    method: Method = "gradient × input",
    steps: int = 64,
    baseline: Baseline = "mean",
    **inputs: Any,
) -> TokenAttribution:
    """Attribute a metric to the embeddings of all tokens that the model reads.

    An encoder–decoder's two sequences are varied one at a time, the other held: integrated
    gradients then have a sum for each of them, and the errors are added by size.

    Args:
        model: Any model.
        metric: What is explained, a number for each prompt.
        method: See `METHODS`.
        steps, baseline: Of integrated gradients; see `interp.attribution.integrated_gradients`.
        **inputs: What the model is called with, as tensors of one row.

    Raises:
        InputError: for another method, and as `integrated_gradients`.
    """
    require_one_of("method", method, METHODS)
    both = model.cfg.architecture == "encoder-decoder"
    which: dict[str, Any] = (
        {"source": "input", "target": "decoder_input"} if both else {"prompt": "input"}
    )
    frames, value, difference, error = [], 0.0, 0.0, 0.0
    for sequence, of in which.items():
        if method == "integrated gradients":
            path = integrated_gradients(
                model, metric=metric, baseline=baseline, steps=steps, of=of, **inputs
            )
            shares, value = path.attributions[0], float(path.value[0])
            difference += value - float(path.baseline_value[0])
            error += abs(float(path.error[0])) if both else float(path.error[0])
        else:
            found = input_gradients(model, metric=metric, of=of, **inputs)
            shares = found.norm[0] if method == "gradient norm" else found.times_input[0]
            value = float(found.value[0])
        texts = token_texts(model, inputs[of][0])
        frames.append(
            pd.DataFrame(
                {
                    "sequence": sequence,
                    "source": range(len(texts)),
                    "token": texts,
                    "attribution": shares.double().cpu().numpy(),
                }
            )
        )
    table = pd.concat(frames, ignore_index=True)
    if method != "integrated gradients":
        return TokenAttribution(table, value, None, None)
    return TokenAttribution(table, value, difference, error)
