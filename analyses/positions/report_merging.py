"""Several analyses of several models as one: their tables, checks and settings."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from analyses.results.result import AnalysisResult, Check

ANALYSES = {
    "probes": "position-probes",
    "geometry": "position-geometry",
    "attention": "position-attention",
    "interventions": "position-interventions",
    "length": "length-generalisation",
}
"""The parts of a report, in order: the word before a table's name, and the analysis."""


@dataclass(frozen=True)
class Part:
    """One analysis of one model.

    Attributes:
        model: What the model is called in the report.
        name: The part, of `ANALYSES`.
        result: What came of it; None if it was left out.
        reason: Why it was left out.
    """

    model: str
    name: str
    result: AnalysisResult | None
    reason: str = ""


def merged_tables(parts: Sequence[Part]) -> dict[str, pd.DataFrame]:
    """Tables of the same analysis and name under one another, the model's name first.

    They are called `probes-by-layer` and the like. A column that one model's table lacks is there
    empty: text is "", a number NaN.
    """
    found: dict[str, list[tuple[str, pd.DataFrame]]] = {}
    for name in ANALYSES:
        for part in parts:
            if part.name == name and part.result is not None:
                for key, table in part.result.tables.items():
                    found.setdefault(f"{name}-{key}", []).append((part.model, table))
    return {name: merged(tables) for name, tables in found.items()}


def merged(tables: Iterable[tuple[str, pd.DataFrame]]) -> pd.DataFrame:
    """Tables, each with its model's name, as one with a first column `model`."""
    labelled = []
    for model, table in tables:
        rest = table.drop(columns="model", errors="ignore")
        rest.insert(0, "model", model)
        labelled.append(rest)
    columns = [str(c) for c in dict.fromkeys(c for table in labelled for c in table.columns)]
    filled: list[pd.DataFrame] = [_with(table, columns, labelled) for table in labelled]
    return pd.concat(filled, ignore_index=True)[columns]


def _with(
    table: pd.DataFrame, columns: Sequence[str], others: Sequence[pd.DataFrame]
) -> pd.DataFrame:
    """A table with all of the columns, those that it lacks empty and of the others' kind."""
    table = table.copy()
    for column in columns:
        kinds = [other[column].dtype for other in others if column in other]
        if all(pd.api.types.is_bool_dtype(kind) for kind in kinds):
            if len(kinds) < len(others):  # a kind of truth that may be missing
                given = table[column].tolist() if column in table else [None] * len(table)
                table[column] = pd.Series(given, dtype="boolean")
        elif column not in table:
            numeric = all(pd.api.types.is_numeric_dtype(kind) for kind in kinds)
            table[column] = float("nan") if numeric else ""
    return table


def merged_checks(parts: Sequence[Part]) -> list[Check]:
    """All checks, their names begun with the model and the part."""
    return [
        replace(check, name=f"{part.model}, {part.name}: {check.name}")
        for part in parts
        if part.result is not None
        for check in part.result.checks
    ]


def left_out_table(parts: Sequence[Part]) -> pd.DataFrame:
    """What was not run, and why."""
    rows = [(part.model, ANALYSES[part.name], part.reason) for part in parts if part.result is None]
    return pd.DataFrame(rows, columns=["model", "analysis", "reason"])


def settings_table(parts: Sequence[Part]) -> pd.DataFrame:
    """Every setting that the analyses were run with, as JSON; one row for models that share it."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for part in parts:
        if part.result is not None:
            for name, value in part.result.provenance.parameters.items():
                key = (ANALYSES[part.name], name, json.dumps(value, ensure_ascii=False))
                found.setdefault(key, []).append(part.model)
    order = list(ANALYSES.values())
    rows = sorted(
        ((*key, ", ".join(models)) for key, models in found.items()),
        key=lambda row: order.index(row[0]),
    )
    return pd.DataFrame(rows, columns=["analysis", "parameter", "value", "models"])


def by_layer(names: Sequence[str]) -> list[str]:
    """Sites layer by layer, else as they were: `L2 resid_post` before `L3 resid_pre`.

    Models of different depth end at different layers, which their orders alone do not compare.
    """
    layers = [re.match(r"L(\d+)", name) for name in names]
    first = next((i for i, layer in enumerate(layers) if layer), 0)
    key = {
        name: float(layer[1]) if layer else math.inf if i > first else -1.0
        for i, (name, layer) in enumerate(zip(names, layers, strict=True))
    }
    return sorted(names, key=key.__getitem__)


def common_order(orders: Sequence[Sequence[str]]) -> list[str]:
    """Names in an order that agrees with each of several orders, as far as they agree.

    A name that only a later order has comes right after the one before it there.
    """
    found: list[str] = []
    for order in orders:
        at = 0
        for name in order:
            if name in found:
                at = found.index(name) + 1
            else:
                found.insert(at, name)
                at += 1
    return found
