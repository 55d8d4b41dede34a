"""A result as one HTML page that needs no other file: for a colleague, or an archive."""

import re
from collections.abc import Iterable, Mapping, Sequence
from string import Template
from typing import TYPE_CHECKING, Any

import pandas as pd

from interp.charts.markup import escape
from interp.charts.tokens import visible

if TYPE_CHECKING:
    from analyses.results.provenance import Provenance
    from analyses.results.result import AnalysisResult, Check

MAX_ROWS = 20  # of each table; the rest is counted
MAX_TOKENS = 200  # of each input row
MAX_CHECKS = 12  # that passed; where there are more, they are folded
MAX_TABLES = 12  # that stand open; where there are more, each but the first is folded
MAX_COLUMNS = 12  # of a table with few rows; where there are more, it is turned
FEW_ROWS = 8

_STYLE = """
.interp{--ink:#1b1b1f;--dim:#5c5c66;--paper:#fff;--line:#d9d9e0;--good:#0b6b2e;--bad:#b3261e;
color:var(--ink);background:var(--paper);font:16px/1.5 system-ui,sans-serif}
@media(prefers-color-scheme:dark){.interp{--ink:#ececf1;--dim:#a5a5b0;--paper:#17171b;
--line:#3a3a44;--good:#6fdd8b;--bad:#ff8a80}}
.interp h1{font-size:1.5rem;margin:0}
.interp h2{font-size:1.15rem;margin:2rem 0 .5rem}
.interp .question{color:var(--dim);margin:.25rem 0 1rem}
.interp .caveat{border-left:3px solid var(--line);padding-left:.75rem;max-width:45rem}
.interp figure{margin:1rem 0;overflow-x:auto}
.interp figure>div{background:#fff;border-radius:4px;padding:4px;width:fit-content}
.interp svg{display:block;max-width:max(100%,36rem);height:auto}
.interp .scroll{overflow-x:auto;margin-bottom:1.5rem}
.interp table{border-collapse:collapse;font-size:.875rem;font-variant-numeric:tabular-nums}
.interp caption{text-align:left;white-space:nowrap;color:var(--dim);padding:.25rem 0}
.interp th,.interp td{padding:.25rem .75rem .25rem 0;border-bottom:1px solid var(--line);
text-align:left;vertical-align:top;color:inherit;background:none}
.interp .number{text-align:right;white-space:nowrap}
.interp td.text{white-space:pre-wrap;overflow-wrap:break-word;min-width:5rem;max-width:30rem}
.interp summary{cursor:pointer;padding:.25rem 0}
.interp .passed{color:var(--good);font-weight:600}
.interp .failed{color:var(--bad);font-weight:600}
.interp .token{display:inline-block;border:1px solid var(--line);border-radius:3px;
padding:0 .2rem;margin:1px;font:.8125rem/1.4 ui-monospace,monospace}
"""

_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<style>
body{margin:0}
body.interp main{max-width:60rem;margin:auto;padding:1rem}
$style</style>
</head>
<body class="interp">
<main>
$body
</main>
</body>
</html>
""")


def page(result: "AnalysisResult", drawings: Mapping[str, str]) -> str:
    """The whole page, as valid HTML 5.

    Args:
        result: What to tell.
        drawings: Each of its figures by name, as an SVG document.
    """
    return _PAGE.substitute(
        title=escape(f"{result.name}: {result.question}"),
        style=_STYLE,
        body=_body(result, drawings),
    )


def fragment(result: "AnalysisResult", drawings: Mapping[str, str]) -> str:
    """The page's contents alone, to stand inside another page or a notebook."""
    return f'<style>{_STYLE}</style>\n<div class="interp">\n{_body(result, drawings)}\n</div>'


def _body(result: "AnalysisResult", drawings: Mapping[str, str]) -> str:
    parts = [
        f"<h1>{escape(result.name)}</h1>",
        f'<p class="question">{escape(result.question)}</p>',
        *([f'<p class="caveat">{escape(result.caveat)}</p>'] if result.caveat else []),
        "<h2>Checks</h2>",
        _checks(result.checks),
    ]
    if drawings:
        parts.append("<h2>Figures</h2>")
        parts += [_figure(name, drawing) for name, drawing in drawings.items()]
    if result.tables:
        parts.append("<h2>Tables</h2>")
        folds = len(result.tables) > MAX_TABLES
        for i, (name, table) in enumerate(result.tables.items()):
            shown = _table(name, table)
            parts.append(_folded(f"{name} ({_size(table)})", shown) if folds and i else shown)
    parts += ["<h2>Provenance</h2>", _provenance(result.provenance)]
    return "\n".join(parts)


def _checks(checks: Sequence["Check"]) -> str:
    failed = [check for check in checks if not check.passed]
    passed = [check for check in checks if check.passed]
    if len(passed) <= MAX_CHECKS:
        return _check_rows(checks)
    found = [_check_rows(failed)] if failed else []
    return "\n".join([*found, _folded(f"{len(passed)} checks passed", _check_rows(passed))])


