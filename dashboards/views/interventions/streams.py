"""The residual stream, what the lens reads in it, and what heads contribute: before and after."""

from __future__ import annotations

from typing import Any

import streamlit as st

from analyses.inputs.targets import token_name
from analyses.patching.intervention_effects import Effects
from dashboards.drawing import figures
from dashboards.drawing.wording import plain
from dashboards.page.subject import Subject
from dashboards.views.interventions.panels import effects_code, trio
from interp.charts import Chart
from interp.charts.tokens import visible

_ROW = 26  # pixels of a stream
_BY_PLACE: dict[str, Any] = {
    "kind": "heatmap",
    "x": "position",
    "x_text": "token",
    "x_label": "token",
    "y": "order",
    "y_text": "stream",
    "y_label": "stream",
}


def draw_heads(subject: Subject, found: Effects, position: int) -> None:
    """Direct contributions of heads to what is followed."""
    st.subheader("Head contributions")
    if found.components is None:
        st.caption("This model's outputs are not linear in its stream: heads have no shares.")
        return
    st.caption(
        plain(f"What each head adds to the {found.quantity} ")
        + f"at position {position}, as it is written: edits of sums behind the heads "
        "(attn, streams) do not show here."
    )
    for kind, name in (("head", "heads"), ("cross_head", "heads of cross-attention")):
        rows = found.components[found.components["kind"] == kind].reset_index(drop=True)
        if rows.empty:
            continue
        largest = rows.iloc[int(rows["difference"].abs().argmax())]
        most = (
            f"The change is largest for {largest['component']}: {largest['before']:.3g} to "
            f"{largest['after']:.3g}."
        )
        shape = f"Direct contribution of {name} to the {found.quantity}, layers down, heads across"
        trio(
            rows,
            ("before", "after", "difference"),
            f"Contributions of {name}",
            (f"{shape}; before.", f"{shape}; with the interventions.", f"{shape}. {most}"),
            f"interventions/{kind}",
            effects_code(
                subject,
                position,
                f'found.components[found.components["kind"] == {kind!r}].reset_index(drop=True)',
            ),
            height=_height(rows["layer"].nunique()),
            kind="heatmap",
            x="head",
            y="layer",
            signed=True,
            value_label="logits",
        )


def draw_norms(subject: Subject, found: Effects, position: int) -> None:
    """Norms by stream and position, and how far the stream moved."""
    st.subheader("Residual stream")
    rows = found.streams
    code = effects_code(subject, position, "found.streams", lens="probability_before" in rows)
    largest = rows.iloc[int(rows["moved"].argmax())]
    first = rows[rows["moved"] > 0]
    begins = "nowhere" if first.empty else f"at {first.iloc[0]['stream']}"
    height = _height(rows["order"].nunique())
    drawn = Chart(
        **_BY_PLACE,
        table="streams",
        value="moved",
        value_label="distance",
        title="How far the stream moved: ‖after − before‖",
        alt=(
            f"Distance between the two runs' residual streams, layers down, positions across. It "
            f"begins {begins} and is largest at {largest['stream']}, position "
            f"{largest['position']} (“{visible(largest['token'])}”): {largest['moved']:.3g}."
        ),
    )
    figures.chart(drawn, rows, "interventions/moved", height=height, code=code)
    change = rows.iloc[int(rows["norm_difference"].abs().argmax())]
    shape = "Norm of the residual stream, layers down, positions across"
    trio(
        rows,
        ("norm_before", "norm_after", "norm_difference"),
        "Norm",
        (
            f"{shape}; before.",
            f"{shape}; with the interventions.",
            f"{shape}; it changes most at {change['stream']}, position {change['position']}: "
            f"{change['norm_before']:.3g} to {change['norm_after']:.3g}.",
        ),
        "interventions/norm",
        code,
        height=height,
        value_label="norm",
        **_BY_PLACE,
    )


def draw_lens(subject: Subject, found: Effects, position: int) -> None:
    """What the logit lens reads of the target, by stream and position."""
    st.subheader("Logit lens")
    rows = found.streams
    if "probability_before" not in rows:
        st.caption("This model answers for the whole sequence: no position can be read by itself.")
        return
    name = token_name(subject.loaded.model, found.target)
    largest = rows.iloc[int(rows["probability_difference"].abs().argmax())]
    shape = f"Probability that the logit lens gives {name}, layers down, positions across"
    few = rows["position"].nunique() <= 12
    trio(
        rows,
        ("probability_before", "probability_after", "probability_difference"),
        f"Lens: {name}",
        (
            f"{shape}; before. Cells name the likeliest token.",
            f"{shape}; with the interventions. Cells name the likeliest token.",
            f"{shape}; it changes most at {largest['stream']}, position {largest['position']}: "
            f"{largest['probability_before']:.3g} to {largest['probability_after']:.3g}.",
        ),
        "interventions/lens",
        effects_code(subject, position, "found.streams", lens=True),
        height=_height(rows["order"].nunique()),
        texts=("top_before", "top_after") if few else None,
        probability=True,
        value_label="probability",
        **_BY_PLACE,
    )


def _height(rows: int) -> int:
    return min(max(240, _ROW * rows + 130), 900)
