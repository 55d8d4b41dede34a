"""Analyses that end at once, for the pages."""

from __future__ import annotations

from typing import Literal

import pandas as pd
from pydantic import Field

from analyses import Analysis, Check, Parameters
from interp.charts import Chart


class SizeParams(Parameters):
    size: Literal["small", "large"] = Field("small", description="How large.")
    count: int = Field(2, description="How many.", gt=0, lt=9)
    twice: bool = Field(False, description="Whether to double.")
    seed: int = Field(0, description="Not used.")
    weights: list[float] = Field([1.0], description="Numbers.")


class Sizes(Analysis[SizeParams]):
    name = "count-sizes"
    question = "How many *are* there?"
    needs_model = False
    runs = 0

    def run(self, model, params):
        type(self).runs += 1
        n = params.count * (2 if params.twice else 1)
        tables = {"sizes": pd.DataFrame({"n": [n], "total": [sum(params.weights)]})}
        return self.result(
            model, params, tables=tables, figures={}, checks=[Check("true", 0.0, 1.0)]
        )


class EdgeParams(Parameters):
    pass


class Edges(Analysis[EdgeParams]):
    name = "show-edges"
    question = "Who speaks to whom?"
    needs_model = False

    def run(self, model, params):
        table = pd.DataFrame(
            {
                "source": ["embed", "embed", "L0H0"],
                "target": ["L0H0", "logits", "logits"],
                "value": [1.0, -2.0, 0.5],
                "source_level": [0, 0, 1],
                "target_level": [1, 2, 2],
            }
        )
        graph = Chart(
            kind="graph", table="edges", title="Edges", alt="Three edges.", x="source", y="target",
            value="value", x_level="source_level", y_level="target_level", signed=True,
        )  # fmt: skip
        checks = [Check("true", 0.0, 1.0)]
        return self.result(
            model, params, tables={"edges": table}, figures={"graph": graph}, checks=checks
        )


class Lengthy(Sizes):
    name = "count-slowly"
    lengthy = True

    def quick(self, params):
        return params.model_copy(update={"count": 1})
