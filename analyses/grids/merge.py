"""The results of a grid's cells as one result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import pandas as pd
from pydantic import JsonValue

from analyses.grids.plan import GridPlan
from analyses.grids.tables import axis_values, columns_of_axes, merged_table
from analyses.registry import get_analysis
from analyses.results.provenance import Provenance
from analyses.results.result import AnalysisResult, Check
from interp.charts.spec import Chart
from interp.errors import InputError

MOST_FIGURES = 24
OVERVIEW = "grid-cells"
_MOST_OF_NAME = 80  # characters of a figure's own name

T = TypeVar("T")


def merge(
    plan: GridPlan, results: Mapping[int, AnalysisResult], faults: Mapping[int, str]
) -> AnalysisResult:
    """Merge cells into one result.

    Its tables are those of the cells, one below the other, with a column for the number of the cell
    and for each axis; `grid-cells` has a row for each cell. Its charts are those of the first
    cells, each drawn from the rows of its own. Its checks are those of all cells, and that every
    cell was done. Of its provenance, what differs from cell to cell is left out, or told together.

    Args:
        plan: The grid.
        results: Those of the cells that were done, by number; at least one.
        faults: Why each of the others failed, by number.
    """
    tables = {OVERVIEW: _overview(plan, results, faults)}
    for name in dict.fromkeys(name for result in results.values() for name in result.tables):
        parts = {n: r.tables[name] for n, r in results.items() if name in r.tables}
        tables[name] = merged_table(plan, parts)
    figures, shown = _figures(plan, results, tables)
    cls = get_analysis(plan.analysis)
    return AnalysisResult(
        name=f"{plan.analysis}-grid",
        question=cls.question,
        caveat=_caveat(cls.caveat, plan, results, shown),
        tables=tables,
        figures=figures,
        checks=_checks(plan, results, faults),
        provenance=_provenance(plan, results),
    )


def _overview(
    plan: GridPlan, results: Mapping[int, AnalysisResult], faults: Mapping[int, str]
) -> pd.DataFrame:
    rows = []
    for cell in plan.cells():
        result = results.get(cell.number)
        rows.append(
            {
                **axis_values(plan, cell),
                "done": result is not None,
                "checks": 0 if result is None else len(result.checks),
                "failed_checks": 0 if result is None else sum(not c.passed for c in result.checks),
                "fault": faults.get(cell.number, ""),
            }
        )
    return pd.DataFrame(rows)


def _figures(
    plan: GridPlan, results: Mapping[int, AnalysisResult], tables: Mapping[str, pd.DataFrame]
) -> tuple[dict[str, Chart], int]:
    """The charts of as many cells as there is room for, and of how many that is."""
    found: dict[str, Chart] = {}
    cells, shown = plan.cells(), 0
    for number in sorted(results):
        result = results[number]
        if found and len(found) + len(result.figures) > MOST_FIGURES:
            break
        label = cells[number].label("model" in plan.shape)
        for name, chart in list(result.figures.items())[:MOST_FIGURES]:
            column = columns_of_axes(plan, list(result.tables[chart.table].columns))["cell"]
            drawn = _of_cell(chart, column, number, label)
            if _fits(drawn, tables[chart.table]):
                found[f"{name[:_MOST_OF_NAME]}-cell-{number}"] = drawn
        shown += 1
    return found, shown


def _of_cell(chart: Chart, column: str, number: int, label: str) -> Chart:
    known = chart.model_dump()
    known["where"] = {**known["where"], column: number}
    known["title"] = f"{chart.title} · {label}"
    known["alt"] = f"{label}: {chart.alt}"
    return Chart.model_validate(known)


def _fits(chart: Chart, table: pd.DataFrame) -> bool:
    """Whether it can be drawn still, after columns took the kind that suits all cells."""
    try:
        chart.rows(table)
    except InputError:
        return False
    return True


def _checks(
    plan: GridPlan, results: Mapping[int, AnalysisResult], faults: Mapping[int, str]
) -> list[Check]:
    cells = plan.cells()
    first = next((f"cell {number}: {fault}" for number, fault in sorted(faults.items())), "")
    done = Check("cells that failed", len(faults), 0.0, first)
    return [done] + [
        replace(check, name=f"{cells[number].label('model' in plan.shape)}: {check.name}")
        for number in sorted(results)
        for check in results[number].checks
    ]


def _caveat(own: str, plan: GridPlan, results: Mapping[int, AnalysisResult], shown: int) -> str:
    told = [own] if own else []
    if len(results) < plan.n_cells:
        told.append(
            f"{plan.n_cells - len(results)} of {plan.n_cells} cells failed and are in no table but "
            f"{OVERVIEW}, which says why; the same call runs them again."
        )
    if shown < len(results):
        told.append(
            f"Charts are those of the first {shown} of {len(results)} cells that were done; the "
            "tables have all."
        )
    return " ".join(told)


def _provenance(plan: GridPlan, results: Mapping[int, AnalysisResult]) -> Provenance:
    each = [results[number].provenance for number in sorted(results)]
    cells = plan.cells()
    beside: dict[str, str] = {}
    for number in sorted(results):
        of_cell = results[number].provenance
        beside |= of_cell.beside
        if len(plan.models) > 1 and of_cell.weight_hash is not None:
            beside[str(cells[number].model)] = of_cell.weight_hash
    record = plan.model_dump(mode="json", exclude={"schema_version", "interventions_json"})
    kept: dict[str, JsonValue] = {
        key: value
        for key, value in each[0].parameters.items()
        if all(key in p.parameters and _same(p.parameters[key], value) for p in each)
    }
    return Provenance(
        model=None if len(plan.models) > 1 else each[0].model,
        weight_processing=_shared([p.weight_processing for p in each]) or [],
        weight_hash=_shared([p.weight_hash for p in each]),
        beside=beside,
        tokens=_shared([p.tokens for p in each]),
        str_tokens=_shared([p.str_tokens for p in each]),
        parameters=kept,
        grid=record,
        interventions=_shared([p.interventions for p in each]) or [],
        interventions_json=plan.interventions_json,
        seed=_shared([p.seed for p in each]),
        versions=_versions(each),
        device=_together([p.device for p in each]),
        dtype=_together([p.dtype for p in each if p.dtype is not None]) or None,
        seconds=sum(p.seconds for p in each),
        created=max(p.created for p in each),
    )


def _shared(values: Sequence[T]) -> T | None:
    """What all have; None where they differ."""
    return values[0] if all(_same(value, values[0]) for value in values) else None


def _same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and a == b


def _together(values: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(values))


def _versions(each: Sequence[Provenance]) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    for provenance in each:
        for name, version in provenance.versions.items():
            found.setdefault(name, []).append(version)
    return {name: _together(versions) for name, versions in found.items()}
