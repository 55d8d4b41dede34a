"""What a notebook is given to show a chart."""

import base64
import xml.etree.ElementTree as ET

import pytest

from interp.charts import show
from interp.errors import InputError
from tests.interp.charts.test_export import Reader, hostile_case


def test_a_shown_chart_is_its_picture_with_alternative_and_rows():
    chart, table = hostile_case()
    page = Reader(show(chart, table)._repr_html_())
    assert page.open == []
    assert not {"script", "style"} & {tag for tag, _ in page.tags}
    (image,) = [attrs for tag, attrs in page.tags if tag == "img"]
    assert image["alt"] == chart.alt
    kind, _, data = image["src"].partition(",")
    assert kind == "data:image/svg+xml;base64"
    svg = ET.fromstring(base64.b64decode(data))
    assert svg[0].text == chart.title and svg[1].text == chart.alt
    assert len([cells for cells in page.cells if cells]) == len(table)


def test_a_chart_that_does_not_fit_is_refused_at_once(case):
    chart, table = case("bars")
    with pytest.raises(InputError, match="column 'v'"):
        show(chart, table.drop(columns="v"))
    shown = show(chart, table)
    assert repr(shown) == f"{chart.title} (bars, 4 rows of table 't'): {chart.alt}"
