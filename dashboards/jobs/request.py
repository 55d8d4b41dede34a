"""What a job is asked to do."""

from __future__ import annotations

import re

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, JsonValue, field_validator

from dashboards.runs.names import require_run_name

ID = re.compile(r"\d{8}-\d{6}-\d{6}-[0-9a-f]{8}")


class Request(BaseModel):
    """The contents of `job.json`.

    Attributes:
        kind: Of work, as `dashboards.jobs.kinds` lists it.
        analysis: The analysis, by name.
        model: The model, as the dashboard offers it; None for an analysis that needs none.
        settings: Its parameters that differ from the defaults.
        interventions: What the model is analysed with, as `Interventions.to_json` wrote it.
        name: Of the run that is saved; where it is taken, a number is put behind it.
        device: Where the model runs; None: as `load_model` chooses.
        created: Seconds since 1970.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str = "analysis"
    analysis: str
    model: str | None = None
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    interventions: str | None = None
    name: str
    device: str | None = None
    created: FiniteFloat

    @field_validator("name")
    @classmethod
    def _is_a_plain_name(cls, name: str) -> str:
        require_run_name(name)
        return name
