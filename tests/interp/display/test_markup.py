"""What all displays are made of."""

from __future__ import annotations

import pytest

from interp.display.markup import count_text, folded, one_line, shape_text, table
from tests.interp.charts.test_export import HOSTILE, Reader


def test_any_text_is_one_line_of_data() -> None:
    page = Reader(
        folded("x", "".join(HOSTILE) + "\n", table(["a"], [[t] for t in HOSTILE]), is_open=True)
    )
    assert page.open == []
    assert {tag for tag, _ in page.tags} == {
        "details", "summary", "div", "table", "thead", "tbody", "tr", "th", "td",
    }  # fmt: skip
    assert page.texts["summary"].count("\n") == 0
    assert [cells[0] for cells in page.cells if cells][2] == r"\u202eevil"
    assert one_line("a\nb\x00") == r"a\nb\x00"


@pytest.mark.parametrize(("n", "text"), [(0, "0 rows"), (1, "1 row"), (1200, "1,200 rows")])
def test_counts(n: int, text: str) -> None:
    assert count_text(n, "row") == text


def test_shapes() -> None:
    assert shape_text((2, 3)) == "[2, 3]" and shape_text(()) == "[]"
