"""What a page names in backticks exists: dotted names, files and folders."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

from docs.generate.source import find
from tests.docs.pages import DOCS, ROOT, all_pages, code_spans, name_of

_DOTTED = re.compile(r"(?<![\w./:-])(?:interp|analyses|dashboards|benchmarks)(?:\.[A-Za-z_]\w*)+")
_TOPS = ("interp", "analyses", "dashboards", "benchmarks", "docs", "tests")
_PATH = re.compile(r"[\w.-]+(?:/[\w.-]+)*/?")
# An example of a page may name a file that is not here: <!-- not here: interp/positions/mine.py -->
_NOT_HERE = re.compile(r"<!-- not here: (\S+) -->")


@pytest.mark.parametrize("page", all_pages(), ids=name_of)
def test_named_things_exist(page):
    faults = _faults(page.read_text("utf-8"), page.parent)
    assert not faults, f"{name_of(page)} names what is not there: {', '.join(faults)}"


@pytest.mark.parametrize(
    "span",
    [
        "interp.patching.nonsense",
        "interp.nonsense.sweep",
        "interp.HookedTransformer.nonsense(tokens)",
        "analyses.patching.nonsense",
        "interp/nonsense.py",
        "docs/nonsense/",
        "measured/nonsense.md",
    ],
)
def test_a_wrong_name_is_found(span):
    assert _faults(f"See `{span}`.", DOCS)


@pytest.mark.parametrize(
    "span",
    [
        "interp.patching.sweep(model, …)",
        "interp.HookedTransformer.run_with_cache",  # of a base class
        "interp.HookedTransformer.parameters",  # of torch's
        "interp.HookedTransformerConfig.n_heads",  # a field
        "interp.Patch",  # loaded when it is used
        "interp.zoo.known",
        "interp/hooks.py",
        "analyses/patching/",
        "measured/benchmarks.md",
        "runs/demo/",  # made by a command
        "config.json",
        "blocks.0.attn.hook_z",
    ],
)
def test_a_right_name_passes(span):
    assert not _faults(f"See `{span}`.", DOCS)


def test_a_file_of_an_example_is_declared():
    assert _faults("`interp/positions/mine.py`", DOCS)
    declared = "<!-- not here: interp/positions/mine.py -->\n\n"
    assert not _faults(f"{declared}`interp/positions/mine.py`", DOCS)
    assert not _faults(f"{declared}`interp.positions.mine.Mine`", DOCS)


def _faults(text: str, folder: Path) -> list[str]:
    new = _NOT_HERE.findall(text)
    new_modules = tuple(path.removesuffix(".py").replace("/", ".") for path in new)
    faults = []
    for span in code_spans(text):
        for name in _DOTTED.findall(span):
            if Path(name).suffix not in (".py", ".md", ".toml"):
                ours = any(name == each or name.startswith(f"{each}.") for each in new_modules)
                if not ours and find(name) is None and not _is_inherited(name):
                    faults.append(name)
        if _names_a_file(span) and span not in new:
            places = (ROOT / span, DOCS / span, folder / span)
            if not any(place.exists() for place in places):
                faults.append(span)
    return faults


def _is_inherited(name: str) -> bool:
    """Whether it is a method that a class has from another package, such as torch's modules."""
    owner, _, attribute = name.rpartition(".")
    found = find(owner)
    if found is None or found.kind != "class":
        return False
    module, _, cls = found.path.rpartition(".")
    return hasattr(getattr(import_module(module), cls), attribute)


def _names_a_file(span: str) -> bool:
    if not _PATH.fullmatch(span) or "/" not in span:
        return False
    return span.split("/")[0] in _TOPS or span.endswith((".md", ".svg"))
