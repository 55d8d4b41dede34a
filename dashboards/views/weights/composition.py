"""Which later head reads which earlier one, as a map and as a graph."""

from typing import Any

import pandas as pd
import streamlit as st

from dashboards.drawing import figures
from dashboards.page.address import Choices
from dashboards.page.model_alone import script
from dashboards.page.subject import Subject
from dashboards.readings import weights
from interp.charts import Chart
from interp.charts.interactive import MOST_CLICKABLE

NAMES = ("through", "measure_of_pairs", "baseline", "threshold", "earlier", "later")
MOST_EDGES = 80  # drawn in the graph
_EDGES = 15  # drawn before a threshold is chosen
_STEPS = 200  # of the threshold's slider
_MODES = {"Q": "Queries", "K": "Keys", "V": "Values"}
_MEASURES = {
    "excess": ("Score beyond the baseline", "score − its mean over random weights"),
    "z": ("Standard deviations beyond the baseline", "standard deviations"),
    "score": ("Composition score", "‖W_left W_right‖ / (‖W_left‖ ‖W_right‖)"),
}
_BASELINES = {
    "permuted": "Entries in random order",
    "gaussian": "Normal weights of the same size",
    "rotated": "The circuits turned at random",
    "none": "None: scores alone",
}


def show(subject: Subject, choices: Choices) -> None:
    """Draw the view."""
    cfg = subject.loaded.model.cfg
    if cfg.n_layers < 2:
        st.info("This model has one layer: no head reads another.")
        return
    left, middle, right = st.columns(3)
    with left:
        modes = choices.several(
            "through", "Read through", list(_MODES), list(_MODES), show=_MODES.__getitem__
        )
    with middle:
        usual = "permuted" if weights.affords_baseline(subject.loaded.model) else "none"
        chosen: Any = choices.choice(
            "baseline",
            "Baseline",
            list(_BASELINES),
            usual,
            show=_BASELINES.__getitem__,
            help=f"What compositions are compared with: {weights.N_DRAWS} sets of such weights. "
            "Turned circuits keep their singular values, and give the strictest comparison.",
        )
    baseline = None if chosen == "none" else chosen
    with right:
        measures = ["score"] if baseline is None else list(_MEASURES)
        measure = choices.choice(
            "measure_of_pairs", "Measure", measures, measures[0],
            show=lambda name: _MEASURES[name][0],
        )  # fmt: skip
    if not modes:
        st.info("Choose queries, keys or values.")
        return
    table = weights.compositions(subject, baseline)
    if baseline is not None:
        table = table.assign(excess=table["score"] - table["baseline"])
    table = table[table["through"].isin(modes)].reset_index(drop=True)
    code = _code(subject, baseline, modes)
    _map(choices, table, measure, code)
    _pair(choices, table, measure)
    _graph(choices, table, measure, code)


def _map(choices: Choices, table: pd.DataFrame, measure: str, code: str) -> None:
    title, unit = _MEASURES[measure]
    modes = table["through"].unique()
    most = table.iloc[int(table[measure].argmax())]
    drawn = Chart(
        kind="heatmap",
        table="composition",
        x="second_order",
        x_text="second",
        x_label="later head",
        y="first_order",
        y_text="first",
        y_label="earlier head",
        value=measure,
        value_label=unit,
        facet="through",
        signed=measure != "score",
        title=f"{title}, by query, key or value",
        alt=(
            f"{title} of every earlier head (down) with every later one (across), a panel each for "
            f"{', '.join(_MODES[mode].lower() for mode in modes)}. The largest "
            f"is {most['first']} → {most['second']} through {most['through']}: "
            f"{most[measure]:.3g}. Blank: no earlier and later head."
        ),
    )
    key = f"weights/composition/{measure}/{choices.kept.get('earlier')}/{choices.kept.get('later')}"
    earlier, later = _chosen(choices, table, measure)
    here = table[(table["first"] == earlier) & (table["second"] == later)]
    places = ["first_order", "second_order"]
    selection: dict[str, Any] = {}
    if table["first"].nunique() * table["second"].nunique() * len(modes) <= MOST_CLICKABLE:
        selection["on_select"] = lambda: _pick(choices, key, table)
        selection["selection_mode"] = "points"
    click = "Click a cell to see that pair in all its numbers." if selection else None
    st.subheader("Who reads whom", help=click)
    figures.chart(
        drawn,
        table,
        key,
        code=code,
        chosen=None if here.empty else here[places].iloc[0].to_dict(),
        **selection,
    )


