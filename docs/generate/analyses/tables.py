"""Tables of a page: parameters, checks, and rows of a result's tables."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from analyses import AnalysisResult, get_analysis
from analyses.results.checks import SCALED
from docs.generate.analyses.settings import PageSettings, parameters_of
from interp.charts.tokens import shortened, visible

if TYPE_CHECKING:
    import pandas as pd


def parameters_table(name: str, settings: PageSettings) -> str:
    """Every parameter: its type and limits, its default, its value on the page, what it means."""
    from dashboards.settings import describe

    here = parameters_of(name, settings)
    rows = []
    for each in describe(get_analysis(name).Params):
        value, meaning = here[each["name"]], _cell(each["help"])
        if value != each["default"]:
            meaning += f" *Here:* {_json(value)}"
        type_ = each["type"].replace(" | ", " or ")
        limits = _code(", ".join(filter(None, (type_, each["bounds"]))))
        rows.append((f"`{each['name']}`", limits, _json(each["default"]), meaning))
    return _table(("parameter", "type", "default", "meaning"), rows)


def checks_table(result: AnalysisResult) -> str:
    """The checks of a result: what must hold, how far from it the run was, how far it may be."""
    rows = []
    for each in result.checks:
        what = _cell(each.note.removesuffix(f"; {SCALED}"))
        if each.note.endswith(SCALED):
            what += " ([scaled](index.md#checks))"
        rows.append((f"`{each.name}`", f"{each.value:.1e}", f"{each.tolerance:.1e}", what))
    return _table(("check", "found", "at most", "what"), rows)


def rows_table(rows: pd.DataFrame) -> str:
    """Rows of a result's table."""
    tokens = [str(column).endswith("token") for column in rows.columns]
    cells = [
        [_value(value, is_token) for value, is_token in zip(row, tokens, strict=True)]
        for row in rows.itertuples(index=False)
    ]
    return _table([f"`{column}`" for column in rows.columns], cells)


def _value(value: Any, is_token: bool) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return _cell(visible(value) if is_token and isinstance(value, str) else str(value))


def _json(value: Any) -> str:
    return _code(json.dumps(value, ensure_ascii=False))


def _code(text: str) -> str:
    """Code in a cell of a table; long values are cut."""
    text = shortened(text, 60)
    if "|" in text or "`" in text:  # GitHub and Markdown for Python escape these differently
        return f"<code>{html.escape(text, quote=False).replace('|', '&#124;')}</code>"
    return f"`{text}`"


def _cell(text: str) -> str:
    return plain(text, "|[")


def plain(text: str, marks: str) -> str:
    """A text on one line that holds no markup, neither these marks nor those of any text."""
    text = html.escape(" ".join(text.split()), quote=False)
    for mark in f"\\`*_{marks}":
        text = text.replace(mark, f"\\{mark}")
    return text


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
