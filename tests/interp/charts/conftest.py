"""One chart of every kind, over small tables with awkward tokens."""

import numpy as np
import pandas as pd
import pytest

from interp.charts import Chart

TOKENS = ["<s>", " cost", " $5", "$", " cost", "\n"]


def _case(name):
    rng = np.random.default_rng(0)
    attention = pd.DataFrame(
        [
            {"head": h, "q": q, "k": k, "p": 1 / (q + 1), "qt": TOKENS[q], "kt": TOKENS[k]}
            for h in range(3)
            for q in range(6)
            for k in range(q + 1)
        ]
    )
    heads = pd.DataFrame(
        [{"layer": i, "head": j, "v": rng.normal()} for i in range(3) for j in range(4)]
    )
    loss = pd.DataFrame(
        [
            {"pos": i, "tok": TOKENS[i], "run": r, "v": float(i + r)}
            for i in range(6)
            for r in (0, 1)
        ]
    )
    training = pd.DataFrame(
        [
            {"step": 10**i, "run": r, "v": 2.0 / (i + 1 + (r == "b")), "se": [0.1, 0.2, np.nan][i]}
            for i in range(3)
            for r in "ab"
        ]
    )
    edges = pd.DataFrame(
        [
            ("embed", "L0H0", "q", 0.0, 1.0, -1.0),
            ("embed", "L0H0", "v", 0.0, 1.0, 2.0),
            ("embed", "$logits", "", 0.0, 2.0, 0.5),
            ("L0H0", "$logits", "", 1.0, 2.0, float("inf")),
        ],
        columns=["from", "to", "through", "from_level", "to_level", "v"],
    )
    columns = pd.DataFrame(
        [
            {
                "model": m,
                "u": np.cos(i + m + 0.5),
                "v": (1 + m) * np.sin(i + m + 0.5),
                "kind": "ab"[i % 2],
            }
            for m in range(3)
            for i in range(5)
        ]
    )
    common = {"table": "t", "title": "A <title> & $more$", "alt": 'Says "what" & <why>'}
    tokens = {"x_text": "kt", "y_text": "qt"}
    places = {"x": "k", "y": "q", "value": "p"}
    cells = {"x": "head", "y": "layer", "value": "v", "signed": True}
    return {
        "attention": (
            Chart(kind="attention", where={"head": 1}, **common, **places, **tokens),
            attention,
        ),
        "facets": (Chart(kind="attention", facet="head", **common, **places, **tokens), attention),
        "heatmap": (Chart(kind="heatmap", **common, **cells), heads),
        "bars": (
            Chart(kind="bars", x="head", value="v", signed=True, where={"layer": 0}, **common),
            heads,
        ),
        "groups": (Chart(kind="bars", x="head", value="v", color="layer", **common), heads),
        "line": (
            Chart(kind="line", x="pos", y="v", color="run", x_text="tok", **common),
            loss,
        ),
        "error-bars": (
            Chart(kind="bars", x="step", value="v", color="run", error="se", **common),
            training,
        ),
        "error-bands": (
            Chart(
                kind="line", x="step", y="v", color="run", error="se", log_x=True, log_y=True,
                **common,
            ),
            training,
        ),
        "points": (
            Chart(kind="points", x="step", y="v", color="run", log_x=True, **common),
            training,
        ),
        "vectors": (
            Chart(
                kind="points", x="u", y="v", facet="model", color="kind", vectors=True, **common
            ),
            columns,
        ),
        "graph": (
            Chart(
                kind="graph", x="from", y="to", value="v", x_level="from_level",
                y_level="to_level", color="through", **common,
            ),
            edges,
        ),
    }[name]  # fmt: skip


KINDS = [
    "attention", "facets", "heatmap", "bars", "groups", "line", "error-bars", "error-bands",
    "points", "vectors", "graph",
]  # fmt: skip


@pytest.fixture(params=KINDS)
def any_case(request):
    return _case(request.param)


@pytest.fixture
def case():
    return _case
