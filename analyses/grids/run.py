"""`run_grid`: an analysis over every combination of models and settings."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from analyses.grids.cells import (
    FAULTS,
    OpenCellWorker,
    done_cells,
    look_at_cell,
    read_cell,
    read_fault,
    weights_of,
)
from analyses.grids.merge import merge
from analyses.grids.plan import PLAN, GridPlan, begin, make_plan
from analyses.results.result import AnalysisResult
from analyses.results.storage import DOCUMENT, REPORT, TABLES, save
from interp.engines import Engine, make_engine
from interp.errors import InterpError, require
from interp.interventions import Intervention, Interventions
from interp.progress import report

FIGURES = "figures"
_MERGED = (TABLES, FIGURES, REPORT)  # and last of all the document, without which it is no result
_FRESH = ".merged"


class GridError(InterpError):
    """No cell of a grid could be run."""


def run_grid(
    name: str,
    models: Sequence[str | Path] = (),
    settings: Mapping[str, Any] | None = None,
    grid: Mapping[str, Iterable[Any]] | None = None,
    *,
    out: str | os.PathLike[str],
    quick: bool = False,
    interventions: Interventions | Intervention | Iterable[Intervention] = (),
    device: str | None = None,
    dtype: str | None = None,
    engine: str | Engine = "local",
    pictures: bool = True,
) -> AnalysisResult:
    """Run an analysis for every combination of models and values, and merge the results.

    Stopped at any moment, the same call goes on: cells that are done are kept. A cell that fails is
    told, and the others are run all the same; the same call runs those that failed again. With the
    same number of torch's threads, tables are the same bit for bit whatever the engine.

    Args:
        name: The analysis, as `list_analyses` names it.
        models: What `load_model` opens, by name or directory; an axis of the grid. None for an
            analysis that takes no model.
        settings: Parameters that are the same everywhere.
        grid: Values by parameter; the grid is their product.
        out: The grid's directory, a new or empty one or one that the same call began. The merged
            result is saved there, and each cell's under `cells/`.
        quick: Take smaller settings, for a first look.
        interventions: What the models are analysed with.
        device, dtype: How models are opened, as for `load_model`.
        engine: Who runs the cells: `local`, `ray`, or one that `interp.engines.make_engine` made.
        pictures: Whether figures are drawn into files and the report.

    Returns:
        The merged result; see `analyses.grids.merge.merge`.

    Raises:
        InputError: For an argument or a cell's parameters that break a rule, a directory that holds
            something else, or one that another grid began; the message says what differs.
        GridError: If every cell failed.
        EngineError: If the engine cannot go on.
        LockedError: If another process runs the grid.
    """
    plan = make_plan(
        name, models, settings, grid, quick=quick, interventions=interventions, device=device,
        dtype=dtype,
    )  # fmt: skip
    chosen = make_engine(engine) if isinstance(engine, str) else engine
    folder = Path(out).absolute()
    _require_ours(folder)
    folder.mkdir(parents=True, exist_ok=True)
    from interp.files.lock import locked

    with locked(folder) as token:
        begin(plan, folder)
        _run(plan, folder, chosen, token)
        results = {number: read_cell(folder, number) for number in done_cells(folder, plan)}
        weights_of(plan, {number: result.provenance for number, result in results.items()})
        faults = {
            number: read_fault(folder, number)
            for number in range(plan.n_cells)
            if number not in results
        }
        if not results:
            raise GridError(f"all {plan.n_cells} cells failed; the first: {faults[0]}")
        merged = merge(plan, results, faults)
        _publish(merged, folder, pictures)
    return merged


def _run(plan: GridPlan, folder: Path, engine: Engine, token: str) -> None:
    """Run the cells that have no result yet."""
    done = done_cells(folder, plan)
    known = {number: look_at_cell(folder, number) for number in done}
    missing = [number for number in range(plan.n_cells) if number not in known]
    shutil.rmtree(folder / FAULTS, ignore_errors=True)  # those are run again
    finished, failed = 0, 0

    def tell(number: int, fault: str) -> None:
        nonlocal finished, failed
        finished, failed = finished + 1, failed + bool(fault)
        line = f"cell {finished} of {len(missing)}"
        report(finished / len(missing), f"{line}, {failed} failed" if failed else line)

    weights = weights_of(plan, known)
    if missing:
        report(0.0, f"{len(missing)} of {plan.n_cells} cells to run")
    engine.run(OpenCellWorker(plan, str(folder), weights, token), missing, tell)


def _require_ours(folder: Path) -> None:
    require(not folder.exists() or folder.is_dir(), f"out must be a directory. {folder} is a file")
    names = set(os.listdir(folder)) if folder.exists() else set()
    require(
        not names or PLAN in names or names == {".lock"},
        f"out must be empty, or a grid that was begun. {folder} holds other files",
    )


def _publish(result: AnalysisResult, folder: Path, pictures: bool) -> None:
    """Put the merged result beside its cells; a reader meets all of it, or none."""
    fresh = folder / _FRESH
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        save(result, fresh, pictures)
        (folder / DOCUMENT).unlink(missing_ok=True)  # from here on there is none
        for name in _MERGED:
            _remove(folder / name)
            if (fresh / name).exists():
                os.rename(fresh / name, folder / name)
        os.rename(fresh / DOCUMENT, folder / DOCUMENT)  # and from here on it is whole
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
