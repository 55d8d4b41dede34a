"""Attention patterns: every head as a small picture, one of them large."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from interp.charts.markup import escape
from interp.charts.palette import LIGHT
from interp.charts.tokens import shortened, visible
from interp.display.given import as_numbers
from interp.display.markup import count_text
from interp.display.png import png_url
from interp.display.tokens import token_texts
from interp.errors import require, require_whole

MOST_CELLS = 1 << 22
"""Weights of all heads together: as a page that is 6 MB at most."""

_COLOR = LIGHT.sequential[6]
_LARGE = 640  # pixels, about, of the large picture's longer side
_LEGIBLE = 9  # pixels of a cell that a label has room beside
_LONGEST = 14  # characters of a label
_SMALL = 84  # pixels of a small picture
_ABOVE_ONE = 1e-3  # by rounding, in half precision
_BUTTON = (
    "font:inherit;font-size:.75rem;color:inherit;background:none;cursor:pointer;padding:2px;"
    "border:1px solid rgba(127,127,127,.5);border-radius:3px"
)
_BAND = 'visibility="hidden" fill="none" stroke="currentColor" pointer-events="none"'
_BESIDE = 'text-anchor="end" dominant-baseline="central"'
_STYLE = (
    ".interp-attention button[aria-pressed=true]{outline:2px solid currentColor}"
    ".interp-attention img,.interp-attention image{image-rendering:pixelated}"
)


class ShownAttention:
    """Attention patterns of one prompt; the last line of a notebook's cell draws them.

    Attributes:
        queries: Tokens that attend, a row each.
        keys: Tokens that are attended to, a column each.
        labels: A name for each head.
        levels: The weights in 255ths, `[head, query, key]`.
        enlarged: Which head stands large at first.
    """

    def __init__(
        self,
        queries: list[str],
        keys: list[str],
        labels: list[str],
        levels: UInt8[np.ndarray, "head query key"],
        enlarged: int,
    ) -> None:
        self.queries = queries
        self.keys = keys
        self.labels = labels
        self.levels = levels
        self.enlarged = enlarged

    def _repr_html_(self) -> str:
        urls = [png_url(head, _COLOR) for head in self.levels]
        queries, keys = ([visible(text) for text in each] for each in (self.queries, self.keys))
        cell = max(1, min(22, _LARGE // max(len(queries), len(keys))))
        buttons = "".join(map(self._button, range(len(urls)), urls))
        label = escape(visible(self.labels[self.enlarged]))
        told = (
            "Rows attend (destinations), columns are attended to (sources); full colour is a "
            "weight of 1."
        )
        return (
            f'<div class="interp-attention" data-cell="{cell}" '
            f'data-queries="{escape(json.dumps(queries))}" data-keys="{escape(json.dumps(keys))}">'
            f"<style>{_STYLE}</style>\n"
            '<div style="display:flex;flex-wrap:wrap;gap:4px">'
            f"{buttons}</div>\n"
            f'<div dir="ltr"><strong class="head">{label}</strong> '
            "<output></output></div>\n"
            f"{_large(urls[self.enlarged], queries, keys, cell)}\n"
            f'<div style="opacity:.75;font-size:.875rem">{told}</div>\n'
            f"<script>{_script()}</script></div>"
        )

    def __repr__(self) -> str:
        n_heads, n_queries, n_keys = self.levels.shape
        size = f"{count_text(n_heads, 'head')}, {n_queries} queries × {n_keys} keys"
        lines = [f"Attention patterns: {size}. From the last query:"]
        for label, head in zip(self.labels, self.levels, strict=True):
            key = int(head[-1].argmax())
            lines.append(f"  {label}: {head[-1, key] / 255:.2f} to {self.keys[key]!r} ({key})")
        return "\n".join(lines)

    def _button(self, head: int, url: str) -> str:
        label = escape(visible(self.labels[head]))
        pressed = "true" if head == self.enlarged else "false"
        return (
            f'<button type="button" title="{label}" aria-pressed="{pressed}" style="{_BUTTON}">'
            f'<img src="{url}" alt="" width="{_SMALL}" height="{_SMALL}" '
            f'style="display:block;image-rendering:pixelated">{label}</button>'
        )


def show_attention(
    tokens: Sequence[str],
    patterns: Float[Tensor, "head query key"] | Float[np.ndarray, "head query key"],
    *,
    key_tokens: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
    enlarged: int = 0,
) -> ShownAttention:
    """Show attention patterns of one prompt: every head small, one large, weights on pointing.

    Weights are shown, and told, in 255ths. Without scripts (GitHub, an untrusted notebook) the
    pictures are there, but none can be enlarged.

    Args:
        tokens: The tokens' texts, as `model.to_str_tokens` gives them.
        patterns: Such as `cache["pattern", layer]`; a batch axis of length 1 is left out.
        key_tokens: Of cross-attention: the texts of the other sequence. None: the same tokens.
        labels: A name for each head. None: `H0`, `H1`, …
        enlarged: The head that stands large at first.

    Raises:
        InputError: if patterns, tokens and labels do not fit together; for several prompts; for
            what is no array of numbers; for numbers that are no weights (not from 0 to 1); or
            more than 4,194,304 of them.
    """
    queries = token_texts(tokens)
    keys = queries if key_tokens is None else token_texts(key_tokens)
    numbers = as_numbers("patterns", patterns)
    weights = numbers[0] if numbers.ndim == 4 and len(numbers) == 1 else numbers
    require(
        weights.ndim == 3 and tuple(weights.shape[1:]) == (len(queries), len(keys)),
        f"patterns must be [head, {len(queries)}, {len(keys)}] for these tokens, of one prompt. "
        f"Received {tuple(numbers.shape)}",
    )
    require(
        0 < weights.numel() <= MOST_CELLS,
        f"patterns must have from 1 to {MOST_CELLS:,} weights: choose heads or positions. Received "
        f"{weights.numel():,}",
    )
    names = [f"H{head}" for head in range(len(weights))] if labels is None else token_texts(labels)
    require(
        len(names) == len(weights),
        f"there must be one label for each of the {len(weights)} heads. Received {len(names)}",
    )
    require_whole("enlarged", enlarged, 0)
    require(
        enlarged < len(names), f"enlarged must be one of {len(names)} heads. Received {enlarged}"
    )
    found = weights.detach().float().cpu().numpy()
    least, most = float(found.min()), float(found.max())
    require(
        least >= 0 and most <= 1 + _ABOVE_ONE,  # NaN is neither
        f"attention weights must lie from 0 to 1. Received {least:.3g} to {most:.3g}",
    )
    levels = np.rint(found.clip(0, 1) * 255).astype(np.uint8)
    return ShownAttention(queries, keys, names, levels, enlarged)


def _large(url: str, queries: list[str], keys: list[str], cell: int) -> str:
    """The large picture, with its tokens beside and above where there is room for them."""
    texts = [[shortened(text, _LONGEST) for text in each] for each in (queries, keys)]
    labelled = cell >= _LEGIBLE
    size = min(12, cell)
    left, top = (max(map(len, each)) * size * 0.62 + 6 if labelled else 0 for each in texts)
    width, height = len(keys) * cell, len(queries) * cell
    across, down = left + width + 1, top + height + 1
    parts = [
        f'<image x="{left:.0f}" y="{top:.0f}" width="{width}" height="{height}" '
        f'preserveAspectRatio="none" href="{url}"/>',
        f'<rect class="at" x="{left:.0f}" width="{width}" height="{cell}" {_BAND}/>',
        f'<rect class="at" y="{top:.0f}" width="{cell}" height="{height}" {_BAND}/>',
        f'<rect class="cells" x="{left:.0f}" y="{top:.0f}" width="{width}" height="{height}" '
        'fill="transparent" stroke="currentColor" stroke-opacity=".4"/>',
    ]
    if labelled:
        for i, text in enumerate(texts[0]):
            y = top + (i + 0.5) * cell
            parts.append(f'<text x="{left - 4:.0f}" y="{y:.1f}" {_BESIDE}>{escape(text)}</text>')
        for i, text in enumerate(texts[1]):
            x = left + (i + 0.5) * cell
            turned = f'transform="translate({x:.1f} {top - 4:.0f}) rotate(-90)"'
            parts.append(f'<text {turned} dominant-baseline="central">{escape(text)}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{across:.0f}" height="{down:.0f}" '
        f'viewBox="0 0 {across:.0f} {down:.0f}" font-size="{size}" '
        'font-family="ui-monospace,monospace" fill="currentColor" direction="ltr" role="img" '
        'aria-label="the enlarged head" '
        f'style="max-width:100%;height:auto">{"".join(parts)}</svg>'
    )


@cache
def _script() -> str:
    return files("interp.display").joinpath("attention.js").read_text(encoding="utf-8")
