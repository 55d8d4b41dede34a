"""Interventions in a notebook: a line for each, in their order."""

from __future__ import annotations

from interp.interventions import Interventions, KnockOutHead, Place, Zero
from tests.interp.charts.test_export import Reader


def test_each_has_its_line() -> None:
    plan = Interventions([Zero(Place("<script>z", layers=0)), KnockOutHead("L0H1")])
    html = plan._repr_html_()
    page = Reader(html)
    assert page.open == [] and "script" not in [tag for tag, _ in page.tags]
    assert page.texts["summary"] == "2 interventions"
    assert [tag for tag, _ in page.tags].count("li") == 2
    assert page.texts["li"] == "".join(each.describe() for each in plan)
    assert Reader(Interventions([])._repr_html_()).texts["summary"] == "0 interventions"
