"""The attention page: the patterns of a layer's heads, and one of them large."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import streamlit as st

from dashboards import figures, mosaic
from dashboards.address import Choices
from dashboards.readings.predictions import patterns
from dashboards.subject import Subject
from interp.charts import Chart
from interp.charts.tokens import visible

MAX_TOKENS = 128  # drawn of one head
MAX_CELLS = 400_000  # drawn in one mosaic
_TILES_IN_A_ROW = 6

Pattern = npt.NDArray[np.float32]


def show(subject: Subject, choices: Choices) -> None:
    """Draw the page."""
    cfg = subject.loaded.model.cfg
    left, middle, right = st.columns(3)
    with left:
        layer = choices.choice("layer", "Layer", range(cfg.n_layers), 0)
    with middle:
        head = choices.choice("head", "Head", range(cfg.n_heads), 0)
    with right:
        extent = choices.choice(
            "show",
            "Overview",
            ["layer", "model"],
            "layer",
            show={"layer": "Heads of this layer", "model": "Heads of all layers"}.__getitem__,
        )
    _overview(subject, choices, layer, head, whole=extent == "model")
    _head(subject, layer, head)


def _overview(subject: Subject, choices: Choices, layer: int, head: int, whole: bool) -> None:
    cfg = subject.loaded.model.cfg
    layers = tuple(range(cfg.n_layers)) if whole else (layer,)
    n_heads = len(layers) * cfg.n_heads
    n = min(len(subject.tokens), MAX_TOKENS, max(2, math.isqrt(MAX_CELLS // n_heads)))
    st.subheader(
        "All layers" if whole else f"Layer {layer}",
        help="Click the name of a head to see it large, below.",
    )
    drawn = mosaic.draw(
        patterns(subject, layers)[:, :, :n, :n],
        layers,
        columns=cfg.n_heads if whole else _TILES_IN_A_ROW,
    )
    which = "all layers" if whole else f"layer {layer}"
    alt = (
        f"Attention of {n_heads} heads, those of {which}: destination tokens down, source tokens "
        f"across, white for 0 and dark for 1.{_clipped(n, subject)}"
    )
    # Another head, another element: a name that was clicked before can be clicked again.
    key = f"attention/mosaic/{layer}/{head}/{'all' if whole else 'layer'}"
    figures.plot(drawn, alt, key, on_select=lambda: _pick(choices, key), selection_mode="points")


def _pick(choices: Choices, key: str) -> None:
    """Choose the head whose name was clicked."""
    points: list[Any] = st.session_state[key]["selection"]["points"]
    for point in points:
        if point.get("customdata"):
            layer, head = point["customdata"]
            choices.keep("layer", str(layer))
            choices.keep("head", str(head))


def _head(subject: Subject, layer: int, head: int) -> None:
    name = f"L{layer}H{head}"
    st.subheader(f"Head {name}")
    pattern = patterns(subject, (layer,))[0, head]
    n = min(len(subject.tokens), MAX_TOKENS)
    strongest = _strongest(subject, pattern)
    later = strongest.iloc[1:] if len(strongest) > 1 else strongest
    peak = later.iloc[int(later["attention"].argmax())]
    drawn = Chart(
        kind="attention",
        table="pattern",
        x="source",
        x_text="source_token",
        y="destination",
        y_text="destination_token",
        value="attention",
        title=f"Attention of {name}",
        alt=(
            f"Attention of head {name}: destination tokens down, source tokens across. "
            f"{_habits(pattern)} It is strongest from position {peak['destination']} "
            f"(“{visible(peak['destination_token'])}”) to {peak['source']} "
            f"(“{visible(peak['source_token'])}”): {peak['attention']:.2f}."
            f"{_clipped(n, subject)}"
        ),
    )
    figures.chart(
        drawn, _cells(subject, pattern[:n, :n]), "attention/figure", height=620, titled=False
    )
    with st.expander("Where each token looks most"):
        figures.table(strongest, "attention/table", f"attention-{name}")


def _cells(subject: Subject, pattern: Pattern) -> pd.DataFrame:
    n = len(pattern)
    texts = np.array(subject.texts[:n], dtype=object)
    destination, source = (places.ravel() for places in np.mgrid[0:n, 0:n])
    return pd.DataFrame(
        {
            "destination": destination,
            "source": source,
            "destination_token": texts[destination],
            "source_token": texts[source],
            "attention": pattern.ravel(),
        }
    )


def _strongest(subject: Subject, pattern: Pattern) -> pd.DataFrame:
    source = pattern.argmax(-1)
    return pd.DataFrame(
        {
            "destination": range(len(pattern)),
            "destination_token": subject.texts,
            "source": source,
            "source_token": [subject.texts[i] for i in source],
            "attention": pattern.max(-1),
        }
    )


def _habits(pattern: Pattern) -> str:
    """How much goes to the places that heads often look at, in a sentence."""
    rows = pattern[1:]  # the first token has nothing but itself to look at
    if not len(rows):
        return "It has one token to look at."
    shares = {
        "the first token": rows[:, 0].mean(),
        "the token before": np.diagonal(pattern, -1).mean(),
        "the token itself": np.diagonal(pattern)[1:].mean(),
    }
    told = ", ".join(f"{share:.0%} to {place}" for place, share in shares.items())
    return f"From the second token on, {told}, on average."


def _clipped(n: int, subject: Subject) -> str:
    total = len(subject.tokens)
    return f" The first {n} of {total} tokens are drawn." if n < total else ""
