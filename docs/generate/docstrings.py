"""Docstrings as griffe expects them, for the API pages.

Here several parameters that mean the same share a line, `q, k: Queries and keys.`; griffe knows one
name a line. So such a line is made as many as it has names before griffe reads it.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

_SECTIONS = ("Args:", "Attributes:", "Parameters:")
_SHARED = re.compile(r"\*{0,2}\w+(?:, *\*{0,2}\w+)+")


class SharedLines(griffe.Extension):
    """Gives every parameter a line of its own."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrite an object's docstring, if it has one."""
        if obj.docstring is not None:
            obj.docstring.value = one_name_a_line(obj.docstring.value)


def one_name_a_line(text: str) -> str:
    """A docstring in which no parameters share a line.

    Args:
        text: A docstring in Google's style, unindented.
    """
    lines, out = text.split("\n"), []
    inside = False
    while lines:
        line = lines.pop(0)
        if line.strip() and not line.startswith(" "):
            inside = line in _SECTIONS
        if not (inside and re.match(r" {4}\S", line)):
            out.append(line)
            continue
        item = line.strip()
        while item.endswith(",") and ":" not in item and lines:  # names on more than one line
            item += f" {lines.pop(0).strip()}"
        names, colon, meaning = item.partition(":")
        if not colon or not _SHARED.fullmatch(names):
            out.append(line if item == line.strip() else f"    {item}")
            continue
        rest = []
        while lines and (lines[0].startswith(" " * 5) or not lines[0].strip()):
            rest.append(lines.pop(0))
        for name in names.split(","):
            out += [f"    {name.strip()}:{meaning}", *rest]
    return "\n".join(out)
