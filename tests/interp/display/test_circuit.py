"""A circuit in a notebook: its strongest edges."""

from __future__ import annotations

from interp.circuits import Circuit
from interp.display import circuit as display
from tests.interp.charts.test_export import Reader

EDGES = {"embed->L0H1.v": 0.5, "L0H1->logits": -2.0, "embed->logits": 0.25}
FEEDS = {"L0H1.v": ("L0H1",), "logits": ()}


def test_edges_are_ordered_by_size() -> None:
    circuit = Circuit("<b>toy</b>", EDGES, FEEDS, "zeros", "by hand")
    page = Reader(circuit._repr_html_())
    assert page.open == [] and "b" not in [tag for tag, _ in page.tags]
    assert [cells for cells in page.cells if cells] == [
        ["L0H1->logits", "-2"], ["embed->L0H1.v", "+0.5"], ["embed->logits", "+0.25"],
    ]  # fmt: skip
    assert page.texts["summary"] == repr(circuit)
    assert repr(circuit) == (
        "Circuit of <b>toy</b>: 3 edges between 3 nodes; strongest L0H1->logits (-2)"
    )
    assert page.texts["p"] == "Outside of it: zeros. Found by: by hand."


def test_few_edges_are_shown_of_many(monkeypatch) -> None:
    monkeypatch.setattr(display, "MOST_EDGES", 2)
    page = Reader(Circuit("toy", EDGES, FEEDS)._repr_html_())
    assert len([cells for cells in page.cells if cells]) == 2
    assert page.texts["p"] == "and 1 edge with smaller scores"


def test_an_empty_circuit() -> None:
    assert repr(Circuit("toy", {}, {})) == "Circuit of toy: 0 edges between 0 nodes"
    assert Reader(Circuit("toy", {}, {})._repr_html_()).open == []
