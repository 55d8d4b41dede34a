"""The first page prints what it says that it prints."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "index.md"
BLOCK = re.compile(r"^```(python|text)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def test_outputs_on_the_page_are_those_of_its_blocks() -> None:
    names: dict[str, Any] = {}
    printed, compared = "", 0
    for kind, text in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        if kind == "text":
            assert printed == text
            compared += 1
            continue
        if "run_analysis" in text:
            break  # from here on nothing is quoted
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(text, str(PAGE), "exec"), names)
        printed = out.getvalue()
    assert compared == 3
