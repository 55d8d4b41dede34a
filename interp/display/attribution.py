"""A number for each token, as the colour behind it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from torch import Tensor

from interp.charts.palette import LIGHT, channels
from interp.display.given import as_numbers
from interp.display.tokens import chip, chips, token_texts
from interp.errors import require, require_number

# Of the largest value: thin enough for the notebook's own ink to be read on it, dark or light.
_THICKEST = 0.6


class ShownAttribution:
    """Tokens and their values; the last line of a notebook's cell draws them.

    Attributes:
        tokens: What is attributed to.
        values: A number for each; NaN for none.
        limit: The absolute value of full colour.
    """

    def __init__(self, tokens: list[str], values: list[float], limit: float) -> None:
        self.tokens = tokens
        self.values = values
        self.limit = limit

    def _repr_html_(self) -> str:
        each = [self._chip(t, v) for t, v in zip(self.tokens, self.values, strict=True)]
        told = (
            f"Red adds, blue takes away; full colour at ±{self.limit:.3g}. "
            f"Sum {self._sum:+.4g}. Point at a token for its value."
        )
        return (
            f'<div class="interp-attribution">{chips(each)}'
            f'<div style="opacity:.75;font-size:.875rem">{told}</div></div>'
        )

    def __repr__(self) -> str:
        width = max((len(repr(token)) for token in self.tokens), default=0)
        lines = [
            f"{token!r:<{width}} {'–' if math.isnan(value) else f'{value:+.4g}'}"
            for token, value in zip(self.tokens, self.values, strict=True)
        ]
        return "\n".join([*lines, f"{'sum':<{width}} {self._sum:+.4g}"])

    @property
    def _sum(self) -> float:
        return math.fsum(value for value in self.values if not math.isnan(value))

    def _chip(self, token: str, value: float) -> str:
        if math.isnan(value):
            return chip(token, f"{token!r}: no value", "border-style:dashed")
        color = channels(LIGHT.positive if value > 0 else LIGHT.negative)
        share = min(1.0, abs(value) / self.limit) * _THICKEST
        background = f"background:rgba({color[0]},{color[1]},{color[2]},{share:.3f})"
        return chip(token, f"{token!r}: {value:+.6g}", background)


def show_attribution(
    tokens: Sequence[str],
    values: Float[Tensor, "pos"] | Float[np.ndarray, "pos"] | Sequence[float],
    limit: float | None = None,
) -> ShownAttribution:
    """Show a number for each token as the colour behind it: red above zero, blue below.

    Args:
        tokens: The tokens' texts, as `model.to_str_tokens` gives them.
        values: A number for each of them; NaN stands for a token that has none.
        limit: The absolute value of full colour, the same in several displays to compare them.
            None: the largest here.

    Raises:
        InputError: if the values are no real numbers or there is not one for each token, for an
            infinite value, or a limit that is not positive.
    """
    texts = token_texts(tokens)
    numbers = as_numbers("values", values)
    require(
        numbers.ndim == 1 and len(numbers) == len(texts),
        f"there must be one value for each of the {len(texts)} tokens. Received shape "
        f"{tuple(numbers.shape)}",
    )
    found: list[float] = numbers.detach().double().tolist()
    infinite = [i for i, value in enumerate(found) if math.isinf(value)]
    require(
        not infinite,
        f"values must be finite, or NaN for a token without one. Those at {infinite[:3]} are not",
    )
    if limit is None:
        limit = max((abs(value) for value in found if not math.isnan(value)), default=0.0) or 1.0
    require_number("limit", limit)
    return ShownAttribution(texts, found, limit)
