"""The pages of analyses: what is generated on them is up to date, and they say what they must."""

from __future__ import annotations

import ast
import json
import re
import shlex

import pytest

from analyses import get_analysis
from dashboards.settings import parse_settings
from docs.generate.analyses import code, parts
from docs.generate.analyses.settings import PageSettings, parameters_of, settings_of
from interp.errors import InputError

NAMES = parts.names()


def _page(name: str) -> str:
    return parts.page_of(name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_generated_parts_are_up_to_date(name: str) -> None:
    page = _page(name)
    assert parts.with_text(name, page) == page, f"python -m docs.generate.analyses --text {name}"


@pytest.mark.parametrize("name", NAMES)
def test_page_has_the_headings_and_every_part(name: str) -> None:
    page, settings = _page(name), settings_of(_page(name))
    assert page.startswith(f"# {name}\n")
    assert tuple(re.findall(r"^## (.*)$", page, re.MULTILINE)) == parts.HEADINGS
    made = {f"figure {each}" for each in settings.figures}
    made |= {f"table {each}" for each in settings.tables}
    made |= {"question", "run", "checks", "parameters"}
    written = dict(re.findall(r"<!-- generated: (.*?) -->\n(.*?)<!-- end: \1 -->", page, re.DOTALL))
    assert set(written) == made
    assert all(text.strip() for text in written.values())
    prose = re.sub(r"<!--.*?-->", "", page.split("## Figure")[1], flags=re.DOTALL)
    for heading, text in zip(
        parts.HEADINGS[3:-1], re.split(r"^## .*$", prose, flags=re.MULTILINE)[1:-1], strict=True
    ):
        assert len(text.split()) > 20, f"{name}: '{heading}' says next to nothing"


def _call(block: str) -> ast.Call:
    """The call of `run_analysis` in a block of Python."""
    tree = ast.parse(block.split("\n", 1)[1].removesuffix("```"))
    (run,) = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "run_analysis"
    ]
    return run


@pytest.mark.parametrize("name", NAMES)
def test_shell_and_python_ask_for_the_same(name: str) -> None:
    settings = settings_of(_page(name))
    line = code.shell(name, settings).removeprefix("```sh\n").removesuffix("\n```")
    words = shlex.split(line.replace("\\\n", " "))
    given = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    from_shell = parse_settings(get_analysis(name).Params, given)
    run = _call(code.python(name, settings))
    from_python = {k.arg: ast.literal_eval(k.value) for k in run.keywords if k.arg != "quick"}
    assert from_python == settings.parameters
    assert parameters_of(name, settings) == parameters_of(
        name, settings.model_copy(update={"parameters": from_shell})
    )
    assert ("--quick" in words) == settings.quick == any(k.arg == "quick" for k in run.keywords)


def test_code_holds_any_value_in_short_lines() -> None:
    parameters = {
        "text": "it's \"quoted\" ('zoo:x') é",
        "numbers": list(range(40)),
        "texts": ["zoo:count-learned", "a, b", ""],
        "nested": [[1, None], {"a": True, "b": [0.5]}],
    }
    block = code.python("x", PageSettings(figures=["f"], quick=True, parameters=parameters))
    keywords = {k.arg: ast.literal_eval(k.value) for k in _call(block).keywords}
    assert keywords == {"quick": True, **parameters}
    assert max(map(len, block.splitlines())) <= 88
    line = code.shell("x", PageSettings(figures=["f"], parameters=parameters))
    given = shlex.split(line.removeprefix("```sh\n").removesuffix("```").replace("\\\n", " "))
    assert given[:3] == ["interp", "run", "x"] and given[-2:] == ["--out", "runs/x"]
    assert [each.partition("=")[0] for each in given[4:-2:2]] == list(parameters)
    assert given[4] == f"text={parameters['text']}"
    assert json.loads(given[8].partition("=")[2]) == parameters["texts"]


def test_every_picture_belongs_to_a_page_and_is_small() -> None:
    wanted = {
        f"{name}--{figure}.svg" for name in NAMES for figure in settings_of(_page(name)).figures
    }
    there = {file.name: file.stat().st_size for file in parts.IMAGES.iterdir()}
    assert set(there) == wanted
    assert max(there.values()) <= parts.MAX_BYTES


@pytest.mark.parametrize(
    "comment",
    [
        "",
        '<!-- settings\n{"figures": ["heads"]}\n-->\n<!-- settings\n{"figures": ["heads"]}\n-->',
        '<!-- settings\n{"figures": []}\n-->',
        '<!-- settings\n{"figures": ["heads"], "sets": {}}\n-->',
        "<!-- settings\nheads\n-->",
    ],
)
def test_bad_settings_are_refused(comment: str) -> None:
    with pytest.raises(InputError, match="settings"):
        settings_of(f"# a page\n\n{comment}\n")


def test_index_names_every_page() -> None:
    index = parts.page_of(parts.INDEX).read_text(encoding="utf-8")
    assert set(NAMES) <= set(re.findall(r"\]\(([a-z-]+)\.md\)", index))
