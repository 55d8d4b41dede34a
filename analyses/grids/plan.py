"""What a grid runs: its cells, and the file in its directory that says so."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from analyses.registry import get_analysis, validate_params
from interp.errors import InputError, require
from interp.files.atomic import replacing_file
from interp.interventions import Intervention, Interventions

PLAN = "grid.json"
MOST_CELLS = 10_000
_MOST_OF_VALUE = 60  # characters of a value in a label


@dataclass(frozen=True)
class Cell:
    """One run of a grid.

    Attributes:
        number: From 0, models outermost and the last axis innermost.
        model: What its model is opened by; None for an analysis without one.
        values: What it sets along each axis, by parameter.
    """

    number: int
    model: str | None
    values: dict[str, JsonValue]

    def label(self, with_model: bool) -> str:
        """Such as `model=zoo:induction, seed=3`."""
        named = {"model": self.model, **self.values} if with_model else self.values
        told = [f"{name}={_shortened(scalar(value))}" for name, value in named.items()]
        return ", ".join(told) or f"cell {self.number}"


class GridPlan(BaseModel):
    """All that decides what a grid's cells give.

    Attributes:
        analysis: The analysis that is run in each cell.
        models: What the models are opened by, an axis; empty for an analysis without one.
        settings: Parameters that are the same in all cells.
        axes: The values of each parameter that varies.
        quick: Whether the smaller settings are taken.
        interventions_json: What the models are analysed with; None: nothing.
        device, dtype: How models are opened; None: as `load_model` does.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    schema_version: Literal[1] = 1
    analysis: str
    models: list[str]
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    axes: dict[str, list[JsonValue]] = Field(default_factory=dict)
    quick: bool = False
    interventions_json: str | None = None
    device: str | None = None
    dtype: str | None = None

    @property
    def shape(self) -> dict[str, int]:
        """How many values there are along each axis, that of models included where there is one."""
        models = {"model": len(self.models)} if len(self.models) > 1 else {}
        return models | {name: len(values) for name, values in self.axes.items()}

    @property
    def n_cells(self) -> int:
        """How many runs there are."""
        return max(1, len(self.models)) * math.prod(map(len, self.axes.values()))

    def cells(self) -> list[Cell]:
        """Every cell, in order of its number."""
        models: list[str | None] = [*self.models] or [None]
        products = itertools.product(models, itertools.product(*self.axes.values()))
        return [
            Cell(number, model, dict(zip(self.axes, values, strict=True)))
            for number, (model, values) in enumerate(products)
        ]


def make_plan(
    name: str,
    models: Sequence[str | Path] = (),
    settings: Mapping[str, Any] | None = None,
    grid: Mapping[str, Iterable[Any]] | None = None,
    *,
    quick: bool = False,
    interventions: Interventions | Intervention | Iterable[Intervention] = (),
    device: str | None = None,
    dtype: str | None = None,
) -> GridPlan:
    """Make a plan; every cell's parameters are checked.

    Args:
        name, models, settings, grid, quick, interventions, device, dtype: As for `run_grid`.

    Raises:
        InputError: As `run_grid`.
    """
    cls = get_analysis(name)
    require(
        not isinstance(models, str | Path),
        f"models must be a list of names. Received {models!r}",
    )
    opened = [str(each) for each in models]
    _require_distinct("models", opened)
    require(bool(opened) == cls.needs_model, _about_models(name, cls.needs_model, opened))
    axes = {key: _values(key, values) for key, values in (grid or {}).items()}
    common = dict(settings or {})
    for key in axes:
        require(
            key not in common,
            f"a parameter is either set or an axis. Received {key!r} as both",
        )
    n_cells = max(1, len(opened)) * math.prod(map(len, axes.values()))
    require(n_cells <= MOST_CELLS, f"a grid has {MOST_CELLS} cells at most. Received {n_cells}")
    dumped: dict[str, list[JsonValue]] = {key: [] for key in axes}
    for key, values in axes.items():
        for value in values:
            dumped[key].append(_as_json(cls, {**common, key: value}, key))
        _require_distinct(key, list(map(scalar, dumped[key])))
    plan = (interventions,) if isinstance(interventions, Intervention) else tuple(interventions)
    made = GridPlan(
        analysis=name,
        models=opened,
        settings={key: _as_json(cls, common, key) for key in common},
        axes=dumped,
        quick=quick,
        interventions_json=Interventions(plan).to_json() if plan else None,
        device=device,
        dtype=dtype,
    )
    for cell in made.cells():
        validate_params(cls, {**made.settings, **cell.values})
    return made


def begin(plan: GridPlan, folder: Path) -> None:
    """Write the plan into its directory; one that is there already must be the same.

    Raises:
        InputError: If another grid was begun there; the message says what differs.
    """
    path = folder / PLAN
    if not path.exists():
        with replacing_file(path) as fresh:
            fresh.write_text(plan.model_dump_json(indent=1), encoding="utf-8")
        return
    earlier, now = read_plan(folder).model_dump(), plan.model_dump()
    differing = [
        f"{key}: {_shortened(json.dumps(earlier[key]))} → {_shortened(json.dumps(now[key]))}"
        for key in now
        if earlier[key] != now[key]
    ]
    if differing:
        raise InputError(
            f"{folder} holds a grid that was begun with other settings, {'; '.join(differing)}. "
            "Give those, or another directory."
        )


def read_plan(folder: Path) -> GridPlan:
    """The plan of a grid's directory.

    Raises:
        InputError: If it is damaged.
    """
    path = folder / PLAN
    try:
        return GridPlan.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as fault:
        told = str(fault).splitlines()[0]
        raise InputError(f"{path} is damaged: {told:.300}") from fault


def scalar(value: JsonValue) -> str | int | float | bool:
    """A value as a table holds it: what is neither text nor number as JSON."""
    if isinstance(value, str | int | float):
        return value
    return json.dumps(value, ensure_ascii=False)


def _as_json(cls: Any, params: Mapping[str, Any], key: str) -> Any:
    """A parameter's value as JSON has it, checked."""
    return validate_params(cls, params).model_dump(mode="json")[key]


def _values(key: str, values: Iterable[Any]) -> list[Any]:
    require(
        isinstance(values, Iterable) and not isinstance(values, str | bytes | Mapping),
        f"an axis takes a list of values: {key!r}. Received {values!r:.200}",
    )
    found = list(values)
    require(bool(found), f"an axis has at least one value: {key!r}. Received []")
    return found


def _require_distinct(key: str, values: Sequence[Any]) -> None:
    seen: set[tuple[type, Any]] = set()
    for value in values:
        require(
            (type(value), value) not in seen,
            f"the values of an axis must differ: {key!r}. Received {value!r:.100} twice",
        )
        seen.add((type(value), value))


def _about_models(name: str, needs: bool, given: list[str]) -> str:
    if needs:
        return f"{name} needs at least one model. Received none"
    return f"{name} takes no model. Received {', '.join(given)}"


def _shortened(value: object) -> str:
    told = " ".join(str(value).split())
    return told if len(told) <= _MOST_OF_VALUE else f"{told[:_MOST_OF_VALUE]} …"
