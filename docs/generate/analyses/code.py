"""A page's run as code: on the command line and in Python, the same settings in both."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from docs.generate.analyses.settings import PageSettings

_WIDTH = 88  # of a line


def shell(name: str, settings: PageSettings) -> str:
    """The command line of a page's run, as a block of Markdown."""
    first = ["interp", "run", name]
    if settings.model is not None:
        first += ["--model", settings.model]
    if settings.quick:
        first.append("--quick")
    parts = [" ".join(first)]
    parts += [f"--set {shlex.quote(pair)}" for pair in pairs(settings.parameters)]
    parts.append(f"--out runs/{name}")
    one = " ".join(parts)
    return _block("sh", one if len(one) <= _WIDTH else " \\\n    ".join(parts))


def pairs(parameters: Mapping[str, Any]) -> list[str]:
    """Parameters as `--set` takes them: `key=value`."""
    return [
        f"{key}={value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for key, value in parameters.items()
    ]


def python(name: str, settings: PageSettings) -> str:
    """The Python of a page's run, as a block of Markdown."""
    lines = ["from analyses import run_analysis"]
    arguments = [json.dumps(name)]
    if settings.model is not None:
        arguments.append("model")
        lines += [
            "from interp import load_model",
            "",
            f"model = load_model({json.dumps(settings.model)})",
        ]
    else:
        lines.append("")
    if settings.quick:
        arguments.append("quick=True")
    given = settings.parameters
    one = f"result = run_analysis({', '.join([*arguments, *_keywords(given, wide=True)])})"
    if len(one) > _WIDTH:
        inner = "".join(f"    {each},\n" for each in [*arguments, *_keywords(given, wide=False)])
        one = f"result = run_analysis(\n{inner})"
    lines += [one, "print(result.passed, *result.tables)"]
    return _block("python" if settings.run else "python no-run", "\n".join(lines))


def _keywords(given: Mapping[str, Any], wide: bool) -> list[str]:
    return [f"{key}={_literal(value, 4, len(key) + 6, wide)}" for key, value in given.items()]


def _literal(value: Any, indent: int, taken: int, wide: bool) -> str:
    """A value as Python, a list that is too long for its line with an item on each.

    Args:
        value: As JSON gives it.
        indent: Of the line that it stands on.
        taken: Letters of that line that are others'.
        wide: Put everything on one line.
    """
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if not isinstance(value, list | dict):
        return repr(value)
    keys = (
        [f"{json.dumps(key)}: " for key in value] if isinstance(value, dict) else [""] * len(value)
    )
    items = list(value.values()) if isinstance(value, dict) else value
    ends = "{}" if isinstance(value, dict) else "[]"
    flat = [_literal(item, 0, 0, True) for item in items]
    line = ", ".join(f"{key}{item}" for key, item in zip(keys, flat, strict=True))
    if wide or taken + len(line) + 2 <= _WIDTH:
        return f"{ends[0]}{line}{ends[1]}"
    inner = indent + 4
    lines = "".join(
        f"{' ' * inner}{key}{_literal(item, inner, inner + len(key) + 1, False)},\n"
        for key, item in zip(keys, items, strict=True)
    )
    return f"{ends[0]}\n{lines}{' ' * indent}{ends[1]}"


def _block(language: str, text: str) -> str:
    return f"```{language}\n{text}\n```"
