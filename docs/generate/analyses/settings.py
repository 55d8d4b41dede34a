"""What a page of an analysis runs and shows, as its comment of settings says."""

from __future__ import annotations

import json
import re
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from analyses import get_analysis
from analyses.registry import validate_params
from interp import zoo
from interp.errors import InputError

_SETTINGS = re.compile(r"<!-- settings\n(.*?)\n-->", re.DOTALL)


class PageSettings(BaseModel):
    """What a page runs, and what it shows of the result.

    Attributes:
        model: The model, as `load_model` takes it; None for an analysis that needs none.
        parameters: Of the analysis, on top of those that the model's zoo entry sets.
        quick: Whether it is run with smaller settings.
        figures: The figures that are shown, by name.
        tables: The tables that are shown, with the number of rows: all with 0.
        run: Whether the page's Python is short enough to be run by the tests.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | None = None
    parameters: dict[str, Any] = Field(default_factory=dict)
    quick: bool = False
    figures: list[str] = Field(min_length=1, max_length=3)
    tables: dict[str, int] = Field(default_factory=dict)
    run: bool = True


def settings_of(page: str) -> PageSettings:
    """The settings that a page states.

    Raises:
        InputError: If it states none, several, or some that break a rule.
    """
    found = _SETTINGS.findall(page)
    if len(found) != 1:
        raise InputError(f"a page must have one comment of settings. Received {len(found)}")
    try:
        return PageSettings.model_validate(json.loads(found[0]))
    except (json.JSONDecodeError, ValidationError) as fault:
        raise InputError(f"the page's settings break a rule: {fault}") from fault


def parameters_of(name: str, settings: PageSettings) -> dict[str, Any]:
    """Every parameter of the page's run, as JSON values.

    Raises:
        InputError: If one is unknown or breaks its rule.
    """
    cls = get_analysis(name)
    defaults = zoo.defaults(settings.model, name) if settings.model else {}
    chosen = cls.merged(defaults, settings.parameters)
    params = validate_params(cls, chosen)
    if settings.quick:
        params = validate_params(cls, {**dict(cls().quick(params)), **chosen})
    return params.model_dump(mode="json")
