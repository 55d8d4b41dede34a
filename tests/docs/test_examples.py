"""The examples run as scripts from anywhere, offline, and open as notebooks."""

from __future__ import annotations

import ast
import os
import re
import runpy
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.covering import EXHAUSTIVE
from tests.docs.pages import DOCS, ROOT

EXAMPLES = sorted((DOCS / "examples").glob("*.py"))
SHORTEST = DOCS / "examples" / "hooks_in_twenty_lines.py"
NEEDS = {"transformerlens_bridge": ("transformer_lens", "lens")}
_MARK = re.compile(r"# %%(?P<markdown> \[markdown\])?")


@dataclass(frozen=True)
class Cell:
    """A cell of a script in percent format.

    Attributes:
        is_markdown: Whether it is text.
        text: What is in it, without the comment marks of Markdown.
    """

    is_markdown: bool
    text: str


def cells(script: str) -> list[Cell]:
    """The cells of a script, by the rules of percent format; nothing may stand before the first."""
    found: list[tuple[bool, list[str]]] = []
    for line in script.splitlines():
        mark = _MARK.fullmatch(line)
        if mark:
            found.append((mark["markdown"] is not None, []))
        else:
            assert found, f"{line!r} stands before the first cell"
            assert not line.startswith("# %%"), f"{line!r} is no mark of a cell"
            found[-1][1].append(line)
    return [_cell(is_markdown, lines) for is_markdown, lines in found]


def _cell(is_markdown: bool, lines: list[str]) -> Cell:
    while lines and not lines[-1]:
        lines.pop()
    if is_markdown:
        assert all(line == "#" or line.startswith("# ") for line in lines), lines
        lines = [line.removeprefix("#").removeprefix(" ") for line in lines]
    return Cell(is_markdown, "\n".join(lines))


@pytest.fixture(params=EXAMPLES, ids=lambda path: path.stem)
def example(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 5
    assert SHORTEST in EXAMPLES


@pytest.mark.usefixtures("as_before")
def test_it_runs_from_anywhere(
    example: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Offline, in an empty directory, in which it leaves nothing.

    In a process of its own if it is the shortest; most of the others' time would go to imports.
    """
    module, extra = NEEDS.get(example.stem, ("interp", ""))
    pytest.importorskip(module, reason=f"needs the extra {extra!r}")
    if EXHAUSTIVE or example == SHORTEST:
        printed = _run_alone(example, tmp_path)
    else:
        monkeypatch.chdir(tmp_path)
        with warnings.catch_warnings():
            warnings.filterwarnings("error", category=DeprecationWarning, module="__main__")
            runpy.run_path(os.fspath(example), run_name="__main__")
        printed = capsys.readouterr().out
    assert printed.strip(), "it prints nothing"
    assert "skipped" not in printed
    assert list(tmp_path.iterdir()) == []


def _run_alone(example: Path, folder: Path) -> str:
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:__main__", str(example)],
        cwd=folder, env=env, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def test_it_is_a_notebook_that_teaches(example: Path) -> None:
    """It begins with a title, has text between its code, and ends with checks of its claims."""
    found = cells(example.read_text("utf-8"))
    assert found[0].is_markdown and found[0].text.startswith("# ")
    assert sum(cell.is_markdown for cell in found) >= 3
    titles = [line for c in found if c.is_markdown for line in c.text.splitlines()]
    assert sum(line.startswith("# ") for line in titles) == 1
    code = [ast.parse(cell.text) for cell in found if not cell.is_markdown]
    assert all(cell.body for cell in code), "a cell without code"
    assert not found[-1].is_markdown
    assert any(isinstance(node, ast.Assert) for node in ast.walk(code[-1]))


def test_jupytext_reads_it_alike(example: Path) -> None:
    jupytext = pytest.importorskip("jupytext", reason="needs jupytext (dev)")
    script = example.read_text("utf-8")
    notebook = jupytext.reads(script, fmt="py:percent")
    ours = [("markdown" if cell.is_markdown else "code", cell.text) for cell in cells(script)]
    assert [(cell.cell_type, cell.source) for cell in notebook.cells] == ours


def test_what_is_no_percent_format_is_noticed() -> None:
    for script in ("import os\n# %%\n", "# %% [markdown]\nx = 1\n", "# %%\n# %% [markdwn]\n"):
        with pytest.raises(AssertionError):
            cells(script)
