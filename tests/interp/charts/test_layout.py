"""Where panels and labels go: read from drawn figures."""

import pandas as pd
import pytest

pytest.importorskip("seaborn", reason="needs the extra 'plots'")

from interp.charts import Chart
from interp.charts.mpl import draw
from interp.charts.mpl.layout import n_columns
from interp.charts.tokens import place_label

LONG = "held-out score (± half a 95 % interval) of what is read"


def test_many_panels_stand_in_rows_narrow_enough_to_be_read():
    assert [n_columns(n) for n in range(1, 10)] == [1, 2, 3, 2, 3, 3, 3, 3, 3]


@pytest.mark.parametrize(("n_panels", "label"), [(2, LONG), (1, 2 * LONG), (1, "loss")])
def test_a_vertical_label_stays_inside_the_figure(n_panels, label):
    sites = [f"L{layer} resid_{at}" for layer in range(3) for at in ("pre", "mid", "post")]
    table = pd.DataFrame(
        {
            "site": sites * n_panels,
            "panel": [f"{i}" for i in range(n_panels) for _ in sites],
            "value": range(len(sites) * n_panels),
        }
    )
    chart = Chart(
        title="What is read", alt="Reads.", kind="line", table="reads", x="site", y="value",
        y_label=label, facet="panel" if n_panels > 1 else None,
    )  # fmt: skip
    figure = draw(chart, table)
    figure.draw_without_rendering()
    text = figure.axes[0].yaxis.label
    box = text.get_window_extent()
    assert box.y0 >= 0
    assert box.y1 <= figure.bbox.height
    assert " ".join(text.get_text().split()) == label


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("L0 resid_pre", "L0 resid_pre"), (" Mary", "·Mary"), ("x ", "x·"), ("a  b", "a··b"),
        (" a b ", "·a b·"), (" ", "·"), ("", "∅"), ("a\tb c", "a⇥b c"),
    ],
)  # fmt: skip
def test_a_space_between_words_is_left_alone(text, shown):
    assert place_label(text) == shown
