"""The generated parts of the architecture page are up to date, and their pictures are sound."""

from __future__ import annotations

import ast
import xml.etree.ElementTree as ET
from functools import cache
from pathlib import Path

import networkx as nx
import pytest

from docs.generate.architecture.import_picture import draw_imports
from docs.generate.architecture.imports import FLOORS, Group, import_graph
from docs.generate.architecture.parts import IMAGES, PAGE, generated
from docs.generate.source import ROOT

_SVG = "{http://www.w3.org/2000/svg}"


@cache
def _graph() -> nx.DiGraph:
    return import_graph()


@cache
def _fresh() -> dict[Path, str]:
    return generated()


@pytest.mark.parametrize("path", [PAGE, IMAGES / "floors.svg", IMAGES / "imports.svg"], ids=str)
def test_up_to_date(path):
    assert _fresh()[path] == path.read_text("utf-8"), "the code has moved on: make architecture"


def test_every_folder_stands_in_one_box():
    folders = [(group.floor, name) for group in _graph() for name in group.folders]
    assert len(folders) == len(set(folders))
    expected = {
        (floor, path.name)
        for floor in FLOORS
        for path in (ROOT / floor).iterdir()
        if (path / "__init__.py").exists()
    } | {(floor, "*.py") for floor in FLOORS}
    assert set(folders) == expected


def test_arrows_are_the_imports_that_the_files_make():
    """Against a plain reading of a floor's files: what their top level imports, nothing else."""
    graph = nx.transitive_closure(_graph())
    box = {(group.floor, name): group for group in graph for name in group.folders}
    seen = set()
    for path in (ROOT / "analyses").glob("*/**/*.py"):
        here = box["analyses", path.relative_to(ROOT / "analyses").parts[0]]
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                for name in node.names:
                    there = tuple(f"{node.module}.{name.name}".split(".")[:2])
                    if there in box:
                        seen.add((here, box[there]))
    arrows = {edge for edge in seen if edge[0] != edge[1]}
    assert len(arrows) > 40
    assert arrows <= set(graph.edges)
    for here, there in _graph().edges:
        if here.floor == "analyses" and "*.py" not in here.folders + there.folders:
            assert (here, there) in arrows


def test_arrows_lead_down_and_meet_no_box_on_the_way():
    graph = nx.DiGraph()
    a, b, c = Group("dashboards", ("a",)), Group("analyses", ("b",)), Group("interp", ("c", "d"))
    graph.add_edges_from([(a, b), (b, c), (a, c)])
    root = ET.fromstring(draw_imports(graph))
    words = [each.text for each in root.iter(f"{_SVG}text")]
    assert sorted(filter(None, words)) == sorted(
        ["dashboards/", "analyses/", "interp/", "a/", "b/", "c/ d/"]
    )
    assert len(list(root.iter(f"{_SVG}polygon"))) == 3  # an arrow head for each edge
    tops = {each.text: float(each.attrib["y"]) for each in root.iter(f"{_SVG}text")}
    assert tops["a/"] < tops["b/"] < tops["c/ d/"]


@pytest.mark.parametrize("name", ["floors.svg", "imports.svg"])
def test_pictures_say_what_they_are_and_stay_on_their_paper(name):
    root = ET.fromstring(_fresh()[IMAGES / name])
    assert root.find(f"{_SVG}title") is not None
    assert root.find(f"{_SVG}desc") is not None
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for each in root.iter(f"{_SVG}rect"):
        x, y = float(each.get("x", 0)), float(each.get("y", 0))
        assert x >= 0
        assert y >= 0
        assert x + float(each.attrib["width"]) <= width + 0.1
        assert y + float(each.attrib["height"]) <= height + 0.1
