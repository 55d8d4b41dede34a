"""The Python that makes a result again, with `interp` and `analyses` alone."""

from __future__ import annotations

import math
from pprint import pformat
from typing import Any

from analyses import AnalysisResult
from analyses.results.provenance import Provenance

WIDTH = 96  # characters of a line


def script(result: AnalysisResult, model: str | None = None) -> str:
    """A whole script, which leaves the result behind in `result`.

    Args:
        result: What to make again. It is made with every parameter as it was, defaults included; a
            grid into the directory `grid`.
        model: What its model is opened by; None: the name that it calls itself, which for a
            directory is not the path. A grid names its models itself.
    """
    record = result.provenance
    if record.grid is not None:
        return _grid_script(record)
    lines = ["from analyses import run_analysis"]
    arguments = [repr(result.name)]
    body = [""]
    if record.model is not None:
        lines.append("from interp import load_model")
        dtype = "" if record.dtype is None else f", dtype={record.dtype!r}"
        body.append(f"model = load_model({model or record.model!r}{dtype}).eval()")
        if record.weight_processing:
            done = ", ".join(record.weight_processing)
            body.append(f"# Its weights had been processed: {_comment(done)}.")
        if record.weight_hash is not None:
            lines.append("from interp.weights import weight_hash")
            body += [f"assert weight_hash(model) == {record.weight_hash!r}  # the same weights", ""]
        arguments.append("model")
    if record.interventions_json is not None:
        lines.append("from interp.interventions import Interventions")
        body += [f"plan = Interventions.from_json({record.interventions_json!r})"]
        arguments.append("interventions=plan")
    body.append(f"parameters = {_literal(record.parameters)}")
    arguments.append("**parameters")
    body.append(f"result = run_analysis({', '.join(arguments)})")
    return "\n".join([*lines, *body]) + "\n"


def table_script(result: AnalysisResult, table: str, model: str | None = None) -> str:
    """The same, which leaves one of the result's tables behind in `table`."""
    return f"{script(result, model)}table = result.tables[{table!r}]\n"


def _grid_script(record: Provenance) -> str:
    grid = dict(record.grid or {})
    lines = ["from analyses import run_grid"]
    arguments = [repr(grid.pop("analysis"))]
    arguments += [f"{name}={_literal(grid.pop(name))}" for name in ("models", "settings")]
    arguments += [f"grid={_literal(grid.pop('axes'))}", 'out="grid"']
    arguments += [f"{name}={_literal(value)}" for name, value in grid.items() if value]
    if record.interventions_json is not None:
        lines.append("from interp.interventions import Interventions")
        arguments.append(f"interventions=Interventions.from_json({record.interventions_json!r})")
    told = "\n".join(f"    {argument}," for argument in arguments)
    return "\n".join([*lines, "", f"result = run_grid(\n{told}\n)"]) + "\n"


def _literal(value: Any) -> str:
    """A JSON value as Python, whatever texts it holds."""
    return pformat(_written(value), width=WIDTH, sort_dicts=False)


def _written(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _written(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_written(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return _Call(f'float("{value}")')
    return value


class _Call:
    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _comment(text: str) -> str:
    return " ".join(text.split())
