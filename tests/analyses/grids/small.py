"""A small analysis that the tests of grids run."""

from __future__ import annotations

from typing import Any, ClassVar

import pandas as pd
from pydantic import Field

from analyses import Analysis, Check, Parameters
from interp.charts import Chart
from interp.errors import InputError


class SteepParams(Parameters):
    slope: float = Field(1.0, description="Of the line; -1 is refused, -2 a fault.")
    word: str = Field("a", description="A word; with 'more' there is a further column and table.")
    places: list[int] = Field([0, 1], description="Where the line is looked at.")
    seed: int = Field(0, description="Seed.")


class Steep(Analysis[SteepParams]):
    """A line of some slope, at some places."""

    name = "steep"
    question = "How steep is it?"
    caveat = "It is a line."
    needs_model = False
    runs: ClassVar[list[Any]] = []  # what was run, for the tests

    def run(self, model: Any, params: SteepParams) -> Any:
        self.runs.append((params.slope, params.word, tuple(params.places)))
        if params.slope == -1:
            raise InputError("slopes are not -1. Received -1.")
        if params.slope == -2:
            raise MemoryError("no room")
        rows = pd.DataFrame({"place": params.places})
        rows["height"] = rows["place"] * params.slope
        rows["word"] = params.word
        tables = {"line": rows}
        if params.word == "more":
            rows["steps"] = range(len(rows))
            rows["up"] = rows["height"] > 0
            tables["extra"] = pd.DataFrame({"model": ["x"], "cell": [7]})
        chart = Chart(
            kind="line", table="line", title="The line", alt="A line", x="place", y="height"
        )
        return self.result(
            model, params, tables=tables, figures={"line": chart},
            checks=[Check("slope is at most 5", params.slope, 5.0)],
        )  # fmt: skip

    def quick(self, params: SteepParams) -> SteepParams:
        return params.model_copy(update={"places": [0]})


class SteepModel(Steep):
    """The same of a model: its slope is that of its first weight."""

    name = "steep-model"
    needs_model = True
