"""Analyses by name: how they are registered, found, and run."""

import functools
import importlib
import pkgutil
import re
import time
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, TypeVar

from pydantic import ValidationError

from analyses.base import Analysis, Parameters
from analyses.results.result import AnalysisResult
from interp.compat.transformer_lens import adopt, is_bridge
from interp.errors import InputError, unknown
from interp.interventions import Intervention, Interventions, applied

A = TypeVar("A", bound=type[Analysis[Any]])

_KEBAB = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_RESERVED = {"name", "model", "quick", "interventions"}  # arguments of run_analysis

_registered: dict[str, type[Analysis[Any]]] = {}


def register(cls: A) -> A:
    """Add an analysis class to the registry.

    Raises:
        TypeError: If the class breaks a rule of the registry, or its name is taken.
    """
    _require_well_declared(cls)
    holder = _registered.get(cls.name)
    if holder is not None and _path(holder) != _path(cls):  # a reloaded module may register again
        raise TypeError(f"analysis {cls.name!r} is registered twice: {_path(holder)}, {_path(cls)}")
    _registered[cls.name] = cls
    return cls


def list_analyses() -> list[type[Analysis[Any]]]:
    """All analyses, by name. The first call imports every module of `analyses`, however deep."""
    _import_all()
    return [_registered[name] for name in sorted(_registered)]


def get_analysis(name: str) -> type[Analysis[Any]]:
    """The analysis of that name.

    Raises:
        InputError: If there is none; the message lists those there are.
    """
    _import_all()
    if name not in _registered:
        raise unknown("analysis", name, _registered)
    return _registered[name]


def run_analysis(
    name: str,
    model: Any = None,
    quick: bool = False,
    interventions: Interventions | Intervention | Iterable[Intervention] = (),
    **params: Any,
) -> AnalysisResult:
    """Run an analysis.

    Where settings compete, the user's win over those of the model's zoo entry, those over
    `quick`, and that over the defaults.

    Args:
        name: The analysis, as `list_analyses` names it.
        model: The `HookedTransformer` to analyse, or a TransformerLens `TransformerBridge`, which
            is adopted; None where no model is needed.
        quick: Take smaller settings, for a first look.
        interventions: What the model is analysed with, in all of its runs; written in the result's
            provenance.
        **params: Settings that differ from the defaults.

    Raises:
        InputError: If the analysis is unknown, the model is missing, superfluous or does not fit,
            a parameter is unknown or breaks its rule, or interventions would not change all that
            the analysis reports.
    """
    cls = get_analysis(name)
    analysis = cls()
    if cls.needs_model and is_bridge(model):
        model = adopt(model)
    _require_fit(cls, model)
    chosen = cls.merged(_zoo_defaults(cls, model), params)
    settings = validate_params(cls, chosen)
    if quick:
        settings = validate_params(cls, {**dict(analysis.quick(settings)), **chosen})
    plan = _plan(cls, interventions)
    start = time.perf_counter()
    with applied(model, plan) if plan else nullcontext():
        result = analysis.run(model, settings)
    known: dict[str, Any] = {"seconds": time.perf_counter() - start}
    if plan:
        known["interventions"] = [each.describe() for each in plan]
        known["interventions_json"] = plan.to_json()
    return replace(result, provenance=result.provenance.model_copy(update=known))


def _plan(
    cls: type[Analysis[Any]], given: Interventions | Intervention | Iterable[Intervention]
) -> Interventions:
    plan = Interventions((given,) if isinstance(given, Intervention) else tuple(given))
    if plan and not cls.takes_interventions:
        raise InputError(
            f"{cls.name} takes no interventions: not all that it reports comes from runs of the "
            f"model as it is given. Received {len(plan)}."
        )
    return plan


def validate_params(cls: type[Analysis[Any]], params: Mapping[str, Any]) -> Parameters:
    """Make an analysis's parameters from values by name.

    Raises:
        InputError: If one is unknown or breaks its rule; the message names it, the rule and the
            value.
    """
    for name in params:
        if name not in cls.Params.model_fields:
            raise unknown(f"parameter of {cls.name}", name, cls.Params.model_fields)
    try:
        return cls.Params.model_validate(dict(params))
    except ValidationError as fault:
        raise InputError(f"{cls.name}: {'; '.join(map(_rule, fault.errors()))}") from fault


def _rule(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"])
    message = error["msg"].removeprefix("Value error, ")
    if not where:  # a rule about several parameters at once
        return str(message)
    return f"parameter {where!r}: {message}, got {error['input']!r}"


def _require_fit(cls: type[Analysis[Any]], model: Any) -> None:
    if not cls.needs_model:
        if model is not None:
            raise InputError(f"{cls.name} takes no model")
        return
    if model is None:
        raise InputError(f"{cls.name} needs a model")
    reason = cls.supports(model)
    if reason is not None:
        raise InputError(f"{cls.name} does not fit {model.cfg.model_name!r}: {reason}")


def _zoo_defaults(cls: type[Analysis[Any]], model: Any) -> dict[str, Any]:
    if model is None or not str(model.cfg.model_name).startswith("zoo:"):
        return {}
    from interp import zoo

    return dict(zoo.defaults(model.cfg.model_name, cls.name))


def _require_well_declared(cls: type[Analysis[Any]]) -> None:
    if not _KEBAB.fullmatch(getattr(cls, "name", "")):
        raise TypeError(
            f"{_path(cls)}: 'name' must be kebab-case, got {getattr(cls, 'name', '')!r}"
        )
    question = getattr(cls, "question", "")
    if not question.strip() or "\n" in question:
        raise TypeError(f"{_path(cls)}: 'question' must be one line, got {question!r}")
    if not hasattr(cls, "Params"):
        raise TypeError(f"{_path(cls)}: derive it from Analysis[<its Parameters class>]")
    for name, field in cls.Params.model_fields.items():
        if name in _RESERVED:
            raise TypeError(f"{_path(cls)}: a parameter may not be named {name!r}")
        if not field.description:
            raise TypeError(f"{_path(cls)}: parameter {name!r} needs a description")
        if field.is_required():
            raise TypeError(f"{_path(cls)}: parameter {name!r} needs a default")


def _path(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


@functools.cache
def _import_all() -> None:
    import analyses

    for module in pkgutil.walk_packages(analyses.__path__, "analyses."):
        importlib.import_module(module.name)
