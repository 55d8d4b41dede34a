"""Every place of a grid patched or ablated by itself: where an intervention would matter."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import pandas as pd
import streamlit as st

from analyses.inputs.targets import token_name
from analyses.patching.place_effects import Measure, PutIn, Site
from dashboards.drawing import figures
from dashboards.drawing.wording import plain
from dashboards.page.address import Choices
from dashboards.page.script import script
from dashboards.page.subject import Subject
from dashboards.readings.interventions import compared
from dashboards.readings.sweeps import swept
from dashboards.views.interventions.form import add
from interp.charts import Chart

OFF = "off"
_PUT_IN = {
    OFF: "No sweep",
    "patch": "Patch from the second prompt",
    "mean": "Replace by the mean over positions",
    "zero": "Replace by zero",
}
_SITES = {
    "resid_pre": "Residual stream, layer × position",
    "attn_out": "Attention output, layer × position",
    "mlp_out": "MLP output, layer × position",
    "z": "Heads, layer × head",
}
_MEASURES = {
    "logit-diff": "Logit difference",
    "logit": "Logit of the answer",
    "probability": "Probability of the answer",
    "kl": "KL from the unedited prediction",
}
_WRITTEN = {"resid_pre": "L{}.resid_pre@{}", "attn_out": "L{}.attn@{}", "mlp_out": "L{}MLP@{}",
            "z": "L{}H{}"}  # fmt: skip


def draw(subject: Subject, choices: Choices, shared: Choices, position: int) -> None:
    """Choose a sweep, and draw it; a click on a cell adds its edit."""
    st.subheader("Sweep")
    cfg = subject.loaded.model.cfg
    first, second, third = st.columns(3)
    with first:
        put_in: Any = choices.choice(
            "sweep", "Do", [OFF, *get_args(PutIn)], OFF, show=_PUT_IN.__getitem__,
            help="To every place by itself, in the model without interventions.",
        )  # fmt: skip
    if put_in == OFF:
        st.caption("A sweep shows where an intervention would matter, before you choose one.")
        return
    sites = [site for site in get_args(Site) if site != "mlp_out" or not cfg.attn_only]
    measures = [m for m in get_args(Measure) if m != "logit-diff" or subject.wrong is not None]
    if subject.answer is None:
        measures = [m for m in measures if m != "logit-diff"]
    with second:
        site: Any = choices.choice("site", "Where", sites, sites[0], show=_SITES.__getitem__)
    with third:
        measure: Any = choices.choice(
            "measure", "Measure", measures, measures[0], show=_MEASURES.__getitem__,
            help="The difference of logits needs an answer and a wrong answer, at the side.",
        )  # fmt: skip
    target = subject.answer
    if target is None:
        target = compared(replace(subject, edits=""), position, False).target
    wrong = subject.wrong if measure == "logit-diff" else None
    found = swept(subject, site, put_in, measure, target, wrong, position)
    _heatmap(subject, shared, found, site, put_in, measure, target, wrong, position)


def _heatmap(
    subject: Subject,
    shared: Choices,
    found: pd.DataFrame,
    site: Site,
    put_in: PutIn,
    measure: Measure,
    target: int,
    wrong: int | None,
    position: int,
) -> None:
    axis = "head" if site == "z" else "position"
    of = token_name(subject.loaded.model, target)
    if wrong is not None:
        of += f" less {token_name(subject.loaded.model, wrong)}"
    words = {"logit-diff": "logit of", "logit": "logit of", "probability": "probability of"}
    quantity = "KL from the unedited prediction" if measure == "kl" else f"{words[measure]} {of}"
    best = found.iloc[int(found["effect"].abs().argmax())]
    strongest = f"{put_in}:{_WRITTEN[site].format(int(best['layer']), int(best[axis]))}"
    texts: dict[str, Any] = {} if site == "z" else {"x_text": "token", "x_label": "token"}
    drawn = Chart(
        kind="heatmap",
        table="sweep",
        x=axis,
        y="layer",
        value="effect",
        value_label="effect",
        signed=measure != "kl",
        title=f"Effect on the {quantity}: {_PUT_IN[put_in].lower()}",
        alt=(
            f"What each place by itself does to the {quantity}, at position {position}: layers "
            f"down, {axis}s across. The largest effect is that of {strongest}: "
            f"{best['effect']:+.3g}, to {best['value']:.3g}."
        ),
        **texts,
    )
    key = f"interventions/sweep/{len(subject.edits)}"
    figures.chart(
        drawn,
        found,
        key,
        height=min(max(300, 24 * found["layer"].nunique() + 130), 900),
        code=_code(subject, site, put_in, measure, target, wrong, position),
        on_select=lambda: _pick(shared, key, put_in, site),
        selection_mode="points",
    )
    st.caption("A click on a cell adds its edit to the list.")
    st.button(
        plain(f"Add the strongest: {strongest}"),
        key="interventions/sweep/strongest",
        on_click=add,
        args=(shared, strongest),
    )


def _pick(shared: Choices, key: str, put_in: str, site: str) -> None:
    """Add the edit of the cell that was clicked."""
    points: list[Any] = st.session_state[key]["selection"]["points"]
    for point in points[:1]:
        if point.get("customdata"):
            x, y = point["customdata"][:2]
            add(shared, f"{put_in}:{_WRITTEN[site].format(y, x)}")


def _code(
    subject: Subject,
    site: str,
    put_in: str,
    measure: str,
    target: int,
    wrong: int | None,
    position: int,
) -> str:
    named = "answer" if subject.answer is not None else str(target)
    given = [f'"{site}"', f'"{put_in}"', f'"{measure}"', named]
    if wrong is not None:
        given.append("wrong")
    given.append(f"position={position}")
    if put_in == "patch":
        given.append("other=other_tokens")
    body = (
        "from analyses.patching.place_effects import place_effects\n\n"
        f"table = place_effects(\n    model, inputs, {', '.join(given)}\n)"
    )
    return script(subject.unedited(), body)
