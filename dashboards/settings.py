"""Settings of an analysis as text (`key=value`), read and told by the rules of its parameters."""

import json
from collections.abc import Iterable, Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from interp.errors import InputError, unknown


def parse_settings(params: type[BaseModel], pairs: Iterable[str]) -> dict[str, Any]:
    """Read `key=value` pairs as values for fields of `params`.

    Text fields take their value as it stands; lists, tuples, dicts and models take JSON; a field
    that may be None takes `null`. The rest is left for pydantic to read and to check.

    Raises:
        InputError: If a pair has no `=`, a key is unknown or given twice, or JSON is malformed.
    """
    return {
        key: _parse(key, params.model_fields[key].annotation, text)
        for key, text in _pairs("--set", "key=value", params, pairs).items()
    }


def parse_axes(params: type[BaseModel], pairs: Iterable[str]) -> dict[str, list[Any]]:
    """Read `key=value,value` pairs as several values for each of some fields of `params`.

    Each value is read as `parse_settings` reads one; values that hold commas are given together as
    a JSON list.

    Raises:
        InputError: If a pair has no `=`, a key is unknown or given twice, or JSON is malformed.
    """
    return {
        key: _parse_several(key, params.model_fields[key].annotation, text)
        for key, text in _pairs("--grid", "key=value,value", params, pairs).items()
    }


def _pairs(option: str, form: str, params: type[BaseModel], pairs: Iterable[str]) -> dict[str, str]:
    """Field → what was written for it."""
    found: dict[str, str] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise InputError(f"{option} takes {form}, got {pair!r}")
        if key not in params.model_fields:
            raise unknown("parameter", key, params.model_fields)
        if key in found:
            raise InputError(f"{option} {key} is given twice")
        found[key] = text
    return found


def _parse_several(key: str, annotation: Any, text: str) -> list[Any]:
    if text.startswith("["):
        try:
            found = json.loads(text)
        except json.JSONDecodeError as fault:
            message = (
                f"--grid {key} takes values or a JSON list of them ({fault.msg}), got {text!r}"
            )
            raise InputError(message) from fault
        return list(found)
    return [_parse(key, annotation, each) for each in text.split(",")]


def _parse(key: str, annotation: Any, text: str) -> Any:
    kinds = _alternatives(annotation)
    if NoneType in kinds and text == "null":
        return None
    for kind in kinds:
        if get_origin(kind) is Literal:
            for choice in get_args(kind):
                if str(choice) == text:
                    return choice
    structured = [kind for kind in kinds if _takes_json(kind)]
    # Where text is as welcome as a list, only what looks like JSON is read as JSON.
    if not structured or (str in kinds and text[:1] not in ("[", "{")):
        return text
    try:
        return json.loads(text)
    except json.JSONDecodeError as fault:
        raise InputError(f"parameter {key!r} takes JSON ({fault.msg}), got {text!r}") from fault


def _alternatives(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Annotated:
        return _alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [kind for part in get_args(annotation) for kind in _alternatives(part)]
    return [annotation]


def _takes_json(kind: Any) -> bool:
    shape = get_origin(kind) or kind
    return isinstance(shape, type) and (
        issubclass(shape, (list, tuple, set, frozenset, dict, BaseModel))
        or shape in (Sequence, Mapping)
    )


def describe(params: type[BaseModel]) -> list[dict[str, Any]]:
    """Name, type, default, bounds and help text of each parameter, as JSON values."""
    defaults = params().model_dump(mode="json")
    return [
        {
            "name": name,
            "type": type_name(field.annotation),
            "default": defaults[name],
            "bounds": bounds(field),
            "help": field.description,
        }
        for name, field in params.model_fields.items()
    ]


def type_name(annotation: Any) -> str:
    """A type as a reader would write it: `int`, `list[str]`, `'mean' | 'zero'`, `int | null`."""
    if annotation is NoneType:
        return "null"
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_name(parts[0])
    if origin is Literal:
        return " | ".join(map(repr, parts))
    if origin in (Union, UnionType):
        return " | ".join(map(type_name, parts))
    name = getattr(origin or annotation, "__name__", str(annotation))
    inner = ", ".join("..." if part is Ellipsis else type_name(part) for part in parts)
    return f"{name}[{inner}]" if parts else name


def require_no_paths(params: type[BaseModel], settings: Mapping[str, Any]) -> None:
    """Check that settings of a page open no file, and no model but those of the zoo.

    Whoever can reach the page can fill in its forms and its address; neither may make it read a
    directory of the machine, or fetch anything.

    Raises:
        InputError: If a field marked with `analyses.base.OPENS_MODELS` holds another name, or one
            marked with `OPENS_FILES` anything.
    """
    from interp import zoo

    for name, field in params.model_fields.items():
        extra, value = field.json_schema_extra, settings.get(name)
        if not isinstance(extra, dict) or not value:
            continue
        if "opens_files" in extra:
            raise InputError(
                f"{name!r} opens files, which no page does: run it from the command line. "
                f"Received {value!r}."
            )
        if "opens_models" in extra:
            known = zoo.entries()
            for model in value if isinstance(value, list) else [value]:
                if not isinstance(model, str) or model not in known:
                    what = f"model for {name!r} on a page (the zoo's only)"
                    raise unknown(what, str(model), known)


_SIGNS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}


def bounds(field: FieldInfo) -> str:
    """The limits of a field in one line, such as `>= 1, <= 100`; empty without limits."""
    found = []
    for rule in field.metadata:
        for name, sign in _SIGNS.items():
            if getattr(rule, name, None) is not None:
                found.append(f"{sign} {getattr(rule, name)}")
        if getattr(rule, "min_length", None) is not None:
            found.append(f"length >= {rule.min_length}")
        if getattr(rule, "max_length", None) is not None:
            found.append(f"length <= {rule.max_length}")
    return ", ".join(found)
