"""The information flow page: routes from one position's prediction back to the tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd
import streamlit as st

from analyses.flow.figures import leading_tokens
from analyses.flow.information_flow import POOLED
from analyses.flow.tables import edges_table, nodes_table
from dashboards.drawing import figures, routes_figure, routes_still
from dashboards.drawing.theme import is_dark
from dashboards.drawing.wording import plain
from dashboards.page.address import Choices
from dashboards.page.script import script
from dashboards.page.subject import Subject
from dashboards.readings.flow import Streams, heads_at, neurons_at, streams
from dashboards.views.shared import component_panels as panels
from interp.attribution import Routes, StreamImportance, trace_routes
from interp.charts import Chart, export
from interp.charts.tokens import visible

THRESHOLD = 0.04
_STEP, _HIGHEST = 0.01, 0.5
_MOST_PREDICTED = 24  # characters of a prediction above the picture


def show(subject: Subject, choices: Choices) -> None:
    """Draw the page."""
    found = streams(subject)
    n = len(subject.texts)
    pooled = subject.loaded.model.cfg.head in POOLED
    left, middle, right = st.columns([2, 2, 1])
    with left:
        position = choices.choice(
            "position",
            "Trace back from",
            range(n),
            0 if pooled else n - 1,
            show=lambda i: f"{i} {visible(subject.texts[i])}",
            help="The position whose prediction is traced, from the last residual stream.",
        )
    with middle:
        threshold = choices.number(
            "threshold", "Keep edges more important than", THRESHOLD, 0.0, _HIGHEST, _STEP,
            slider=True, help="As a share of the residual stream that an edge leads into.",
        )  # fmt: skip
    with right:
        width = choices.choice(
            "width",
            "Lines as wide as their",
            ["importance", "flow"],
            "importance",
            help="Importance: share of the stream that the edge leads into. Flow: share of what "
            "arrives at the traced position, the importances along each path multiplied.",
        )
    routes = trace_routes(found.importance, [position], threshold)
    nodes = nodes_table(routes, subject.texts)
    edges = edges_table(routes, found.importance, subject.texts)
    level, place = _node(subject, choices, routes, position)
    _graph(subject, choices, found, routes, nodes, edges, width, (level, place))
    _by_token(subject, routes, nodes)
    _inside(subject, choices, found.importance, routes, level, place)
    st.caption(
        "Importance says how near a part comes to the sum that it is in (Ferrando and Voita 2024): "
        "not what would happen without it, and nothing about one predicted token rather than "
        "another. Parts that point away from the sum count as nothing. Switch a part off at the "
        "side to see its effect."
    )


# --- the graph -----------------------------------------------------------------------------------


def _node(subject: Subject, choices: Choices, routes: Routes, position: int) -> tuple[int, int]:
    """The node that is looked into: its level and position."""
    top = len(routes.labels) - 1
    left, right, _ = st.columns([2, 2, 1])
    with left:
        level = choices.choice(
            "stream",
            "Look into stream",
            range(1, top + 1),
            top,
            show=lambda i: routes.labels[i],
            help="0_mid stands behind the attention of layer 0, 0_post behind its MLP. Or click a "
            "node or an edge of the picture.",
        )
    with right:
        place = choices.choice(
            "at",
            "at position",
            range(len(subject.texts)),
            position,
            show=lambda i: f"{i} {visible(subject.texts[i])}",
        )
    return level, place


def _graph(
    subject: Subject,
    choices: Choices,
    found: Streams,
    routes: Routes,
    nodes: pd.DataFrame,
    edges: pd.DataFrame,
    width: str,
    chosen: tuple[int, int],
) -> None:
    position = routes.positions[0]
    predicted = {}
    said = ""
    if len(found.predictions):
        row = found.predictions[found.predictions["position"] == position].iloc[0]
        text = visible(row["token"])[:_MOST_PREDICTED]
        predicted[position] = f"predicts {text} ({row['probability']:.0%})"
        said = f", where the model predicts “{text}” ({row['probability']:.0%})"
    figure = routes_figure.draw(nodes, edges, width, chosen, predicted, is_dark())
    drawn = min(len(edges), routes_figure.MOST_EDGES)
    some = f"the {drawn:,} of most flow among {len(edges):,}" if drawn < len(edges) else "all"
    alt = (
        f"Routes to position {position} (“{visible(subject.texts[position])}”){said}: tokens "
        f"across, residual streams upwards, {some} edges above {routes.threshold:g}, as wide as "
        f"their {width}. {_told(routes, subject)}"
    )
    # Another node, another element: a node that was clicked before can be clicked again.
    key = f"flow/graph/{chosen[0]}/{chosen[1]}"
    figures.plot(figure, alt, key, on_select=lambda: _pick(choices, key), selection_mode="points")
    still = Still(nodes, edges, width, predicted, alt, routes)
    _files(subject, still)


def _pick(choices: Choices, key: str) -> None:
    """Choose the node that was clicked, or the one that a clicked edge leads to."""
    points: list[Any] = st.session_state[key]["selection"]["points"]
    for point in points:
        if point.get("customdata"):
            level, place = point["customdata"]
            choices.keep("stream", str(max(level, 1)))
            choices.keep("at", str(place))


def _told(routes: Routes, subject: Subject) -> str:
    """From which tokens most comes, and how much the kept edges carry."""
    return (
        f"{_tokens(routes, subject)} Edges above the threshold carry "
        f"{float(routes.kept[0].sum()):.0%} of it from the tokens."
    )


def _tokens(routes: Routes, subject: Subject) -> str:
    tokens = leading_tokens(routes, subject.texts)
    biases = max(float(routes.lost[0]), 0.0)  # less than none, by rounding
    return f"Of what arrives, {tokens}; {biases:.0%} from biases."


def _call(routes: Routes) -> str:
    return (
        "from analyses import run_analysis\n\n"
        'result = run_analysis(\n    "information-flow",\n    model,\n'
        "    tokens=tokens[0].tolist(),\n"
        f"    positions={list(routes.positions)},\n    threshold={routes.threshold!r},\n)\n"
    )


@dataclass(frozen=True)
class Still:
    """What a still of the picture is drawn from."""

    nodes: pd.DataFrame
    edges: pd.DataFrame
    width: str
    predicted: dict[int, str]
    alt: str
    routes: Routes

    def file(self, suffix: str) -> bytes:
        """The picture as png, svg, or html with the edges, each with its text alternative."""
        title = f"Routes to position {self.routes.positions[0]}, above {self.routes.threshold:g}"
        # Files take their title and their alternative from a chart.
        named = Chart(
            kind="graph", table="routes", title=title, alt=self.alt, x="source", y="destination",
            x_level="level", y_level="level", value=self.width,
        )  # fmt: skip
        drawn = routes_still.draw(self.nodes, self.edges, self.width, self.predicted, title)
        if suffix == "png":
            return export.png(drawn, named)
        svg = export.svg(drawn, named)
        return (svg if suffix == "svg" else export.page(named, self.edges, svg)).encode()


@st.fragment
def _files(subject: Subject, still: Still) -> None:
    box = st.expander("Data and export", key="flow/graph/data", on_change="rerun")
    if not box.open:
        return
    code = script(subject, _call(still.routes) + 'table = result.tables["edges"]')
    files: list[tuple[str, str, Callable[[], bytes]]] = [
        ("png", "image/png", lambda: still.file("png")),
        ("svg", "image/svg+xml", lambda: still.file("svg")),
        ("html", "text/html", lambda: still.file("html")),
    ]
    with box:
        with st.container(horizontal=True):
            for suffix, mime, make in files:
                st.download_button(
                    suffix.upper(), make, f"routes.{suffix}", mime, key=f"flow/graph/{suffix}",
                    on_click="ignore",
                )  # fmt: skip
        figures.table(still.edges, "flow/edges", "routes", code)
        st.code(code, language="python")


def _by_token(subject: Subject, routes: Routes, nodes: pd.DataFrame) -> None:
    traced = f"position {routes.positions[0]} (“{visible(subject.texts[routes.positions[0]])}”)"
    chart = Chart(
        kind="bars",
        table="nodes",
        where={"level": 0},
        x="position",
        x_text="token",
        x_label="token",
        value="flow",
        value_label="flow",
        title=f"Flow to {traced} by token, whatever the threshold",
        alt=f"The share of what arrives at {traced} that comes from each token. "
        f"{_tokens(routes, subject)}",
    )
    code = script(subject, _call(routes) + 'table = result.tables["nodes"]')
    figures.chart(chart, nodes, "flow/tokens", height=230, code=code)


# --- one node ------------------------------------------------------------------------------------


def _inside(
    subject: Subject,
    choices: Choices,
    importance: list[StreamImportance],
    routes: Routes,
    level: int,
    place: int,
) -> None:
    stream = importance[level - 1]
    where = f"{stream.label} at position {place} (“{visible(subject.texts[place])}”)"
    st.subheader(plain(f"Inside {where}"))
    parts = {"the stream before": float(stream.residual[0, place])}
    if stream.heads is not None:
        parts["attention"] = float(stream.heads[0, :, place].sum())
    if stream.mlp is not None:
        parts["the MLP"] = float(stream.mlp[0, place])
    parts["biases"] = float(stream.bias[0, place])
    if subject.plan:
        parts["interventions"] = float(stream.edit[0, place])
    told = ", ".join(f"{name} {share:.1%}" for name, share in parts.items())
    passes = f"{float(routes.flow[level, place]):.1%} of the flow passes here."
    st.markdown(plain(f"Its parts: {told}. {passes}"))
    components = []
    if stream.heads is not None:
        heads = _heads(subject, stream, place, where)
        totals = heads.groupby("head", sort=False)["importance"].sum()
        components += [f"L{stream.layer}ATTN", *totals.sort_values(ascending=False).index]
    if stream.mlp is not None:
        components.append(f"L{stream.layer}MLP")
        _neurons(subject, stream, place, where)
    _promoted(subject, choices, components, place)


def _heads(subject: Subject, stream: StreamImportance, place: int, where: str) -> pd.DataFrame:
    """Draw what the heads bring to a node; the table of it."""
    heads = heads_at(subject, stream.layer, place)
    top = heads.loc[[int(heads["importance"].argmax())]].iloc[0]
    chart = Chart(
        kind="heatmap",
        table="heads",
        x="source",
        x_text="source_token",
        x_label="source token",
        y="head",
        value="importance",
        title=f"What each head brings to {where}, by source token",
        alt=(
            f"The importance of what each head of layer {stream.layer} writes of each source token "
            f"into {where}. Most: {top['head']} from {top['source']} "
            f"(“{visible(top['source_token'])}”), {top['importance']:.1%}, with attention "
            f"{top['attention']:.2f}."
        ),
    )
    body = (
        "from analyses.flow.node import node_heads_table\n"
        "from analyses.inputs.prompts import token_texts\n"
        "from interp.attribution import proximity_hooks, stream_importance\n\n"
        "_, cache = model.run_with_cache(**inputs, names_filter=proximity_hooks(model))\n"
        f"stream = stream_importance(cache, layers=[{stream.layer}])[0]\n"
        f"table = node_heads_table(stream, cache, {place}, token_texts(model, tokens[0]))"
    )
    figures.chart(chart, heads, "flow/heads", code=script(subject, body))
    return heads


def _neurons(subject: Subject, stream: StreamImportance, place: int, where: str) -> None:
    if subject.loaded.model.cfg.num_experts is not None:
        return  # which have no one set of neurons
    neurons = neurons_at(subject, stream.layer, place)
    top = neurons.iloc[0]
    chart = Chart(
        kind="bars",
        table="neurons",
        x="neuron",
        value="importance",
        title=f"Neurons of most importance in {where}",
        alt=f"The neurons with the largest parts in {where}; first {top['neuron']} with "
        f"{top['importance']:.1%}.",
    )
    body = (
        "from analyses.flow.node import neurons_table\n"
        "from interp.attribution import proximity_hooks, stream_importance\n\n"
        f'names = [*proximity_hooks(model), "blocks.{stream.layer}.mlp.hook_post"]\n'
        "_, cache = model.run_with_cache(**inputs, names_filter=names)\n"
        f"stream = stream_importance(cache, layers=[{stream.layer}])[-1]\n"
        f"table = neurons_table(stream, cache, {place})"
    )
    figures.chart(chart, neurons, "flow/neurons", height=230, code=script(subject, body))


def _promoted(subject: Subject, choices: Choices, components: list[str], place: int) -> None:
    """Tokens that what is written here raises and lowers."""
    component = choices.choice(
        "component", "Component", components, components[0],
        show=lambda name: name.replace("ATTN", " attention, all heads").replace("MLP", " MLP"),
    )  # fmt: skip
    if subject.loaded.model.cfg.head != "lm":
        st.caption("This model's logits are not linear in its last stream: no tokens to tell.")
        return
    st.caption(
        "What it adds to the logits by itself, less the mean over the vocabulary, with the scale "
        "of the final norm held as it was."
    )
    panels.tokens_of(subject, component, place, "flow/promoted")
