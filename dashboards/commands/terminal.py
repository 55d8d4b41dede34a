"""What the command line prints: results and lists for a reader, progress for who waits."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

if TYPE_CHECKING:
    import pandas as pd

    from analyses.results.result import AnalysisResult

MAX_ROWS = 10  # of each table


def out() -> Console:
    """The console for what was asked for, on stdout."""
    return Console(highlight=False)


def waiting(message: str) -> AbstractContextManager[Any]:
    """Show on stderr what is being waited for; without a terminal nothing is shown."""
    return Console(stderr=True).status(escape(message))


@contextmanager
def progress_bar(message: str) -> Iterator[Callable[[float, str], None]]:
    """Show on stderr how far something has come; without a terminal nothing is shown.

    Yields:
        What `interp.progress.listening` takes.
    """
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    console = Console(stderr=True)
    left = TimeRemainingColumn()
    with Progress(*columns, left, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(escape(message), total=1.0)

        def tell(done: float, line: str) -> None:
            told = f"{message}: {line}" if line else message
            bar.update(task, completed=done, description=escape(told))

        yield tell


def print_error(message: str) -> None:
    """Print one line on stderr, whatever the message holds."""
    line = " ".join(message.split())
    Console(stderr=True, highlight=False).print(f"error: {line}", markup=False, soft_wrap=True)


def print_json(document: Any) -> None:
    """Print one JSON document on stdout; NaN and infinities, which JSON lacks, as text."""
    print(json.dumps(_finite(document), ensure_ascii=False, indent=1, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), -float("inf"))):
        return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[str(value)]
    return value


def print_rows(title: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table under its title; every cell is shown as text."""
    _print_grid(title, header, ([escape(str(cell)) for cell in row] for row in rows))


def _print_grid(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    grid = Table(box=box.SIMPLE_HEAD, show_header=any(header), pad_edge=False)
    for name in header:
        grid.add_column(escape(name), overflow="fold")
    for row in rows:
        grid.add_row(*row)
    console = out()
    console.print(f"[bold]{escape(title)}[/bold]")
    console.print(grid)


def print_result(result: "AnalysisResult") -> None:
    """Print a result: its question, the head of each table, checks and provenance."""
    from analyses.results.report import MAX_CHECKS, MAX_TABLES

    out().print(f"[bold]{escape(result.name)}[/bold]: {escape(result.question)}\n")
    if result.caveat:
        out().print(f"{escape(result.caveat)}\n")
    tables = list(result.tables.items())
    opened = len(tables) if len(tables) <= MAX_TABLES else 1
    for name, table in tables[:opened]:
        _print_table(name, table)
    if tables[opened:]:
        sizes = [(name, len(table)) for name, table in tables[opened:]]
        print_rows("saved too", ["table", "rows"], sizes)
    if result.figures:
        rows = [(name, chart.kind, chart.title) for name, chart in result.figures.items()]
        print_rows("figures", ["name", "kind", "title"], rows)
    failed = [check for check in result.checks if not check.passed]
    told_checks = result.checks if len(result.checks) - len(failed) <= MAX_CHECKS else failed
    checks = [
        (
            "[green]passed[/green]" if check.passed else "[red]FAILED[/red]",
            escape(check.name),
            f"{check.value:.3g}",
            f"{check.tolerance:.3g}",
            escape(check.note),
        )
        for check in told_checks
    ]
    passed = len(result.checks) - len(told_checks)
    if passed:
        out().print(f"[green]{passed} checks passed[/green]\n")
    if checks:
        _print_grid("checks", ["", "check", "value", "tolerance", "note"], checks)
    left_out = {"tokens", "str_tokens", "interventions_json"}
    record = result.provenance.model_dump(mode="json", exclude=left_out)
    record["interventions"] = "; ".join(result.provenance.interventions) or None
    told = {key: value for key, value in record.items() if value not in (None, {})}
    print_rows("provenance", ["", ""], [(key, _line(value)) for key, value in told.items()])


def _print_table(name: str, table: "pd.DataFrame") -> None:
    from analyses.results.report import is_turned

    if is_turned(table):
        first, *others = table.columns
        turned = [[column, *map(_cell, table[column])] for column in others]
        print_rows(f"{name} ({len(table)} rows, turned)", [first, *map(str, table[first])], turned)
        return
    shown = table.head(MAX_ROWS)
    left_out = len(table) - len(shown)
    size = f"{len(table)} rows" + (f", the last {left_out} left out" if left_out else "")
    rows = [[_cell(value) for value in row] for row in shown.itertuples(index=False)]
    print_rows(f"{name} ({size})", list(table.columns), rows)


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _line(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={each}" for key, each in value.items())
    return str(value)
