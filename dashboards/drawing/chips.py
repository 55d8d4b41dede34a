"""Tokens as chips: text with its white space shown, position and id below, shaded by a number."""

from collections.abc import Collection, Mapping, Sequence

import streamlit as st

from interp.charts.markup import escape
from interp.charts.tokens import shortened, visible

MAX_CHIPS = 512
_LONGEST = 32  # characters of a text that are shown; the pointer shows all


def draw(
    tokens: Sequence[int],
    texts: Sequence[str],
    *,
    bos: int | None = None,
    here: int | None = None,
    shade: Mapping[int, float] | None = None,
    differs: Collection[int] = (),
    told: Mapping[int, str] | None = None,
    first: int = 0,
) -> None:
    """Draw a row of tokens.

    Args:
        tokens: Their ids.
        texts: Their texts.
        bos: The id of the BOS token, which is named as such.
        here: The position to mark.
        shade: How dark each position is, from 0 to 1.
        differs: Positions at which another row has another token: marked below.
        told: What the pointer shows on each position.
        first: The position of the first of them.
    """
    shades, notes = shade or {}, told or {}
    chips = [
        _chip(
            i,
            token,
            text,
            is_bos=token == bos,
            is_here=i == here,
            differs=i in differs,
            shade=shades.get(i, 0.0),
            told=notes.get(i, ""),
        )
        for i, (token, text) in enumerate(zip(tokens, texts, strict=True), first)
    ]
    st.html(f'<div class="chips">{"".join(chips[:MAX_CHIPS])}</div>')
    if len(chips) > MAX_CHIPS:
        st.caption(f"… and {len(chips) - MAX_CHIPS} tokens more.")


def _chip(
    position: int,
    token: int,
    text: str,
    *,
    is_bos: bool,
    is_here: bool,
    differs: bool,
    shade: float,
    told: str,
) -> str:
    # On the darkest chip the text still stands out by 7 to 1.
    color = f"rgba(67,147,195,{0.6 * min(max(shade, 0.0), 1.0):.2f})"
    place = f"BOS · {position}" if is_bos else str(position)
    below = ";border-bottom:4px double var(--chosen)" if differs else ""
    marked = " class=here" if is_here else ""
    whole = visible(text)
    label = shortened(whole, _LONGEST)
    notes = "; ".join(filter(None, ("" if label == whole else whole, told)))
    title = f' title="{escape(notes)}"' if notes else ""
    return (
        f'<span style="background:{color}{below}"{marked}{title}>'
        f"<b>{escape(label)}</b><small>{place} · id {token}</small></span>"
    )