def _check_rows(checks: Iterable["Check"]) -> str:
    rows = [
        (
            _mark(check.passed),
            _cell(check.name),
            _cell(check.value),
            _cell(check.tolerance),
            _cell(check.note),
        )
        for check in checks
    ]
    header = {"": False, "check": False, "value": True, "tolerance": True, "note": False}
    return _grid(header, rows)


def _mark(passed: bool) -> str:
    word = "passed" if passed else "failed"
    return f'<td class="{word}">{word}</td>'


def _figure(name: str, drawing: str) -> str:
    return f'<figure id="figure-{name}"><div>{_inline(drawing, name)}</div></figure>'


def _inline(drawing: str, name: str) -> str:
    """An SVG document as an element of the page, its ids made distinct from other figures'."""

    def renamed(tag: "re.Match[str]") -> str:
        return re.sub(r'(\bid="|\bhref="#|\burl\(#)', rf"\g<1>{name}--", tag[0])

    # In tags alone: a token may read `url(#`.
    return re.sub("<[^>]*>", renamed, drawing[drawing.index("<svg") :])


def is_turned(table: pd.DataFrame) -> bool:
    """Whether a table is too wide to read, and has so few rows that they can stand as columns."""
    few = len(table) <= FEW_ROWS and len(table.columns) > MAX_COLUMNS
    return few and bool(table.iloc[:, 0].astype(str).is_unique)


def _turned(name: str, table: pd.DataFrame) -> str:
    first, *others = table.columns
    header = {str(first): False} | {str(value): True for value in table[first]}
    rows = [(f"<th>{escape(c)}</th>", *map(_cell, table[c])) for c in others]
    return _grid(header, rows, f"{name} ({_size(table)}, turned)")


def _table(name: str, table: pd.DataFrame) -> str:
    if is_turned(table):
        return _turned(name, table)
    shown = table.head(MAX_ROWS)
    rows = [tuple(_cell(value) for value in row) for row in shown.itertuples(index=False)]
    left_out = len(table) - len(shown)
    size = _size(table) + (f", the last {left_out} left out here" if left_out else "")
    header = {
        column: pd.api.types.is_numeric_dtype(table[column])
        and not pd.api.types.is_bool_dtype(table[column])
        for column in table.columns
    }
    return _grid(header, rows, f"{name} ({size})")


def _size(table: pd.DataFrame) -> str:
    return f"{len(table)} rows"


def _folded(summary: str, contents: str) -> str:
    """What opens when its line is clicked."""
    return f"<details><summary>{escape(summary)}</summary>\n{contents}</details>"


def _provenance(provenance: "Provenance") -> str:
    left_out = {"tokens", "str_tokens", "versions", "interventions", "interventions_json", "grid"}
    record = provenance.model_dump(mode="json", exclude=left_out)
    record |= {f"grid: {key}": value for key, value in (provenance.grid or {}).items()}
    record |= {f"weights of {name}": sha for name, sha in record.pop("beside").items()}
    record |= {f"parameter {key}": value for key, value in record.pop("parameters").items()}
    record |= {f"intervention {i}": each for i, each in enumerate(provenance.interventions)}
    record["versions"] = ", ".join(f"{k} {v}" for k, v in provenance.versions.items())
    rows = [(f"<th>{escape(key)}</th>", _cell(value)) for key, value in record.items()]
    inputs: Sequence[Sequence[str | int]] = provenance.str_tokens or provenance.tokens or []
    rows += [(f"<th>input {i}</th>", f"<td>{_tokens(row)}</td>") for i, row in enumerate(inputs)]
    return _grid({}, rows)


def _tokens(row: Iterable[str | int]) -> str:
    texts = [visible(token) if isinstance(token, str) else str(token) for token in row]
    spans = [f'<span class="token">{escape(text)}</span>' for text in texts[:MAX_TOKENS]]
    left_out = len(texts) - len(spans)
    return "".join(spans) + (f" and {left_out} more" if left_out else "")


def _grid(header: Mapping[str, bool], rows: Iterable[tuple[str, ...]], caption: str = "") -> str:
    """A table of ready cells; the header says of each column whether it holds numbers."""
    head = "".join(
        f'<th class="number">{escape(name)}</th>' if number else f"<th>{escape(name)}</th>"
        for name, number in header.items()
    )
    return "\n".join(
        [
            '<div class="scroll"><table>',
            f"<caption>{escape(caption)}</caption>" if caption else "",
            f"<thead><tr>{head}</tr></thead>" if head else "",
            "<tbody>",
            *(f"<tr>{''.join(cells)}</tr>" for cells in rows),
            "</tbody></table></div>",
        ]
    )


def _cell(value: Any) -> str:
    if isinstance(value, bool) or not pd.api.types.is_number(value):
        return f'<td class="text">{escape(_text(value))}</td>'
    number = f"{value:.4g}" if isinstance(value, float) else str(value)
    return f'<td class="number">{number}</td>'


def _text(value: Any) -> str:
    return "none" if value is None else str(value)
