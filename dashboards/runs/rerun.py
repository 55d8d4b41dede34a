"""A saved run as the address of its analysis's page, to be run again with changed parameters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from analyses import AnalysisResult, get_analysis
from dashboards.page.kept_texts import KeptTexts
from interp import zoo

# Parameters that the side of a page gives, as the address names them there.
_AT_SIDE = {"prompt": "prompt", "prepend_bos": "bos", "decoder_prompt": "decoder"}


def offered_as(model: str | None, offered: tuple[str, ...]) -> str | None:
    """What the dashboard offers a run's model as; None where it does not, or several might be it.

    Args:
        model: As the run names it: a directory's model by what it calls itself.
        offered: Names and directories offered besides the zoo.
    """
    names = (*offered, *zoo.entries())
    if model is None or model in names:
        return model
    alike = [name for name in offered if Path(name).name == model]
    return alike[0] if len(alike) == 1 else None


def page_address(result: AnalysisResult, offered: tuple[str, ...], texts: KeptTexts) -> str:
    """The address of the analysis's page with the run's parameters in its form.

    Args:
        result: The run.
        offered: Models that the dashboard offers besides the zoo.
        texts: Where texts too long for an address are kept.

    Raises:
        InputError: If there is no such analysis any more, or a text is too long to be kept.
    """
    cls = get_analysis(result.name)
    model = offered_as(result.provenance.model, offered)
    query = {} if model is None else {"model": model}
    usual = {**cls.Params().model_dump(mode="json"), **zoo.defaults(model or "", result.name)}
    from_side = "prompt" in cls.Params.model_fields
    for name, value in result.provenance.parameters.items():
        if name not in cls.Params.model_fields:
            continue
        if from_side and name == "tokens":
            if isinstance(value, list):
                query["prompt"] = " ".join(map(str, value))
        elif from_side and name in _AT_SIDE:
            if value not in (None, ""):
                query[_AT_SIDE[name]] = str(int(value)) if isinstance(value, bool) else str(value)
        elif value != usual[name]:
            query[name] = _text(value)
    return f"{result.name}?{urlencode({name: texts.shortened(x) for name, x in query.items()})}"


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
