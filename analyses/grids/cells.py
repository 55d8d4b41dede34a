"""The cells of a grid on disk, and what runs them in this process or another.

<directory>/
  cells/00003/          the result of a cell, as any result is saved, without pictures
  faults/00003.txt      why a cell failed
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from analyses.grids.plan import GridPlan
from analyses.registry import get_analysis, run_analysis
from analyses.results.provenance import Provenance
from analyses.results.result import AnalysisResult
from analyses.results.storage import DOCUMENT, load, look, save
from interp.errors import InputError, InterpError
from interp.files.atomic import replacing_file
from interp.progress import listening

CELLS = "cells"
FAULTS = "faults"
_MOST_OF_FAULT = 2_000  # characters that are kept

T = TypeVar("T")


@dataclass(frozen=True)
class MadeCell:
    """A cell that was run: its result, or why it failed."""

    number: int
    result: AnalysisResult | None
    fault: str = ""


class CellWorker:
    """Runs cells; a model stays open until a cell needs another one.

    Args:
        plan: The grid.
        folder: Its directory.
        weights: The hash of each model's weights, as far as cells that are done tell it.
        token: Of the lock on the directory; work for a driver that has lost it is dropped.
    """

    def __init__(
        self, plan: GridPlan, folder: Path, weights: Mapping[str, str], token: str
    ) -> None:
        self._plan, self._folder, self._weights, self._token = plan, folder, weights, token
        self._cells = plan.cells()
        self._opened: tuple[str | None, Any] = (None, None)

    def make(self, item: int) -> MadeCell:
        """Run a cell. What goes wrong in it is its own: others are run all the same."""
        cell, plan = self._cells[item], self._plan
        try:
            with listening(None):  # its own steps are no steps of the grid
                model = None if cell.model is None else self._open(cell.model)
                result = run_analysis(
                    plan.analysis,
                    model,
                    plan.quick,
                    _interventions(plan),
                    **{**plan.settings, **cell.values},
                )
        except ChangedModelError:
            raise
        except InterpError as fault:
            return MadeCell(item, None, str(fault))
        except Exception as fault:  # such as memory that does not suffice for this cell alone
            return MadeCell(item, None, f"{type(fault).__name__}: {fault}")
        return MadeCell(item, result)

    def finish(self, made: MadeCell) -> str:
        """Write it down; gives why it failed, empty where it did not.

        Raises:
            LockedError: If another driver runs the grid now.
        """
        from interp.files.lock import require_held

        require_held(self._folder, self._token)
        if made.result is None:
            told = " ".join(made.fault.encode("utf-8", "backslashreplace").decode().split())
            fault = told[:_MOST_OF_FAULT] or "it failed without a message"
            with replacing_file(_fault_file(self._folder, made.number)) as fresh:
                fresh.write_text(fault, encoding="utf-8")
            return fault
        save(made.result, cell_folder(self._folder, made.number), pictures=False)
        _fault_file(self._folder, made.number).unlink(missing_ok=True)
        return ""

    def _open(self, name: str) -> Any:
        if self._opened[0] == name:
            return self._opened[1]
        self._opened = (None, None)  # memory need not hold two
        from interp.pretrained import load_model
        from interp.weights import weight_hash

        model = load_model(name, self._plan.device, self._plan.dtype)
        known = self._weights.get(name)
        if known is not None and weight_hash(model) != known:
            raise ChangedModelError(
                f"the weights of {name} are others than those of the cells that are done: "
                "give another directory for a new grid."
            )
        self._opened = (name, model)
        return model


class ChangedModelError(InputError):
    """A model is not the one that earlier cells of a grid were run with."""


@dataclass(frozen=True)
class OpenCellWorker:
    """Opens a `CellWorker`, wherever it is called."""

    plan: GridPlan
    folder: str
    weights: dict[str, str]
    token: str

    def __call__(self) -> CellWorker:
        """The worker, in the process that is to run cells."""
        get_analysis(self.plan.analysis)
        return CellWorker(self.plan, Path(self.folder), self.weights, self.token)


def cell_folder(folder: Path, number: int) -> Path:
    """Where a cell's result is."""
    return folder / CELLS / f"{number:05d}"


def done_cells(folder: Path, plan: GridPlan) -> list[int]:
    """The cells that have a result."""
    return [
        number
        for number in range(plan.n_cells)
        if (cell_folder(folder, number) / DOCUMENT).is_file()
    ]


def read_cell(folder: Path, number: int) -> AnalysisResult:
    """A cell's result.

    Raises:
        InputError: If it is damaged; the message says how to have it run again.
    """
    return _read(load, cell_folder(folder, number))


def look_at_cell(folder: Path, number: int) -> Provenance:
    """What a cell's result was made from, without its tables.

    Raises:
        InputError: As `read_cell`.
    """
    return _read(look, cell_folder(folder, number)).provenance


def read_fault(folder: Path, number: int) -> str:
    """Why a cell failed; empty where it did not, or was not run."""
    path = _fault_file(folder, number)
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def weights_of(plan: GridPlan, done: Mapping[int, Provenance]) -> dict[str, str]:
    """The hash of each model's weights, as the cells that are done tell it.

    Raises:
        ChangedModelError: If two cells of a model tell different ones.
    """
    found: dict[str, str] = {}
    cells = plan.cells()
    for number, provenance in done.items():
        model, sha = cells[number].model, provenance.weight_hash
        if model is None or sha is None:
            continue
        if found.setdefault(model, sha) != sha:
            raise ChangedModelError(
                f"cells of {model} were run with different weights: {found[model]} and {sha}."
            )
    return found


def _fault_file(folder: Path, number: int) -> Path:
    return folder / FAULTS / f"{number:05d}.txt"


def _read(reader: Callable[[Path], T], path: Path) -> T:
    try:
        return reader(path)
    except InputError as fault:
        raise InputError(f"{fault}. Delete {path}, and it is run again.") from fault


def _interventions(plan: GridPlan) -> Any:
    from interp.interventions import Interventions

    if plan.interventions_json is None:
        return ()
    return Interventions.from_json(plan.interventions_json)
