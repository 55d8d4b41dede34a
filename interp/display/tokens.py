"""A text as the model reads it: a chip for each token, with its id."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int
from torch import Tensor

from interp.charts.markup import escape
from interp.charts.tokens import visible
from interp.display.given import as_numbers
from interp.errors import require
from interp.tokenization.token_ids import WHOLE_DTYPES

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

MOST_TOKENS = 2000
"""How many tokens of each row are shown; the rest is counted."""

_CHIP = (
    "display:inline-block;border:1px solid rgba(127,127,127,.5);border-radius:3px;"
    "padding:0 .25em;margin:1px 0;font:.8125rem/1.5 ui-monospace,monospace;white-space:pre"
)


def chip(text: str, title: str, style: str = "", inside: str = "") -> str:
    """One token. An inline block in a line from left to right keeps its place whatever it says.

    Args:
        text: The token; shown with its white space visible.
        title: What pointing at it tells.
        style: More CSS.
        inside: HTML behind the text.
    """
    shown = escape(visible(text)) + inside
    return f'<span title="{escape(title)}" style="{_CHIP};{style}">{shown}</span>'


def chips(each: Sequence[str]) -> str:
    """Chips in a row, which wraps. Spaces keep them apart also where their borders are lost."""
    more = len(each) - MOST_TOKENS
    counted = f" and {more:,} more" if more > 0 else ""
    return f'<div dir="ltr" style="margin:.25rem 0">{" ".join(each[:MOST_TOKENS])}{counted}</div>'


def token_texts(tokens: Sequence[str]) -> list[str]:
    """A list of texts, checked to be one.

    Raises:
        InputError: for a single text, and for anything in it that is no text.
    """
    texts = list(tokens) if isinstance(tokens, Iterable) else []
    require(
        isinstance(tokens, Iterable)
        and not isinstance(tokens, str)
        and all(isinstance(text, str) for text in texts),
        f"there must be a list of texts, one for each. Received {tokens!r:.80}",
    )
    return texts


class ShownTokens:
    """Rows of tokens; the last line of a notebook's cell draws them.

    Attributes:
        ids: The tokens of each row.
        texts: What each of them says; None: the model has no tokenizer.
    """

    def __init__(self, ids: list[list[int]], texts: list[list[str]] | None) -> None:
        self.ids = ids
        self.texts = texts

    def _repr_html_(self) -> str:
        rows = []
        for at, ids in enumerate(self.ids):
            texts = [None] * len(ids) if self.texts is None else self.texts[at]
            rows.append(chips([_chip(i, text) for i, text in zip(ids, texts, strict=True)]))
        return f'<div class="interp-tokens">{"".join(rows)}</div>'

    def __repr__(self) -> str:
        if self.texts is None:
            return "\n".join(" ".join(map(str, row)) for row in self.ids)
        rows = zip(self.ids, self.texts, strict=True)
        pairs = (zip(ids, texts, strict=True) for ids, texts in rows)
        return "\n".join(" ".join(f"{text!r}:{i}" for i, text in row) for row in pairs)


def show_tokens(
    model: HookedTransformer,
    input: str
    | Sequence[str]
    | Int[Tensor, "pos"]
    | Int[Tensor, "batch pos"]
    | Int[np.ndarray, "*batch pos"],
    prepend_bos: bool | None = None,
) -> ShownTokens:
    """Show what a model reads in a text: each token with its id, white space made visible.

    Args:
        model: The model whose tokenizer is asked.
        input: A text or several, which are padded to one length as in a run; or token ids.
        prepend_bos: For texts. None: the model's default.

    Raises:
        InputError: for a text and a model without a tokenizer; for ids that are no rows of
            the model's tokens; for `prepend_bos` with ids.
    """
    if isinstance(input, np.ndarray):
        input = as_numbers("tokens", input)
    if isinstance(input, Tensor):
        require(
            input.ndim in (1, 2) and input.dtype in WHOLE_DTYPES,
            f"tokens must be whole numbers [pos] or [batch, pos]. Received {input.dtype} "
            f"{tuple(input.shape)}",
        )
        rows = input.long() if input.ndim == 2 else input.long()[None]
        outside = rows[(rows < 0) | (rows >= model.cfg.d_vocab)].tolist()
        require(
            not outside,
            f"token ids must lie from 0 to {model.cfg.d_vocab - 1}. Received {outside[:3]}",
        )
        require(prepend_bos is None, f"prepend_bos is for texts. Received {prepend_bos!r} with ids")
    else:
        rows, _ = model.tokenize(input, prepend_bos)  # not cut at n_ctx: a run reads all of it
    ids: list[list[int]] = rows.tolist()
    if model.tokenizer is None:
        return ShownTokens(ids, None)
    return ShownTokens(ids, [[model.to_single_str_token(i) for i in row] for row in ids])


def _chip(token: int, text: str | None) -> str:
    if text is None:
        return chip(str(token), f"token {token}")
    number = f'<sub style="opacity:.7;padding-left:.3em">{token}</sub>'
    return chip(text, f"{text!r}, token {token}", inside=number)
