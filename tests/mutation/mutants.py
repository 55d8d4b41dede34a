"""Small faults to plant: mutmut's operators on a file's functions, one place at a time."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libcst as cst
from libcst import metadata
from mutmut.mutation.mutators import mutation_operators

_RULES = {
    "InputError", "require", "require_extra", "require_number", "require_one_of", "require_whole",
    "unknown",
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One file with one place changed.

    Attributes:
        name: The file and the place's number.
        path: The file, from the repository's root.
        function: The outermost function that the place is in, with its class.
        lines: The first and the last line that run when the place does.
        old, new: The lines that differ, each joined to one.
        code: The file's text with the change.
    """

    name: str
    path: str
    function: str
    lines: tuple[int, int]
    old: str
    new: str
    code: str


class File:
    """The places of one file where a mutant can be made.

    Left out: annotations, decorators, arguments of `len`, `isinstance` and `cast`, and what an
    error says (texts in a `raise` and in the calls of `interp.errors`).
    """

    def __init__(self, path: str, code: str) -> None:
        self.path = path
        self.code = code
        wrapper = metadata.MetadataWrapper(cst.parse_module(code), unsafe_skip_copy=True)
        finder = _Finder()
        wrapper.visit(finder)
        self.module, self.places = wrapper.module, finder.found

    def mutant(self, number: int) -> Mutant:
        """One of them."""
        function, lines, old, new = self.places[number]
        mutated = self.module.deep_replace(old, new).code  # type: ignore[arg-type]
        changed = _changed(self.code, mutated)
        return Mutant(f"{self.path}#{number}", self.path, function, lines, *changed, mutated)


Place = tuple[File, int]


def sample(root: Path, areas: Mapping[str, Sequence[str]], each: int, seed: int) -> list[Place]:
    """Places of every area in random order, one area after the other in turns.

    Args:
        root: The repository.
        areas: Name → the files of the area.
        each: At most this many of one area; the first ones do not depend on it. 0: all.
        seed: The same one gives the same places of the same files.
    """
    turns = []
    for name in areas:
        files = [File(path, (root / path).read_text("utf-8")) for path in areas[name]]
        places = [(file, number) for file in files for number in range(len(file.places))]
        random.Random(f"{seed} {name}").shuffle(places)
        chosen = places[: each or None]
        turns += [((i + 0.5) / len(chosen), name, place) for i, place in enumerate(chosen)]
    return [place for _, _, place in sorted(turns, key=lambda turn: turn[:2])]


def places_of(root: Path, areas: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """File → how many places it has."""
    paths = [path for files in areas.values() for path in files]
    return {path: len(File(path, (root / path).read_text("utf-8")).places) for path in paths}


class _Finder(cst.CSTVisitor):
    METADATA_DEPENDENCIES = (metadata.PositionProvider, metadata.ParentNodeProvider)

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, tuple[int, int], cst.CSTNode, cst.CSTNode]] = []

    def on_visit(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.Annotation | cst.Decorator | cst.Import | cst.ImportFrom):
            return False
        if isinstance(node, cst.Call) and _called(node) in ("len", "isinstance", "cast"):
            return False
        above = list(self._above(node))
        function = _function(above)
        is_told = isinstance(node, cst.BaseString) and any(map(_tells, above))
        if function and not is_told:
            for kind, operator in mutation_operators:
                for new in operator(node) if isinstance(node, kind) else ():
                    self.found.append((function, self._lines([node, *above]), node, new))
        return True

    def _above(self, node: cst.CSTNode) -> Iterator[cst.CSTNode]:
        while not isinstance(node, cst.Module):
            node = self.get_metadata(metadata.ParentNodeProvider, node)
            yield node

    def _lines(self, chain: list[cst.CSTNode]) -> tuple[int, int]:
        statement: Any = next(
            x for x in chain if isinstance(x, cst.SimpleStatementLine | cst.BaseCompoundStatement)
        )
        place = self.get_metadata(metadata.PositionProvider, statement)
        if isinstance(statement, cst.SimpleStatementLine | cst.FunctionDef | cst.Match):
            return place.start.line, place.end.line
        body = self.get_metadata(metadata.PositionProvider, statement.body)
        return place.start.line, max(place.start.line, body.start.line - 1)


def _called(node: cst.Call) -> str:
    return node.func.value if isinstance(node.func, cst.Name) else ""


def _tells(node: cst.CSTNode) -> bool:
    return isinstance(node, cst.Raise) or (isinstance(node, cst.Call) and _called(node) in _RULES)


def _function(above: list[cst.CSTNode]) -> str:
    named = [x for x in reversed(above) if isinstance(x, cst.FunctionDef | cst.ClassDef)]
    names: list[str] = []
    for node in named:
        names.append(node.name.value)
        if isinstance(node, cst.FunctionDef):
            return ".".join(names)
    return ""


def _changed(code: str, mutated: str) -> tuple[str, str]:
    old, new = code.splitlines(), mutated.splitlines()
    while old and new and old[0] == new[0]:
        del old[0], new[0]
    while old and new and old[-1] == new[-1]:
        del old[-1], new[-1]
    return " ".join(map(str.strip, old)), " ".join(map(str.strip, new))
