"""Widgets that the views of the weights page share."""

from collections.abc import Iterable, Sequence
from typing import Any

import streamlit as st

from dashboards.page.address import Choices
from interp import HookedTransformer
from interp.charts.tokens import visible


def head(choices: Choices, n_layers: int, n_heads: int, places: Sequence[Any]) -> tuple[int, int]:
    """Layer and head, in the first two places."""
    with places[0]:
        layer = choices.choice("layer", "Layer", range(n_layers), 0)
    with places[1]:
        chosen = choices.choice("head", "Head", range(n_heads), 0)
    return layer, chosen


def effective(choices: Choices, model: HookedTransformer) -> bool:
    """Whether tokens are read as the first MLP leaves them, where there is one to ask."""
    cfg = model.cfg
    if cfg.attn_only or cfg.n_layers < 2 or cfg.architecture == "encoder-decoder":
        return False
    return choices.toggle(
        "effective",
        "Read tokens as the first MLP leaves them",
        False,
        help="From layer 1 on. Many models finish their embedding in the first MLP.",
    )


def name_points(figure: Any, names: Iterable[str]) -> None:
    """Let the pointer say which point of a chart of points it is on."""
    from interp.charts.interactive import plain

    points = figure.data[0]
    points.update(
        text=[plain(visible(name)) for name in names],
        hovertemplate=f"%{{text}}<br>{points.hovertemplate}",
    )


def pick_head(choices: Choices, key: str) -> None:
    """Choose the head whose cell was clicked; `customdata` begins with head and layer."""
    points: list[Any] = st.session_state[key]["selection"]["points"]
    for point in points:
        clicked, layer = point["customdata"][:2]
        choices.keep("layer", str(layer))
        choices.keep("head", str(clicked))
