"""Every command in a shell block is one that there is, with arguments that it takes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from docs.generate.source import find
from tests.docs.pages import ROOT, all_pages, blocks, name_of

_OURS = ("interp", "analyses", "dashboards", "benchmarks", "docs", "tests")
_LEFT_OUT = "…"  # in a command: the arguments of the one above it


def _commands(text: str) -> Iterator[list[str]]:
    """The commands of a block as words: lines joined, comments and redirections gone."""
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        command: list[str] = []
        for word in lexer:
            if set(word) <= set("();<>|&"):
                yield command
                command = []
            else:
                command.append(word)
        yield command


def _checked(page: Path) -> Iterator[tuple[int, list[str]]]:
    for block in blocks(page.read_text("utf-8")):
        if block.language in ("sh", "bash", "shell", "console"):
            for command in _commands(block.text):
                while command and re.fullmatch(r"[A-Z_]+=.*", command[0]):  # variables in front
                    command.pop(0)
                if command:
                    yield block.line, command


PAGES = [page for page in all_pages() if any(_checked(page))]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_exist(page):
    faults = []
    for line, command in _checked(page):
        try:
            _check(command)
        except Exception as fault:
            faults.append(f"{name_of(page)}:{line}: {shlex.join(command)}: {fault}")
    assert not faults, "\n".join(faults)


def test_blocks_of_commands_are_called_sh():
    other = [
        f"{name_of(page)}:{block.line}: {block.language}"
        for page in all_pages()
        for block in blocks(page.read_text("utf-8"))
        if block.language in ("bash", "shell", "console", "zsh")
    ]
    assert not other, "shell blocks are marked ```sh: " + ", ".join(other)


@pytest.mark.parametrize(
    "command",
    [
        "interp nonsense",
        "interp run head-attribution --nonsense 3 --out x",
        "interp run nonsense --model zoo:induction --out x",
        "interp run head-attribution --model zoo:induction --set nonsense=3 --out x",
        "interp run head-attribution --model zoo:induction",  # without --out
        "interp harvest … --nonsense",
        "make nonsense",
        "python -m interp.nonsense",
        "interp list > x && make nonsense",
    ],
)
def test_a_wrong_command_is_found(command):
    with pytest.raises(Exception, match=r"\w"):
        for words in _commands(command):
            _check(words)


@pytest.mark.parametrize(
    "command",
    [
        "interp run head-attribution --model zoo:induction --out x  # a comment",
        "interp harvest … --engine ray --workers 4",
        "make test | tail -3",
        "python -m benchmarks.tensor_parallel",
    ],
)
def test_a_right_command_passes(command):
    for words in _commands(command):
        _check(words)


def _check(command: list[str]) -> None:
    program, *args = command
    if program == "interp":
        _check_interp(args)
    elif program == "make":
        asked = [arg for arg in args if "=" not in arg and not arg.startswith("-")]
        missing = set(asked) - _targets()
        assert not missing, f"no target of the Makefile: {sorted(missing)}"
    elif Path(program).name in ("python", "python3") and args[:1] == ["-m"]:
        ours = args[1].split(".")[0] in _OURS
        assert not ours or find(args[1]) is not None, f"no module {args[1]}"


def _check_interp(args: list[str]) -> None:
    from dashboards.cli import app

    group: Any = typer.main.get_command(app)
    context = group.make_context("interp", list(args), obj={"debug": False})
    name, *rest = [arg for arg in args if arg != "--debug"] or [""]
    if name.startswith("-") or not name:
        return
    command = group.get_command(context, name)
    assert command is not None, f"no command {name!r} of interp"
    if _LEFT_OUT in rest:
        known = {each for param in command.params for each in param.opts + param.secondary_opts}
        given = {arg.partition("=")[0] for arg in rest if arg.startswith("--")}
        assert given <= known, f"no option of interp {name}: {sorted(given - known)}"
        return
    params = command.make_context(name, rest, parent=context).params
    if name == "run":
        _check_run(params)


def _check_run(params: dict[str, Any]) -> None:
    from analyses import get_analysis
    from dashboards.settings import parse_axes, parse_settings

    analysis = get_analysis(params["name"])
    parse_settings(analysis.Params, list(params["set_"] or []))
    parse_axes(analysis.Params, list(params["grid"] or []))
    assert bool(params["model"]) == analysis.needs_model, "--model where needed, only then"


@cache
def _targets() -> set[str]:
    return set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
