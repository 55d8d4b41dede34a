"""Tokens as chips: text with its white space shown, position and id below, shaded by surprise."""

from collections.abc import Mapping, Sequence
from html import escape

import streamlit as st

from interp.charts.tokens import visible

MAX_CHIPS = 400

_STYLE = """<style>
.chips{display:flex;flex-wrap:wrap;gap:.3rem;margin:0;padding:0;list-style:none}
.chips li{border:1px solid #d4d7dd;border-radius:.35rem;padding:.15rem .45rem;margin:0;
text-align:center;line-height:1.35}
.chips b{font:500 .95rem ui-monospace,SFMono-Regular,Menlo,monospace;display:block}
.chips small{color:#555b66;font-size:.72rem;font-variant-numeric:tabular-nums}
.chips .here{outline:2px solid #2166ac}
</style>"""


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
    left_out = len(chips) - MAX_CHIPS
    st.html(f'{_STYLE}<ol class="chips">{"".join(chips[:MAX_CHIPS])}</ol>')
    if left_out > 0:
        st.caption(f"… and {left_out} tokens more.")


def _chip(position: int, token: int, text: str, is_bos: bool, here: bool, shade: float) -> str:
    # On the darkest chip the text still stands out by 7:1.
    color = f"rgba(67,147,195,{0.6 * min(max(shade, 0.0), 1.0):.2f})"
    name = "BOS " if is_bos else ""
    return (
        f'<li style="background:{color}"{" class=here" if here else ""}>'
        f"<b>{escape(visible(text))}</b><small>{name}{position} · id {token}</small></li>"
    )
