"""Tokens as chips: text with its white space shown, position and id below, shaded by surprise."""

from collections.abc import Mapping, Sequence
from html import escape

import streamlit as st

from interp.charts.tokens import visible

MAX_CHIPS = 400


def draw(
    tokens: Sequence[int],
    texts: Sequence[str],
    *,
    bos: int | None,
    here: int,
    shade: Mapping[int, float],
) -> None:
    """Draw a row of tokens.

    Args:
        tokens: Their ids.
        texts: Their texts.
        bos: The id of the BOS token, which is named as such.
        here: The position to mark.
        shade: How dark each position is, from 0 to 1.
    """
    chips = [
        _chip(i, token, text, token == bos, i == here, shade.get(i, 0.0))
        for i, (token, text) in enumerate(zip(tokens, texts, strict=True))
    ]
    st.html(f'<div class="chips">{"".join(chips[:MAX_CHIPS])}</div>')
    if len(chips) > MAX_CHIPS:
        st.caption(f"… and {len(chips) - MAX_CHIPS} tokens more.")


def _chip(position: int, token: int, text: str, is_bos: bool, here: bool, shade: float) -> str:
    # On the darkest chip the text still stands out by 7 to 1.
    color = f"rgba(67,147,195,{0.6 * min(max(shade, 0.0), 1.0):.2f})"
    place = f"BOS · {position}" if is_bos else str(position)
    return (
        f'<span style="background:{color}"{" class=here" if here else ""}>'
        f"<b>{escape(visible(text))}</b><small>{place} · id {token}</small></span>"
    )