def _chosen(choices: Choices, table: pd.DataFrame, measure: str) -> tuple[str, str]:
    """The earlier and the later head looked at: by default the strongest pair."""
    strongest = table.iloc[int(table[measure].argmax())]
    names = (("earlier", "first"), ("later", "second"))
    first, second = (choices.kept.get(name, str(strongest[of])) for name, of in names)
    return first, second


def _pick(choices: Choices, key: str, table: pd.DataFrame) -> None:
    """Choose the pair whose cell was clicked; `customdata` begins with the later head's place."""
    names = dict(zip(table["first_order"], table["first"], strict=True))
    names |= dict(zip(table["second_order"], table["second"], strict=True))
    for point in st.session_state[key]["selection"]["points"]:
        second, first = point["customdata"][:2]
        choices.keep("earlier", names[first])
        choices.keep("later", names[second])


def _pair(choices: Choices, table: pd.DataFrame, measure: str) -> None:
    strongest = table.iloc[int(table[measure].argmax())]
    left, right = st.columns([1, 2])
    with left:
        firsts = list(dict.fromkeys(table["first"]))
        default = strongest["first"]
        first = choices.choice("earlier", "Earlier head", firsts, default)
        after = list(dict.fromkeys(table[table["first"] == first]["second"]))
        default = strongest["second"] if strongest["second"] in after else after[0]
        second = choices.choice("later", "Later head", after, default)
    with right:
        mine = table[(table["first"] == first) & (table["second"] == second)]
        numbers = ["score", "baseline", "baseline_std", "excess", "z"]
        columns = ["through", *(name for name in numbers if name in mine)]
        figures.table(mine[columns], "weights/composition/pair", f"composition-{first}-{second}")


def _graph(choices: Choices, table: pd.DataFrame, measure: str, code: str) -> None:
    st.subheader("As a graph")
    title, unit = _MEASURES[measure]
    values = table[measure].sort_values(ascending=False, ignore_index=True)
    top = float(values.iloc[0])
    if not top > 0:
        st.info(f"No pair has a {title.lower()} above zero.")
        return
    step = _round_step(top / _STEPS)
    most = (int(top / step) + 1) * step
    wanted = float(values.iloc[min(_EDGES, len(values)) - 1])
    default = round(max(0.0, int(wanted / step) * step), 9)
    threshold = choices.number(
        "threshold", f"Least {title.lower()}", default, 0.0, round(most, 9), step, slider=True,
        format="%.4g", help=unit,
    )  # fmt: skip
    above = table[table[measure] >= threshold].nlargest(MOST_EDGES, measure)
    if above.empty:
        st.info("No pair lies above the threshold.")
        return
    n_above = int((table[measure] >= threshold).sum())
    if n_above > MOST_EDGES:
        st.caption(f"The {MOST_EDGES} largest of {n_above} pairs above the threshold are drawn.")
    above = above.reset_index(drop=True)
    first = above.iloc[0]
    drawn = Chart(
        kind="graph",
        table="composition",
        x="first",
        y="second",
        value=measure,
        color="through",
        x_level="first_layer",
        y_level="second_layer",
        value_label=unit,
        title=f"Compositions with a {title.lower()} of {threshold:g} or more",
        alt=(
            f"A graph of {len(above)} compositions from earlier heads below to later heads above, "
            f"by query, key or value. The strongest is {first['first']} → {first['second']} "
            f"through {first['through']}: {first[measure]:.3g}."
        ),
    )
    more = (
        f"table = table[table[{measure!r}] >= {threshold!r}]"
        f".nlargest({MOST_EDGES}, {measure!r}).reset_index(drop=True)\n"
    )
    figures.chart(
        drawn, above, f"weights/composition/graph/{measure}", code=f"{code.rstrip()}\n{more}"
    )


def _round_step(least: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is not below `least`."""
    power = 1e-9
    while power * 5 < least:
        power *= 10
    return float(f"{next(power * x for x in (1, 2, 5) if power * x >= least):.1g}")


def _code(subject: Subject, baseline: str | None, modes: list[str]) -> str:
    found = script(
        subject.loaded,
        "from analyses.weights.tables import composition_table",
        f"table = composition_table(model, {baseline!r}, n_draws={weights.N_DRAWS}, seed=0)",
    )
    excess = "" if baseline is None else "table['excess'] = table['score'] - table['baseline']\n"
    return (
        f"{found}{excess}table = table[table['through'].isin({modes!r})].reset_index(drop=True)\n"
    )
