"""What a dotted name stands for, found in the source without importing anything."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("interp", "analyses")  # whose names others may rely on

Node = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.stmt


@dataclass(frozen=True)
class Found:
    """What a name stands for.

    Attributes:
        path: The dotted name where it is written, which may be another than was asked for.
        kind: Of what sort it is. A value is any name that is assigned, in a class too.
        summary: The first paragraph of its docstring as one line. Empty: it has none.
    """

    path: str
    kind: Literal["module", "class", "function", "value"]
    summary: str


@dataclass(frozen=True)
class Imported:
    """A name that a module has from another.

    Attributes:
        module: The other.
        name: What it is called there. None: it is the module itself.
    """

    module: str
    name: str | None


def find(dotted: str) -> Found | None:
    """What a dotted name such as `interp.patching.sweep` stands for.

    Args:
        dotted: A module, or a name in one, or an attribute of a class: a method, a field, or
            anything that its methods assign to `self`. Names may be imported from elsewhere.

    Returns:
        None if there is no such thing in this repository.
    """
    package, _, last = dotted.rpartition(".")
    if package and last in bindings(package):
        return _member(package, [last])  # a package's name hides the module of that name
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        module = ".".join(parts[:length])
        if is_module(module):
            return _member(module, parts[length:])
    return None


def public_names(module: str) -> list[str]:
    """The names in a module's `__all__`, in its order.

    Without one: the functions and classes written in it, in the order of the file, but those that
    begin with an underscore.
    """
    names = bindings(module)
    listed = names.get("__all__")
    if isinstance(listed, ast.Assign):
        return [str(name) for name in ast.literal_eval(listed.value)]
    return [
        name
        for name, node in names.items()
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not name.startswith("_")
    ]


def has_public_list(module: str) -> bool:
    """Whether a module has an `__all__`."""
    return "__all__" in bindings(module)


def docstring(module: str) -> str:
    """A module's docstring, unindented. Empty: it has none."""
    return ast.get_docstring(_parsed(module)) or ""


def summary(text: str) -> str:
    """The first paragraph of a docstring as one line."""
    return " ".join(text.strip().split("\n\n")[0].split())


def modules(package: str) -> Iterator[str]:
    """A package and all modules below it, however deep, by name."""
    folder = ROOT / package.replace(".", "/")
    yield package
    for path in sorted(folder.iterdir()):
        name = f"{package}.{path.stem}"
        if path.is_dir() and (path / "__init__.py").exists():
            yield from modules(name)
        elif path.suffix == ".py" and path.stem not in ("__init__", "__main__"):
            yield name


def is_package(module: str) -> bool:
    """Whether a name is that of a package: a folder with an `__init__.py`."""
    return (ROOT / module.replace(".", "/") / "__init__.py").exists()


@cache
def _file(module: str) -> Path | None:
    base = ROOT / module.replace(".", "/")
    for path in (base / "__init__.py", base.with_name(base.name + ".py")):
        if path.is_file():
            return path
    return None


def is_module(module: str) -> bool:
    """Whether a name is that of a module or package of this repository."""
    return _file(module) is not None or any((ROOT / module.replace(".", "/")).glob("*.py"))


@cache
def _parsed(module: str) -> ast.Module:
    path = _file(module)
    return ast.parse(path.read_text("utf-8")) if path else ast.Module([], [])


@cache
def bindings(module: str) -> dict[str, ast.stmt | Imported]:
    """What makes each name of a module: a statement or an import, those in `if` and `try` too."""
    names: dict[str, ast.stmt | Imported] = {}
    for node in _flat(_parsed(module).body):
        if isinstance(node, ast.ImportFrom):
            base = _origin(module, node)
            for each in node.names:
                names[each.asname or each.name] = Imported(base, each.name)
        elif isinstance(node, ast.Import):
            for each in node.names:
                if each.asname or "." not in each.name:
                    names[each.asname or each.name] = Imported(each.name, None)
        else:
            names.update(dict.fromkeys(_assigned(node), node))
    return names


def _origin(module: str, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    drop = node.level - 1 if is_package(module) else node.level
    parts = module.split(".")
    return ".".join([*parts[: len(parts) - drop], *filter(None, [node.module])])


def _flat(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        if isinstance(node, ast.If):
            yield from _flat([*node.body, *node.orelse])
        elif isinstance(node, ast.Try):
            yield from _flat([*node.body, *node.orelse, *node.finalbody])
        else:
            yield node


def _assigned(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.AnnAssign):
        targets: list[ast.expr] = [node.target]
    elif isinstance(node, ast.Assign):
        targets = node.targets
    else:
        return []
    names = [each for target in targets for each in ast.walk(target)]
    return [
        each.id for each in names if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)
    ]


def _member(module: str, names: list[str]) -> Found | None:
    if not names:
        return Found(module, "module", summary(docstring(module)))
    bound = bindings(module).get(names[0])
    if bound is None:
        return None
    if isinstance(bound, Imported):
        steps = [bound.module, *filter(None, [bound.name]), *names[1:]]
        return find(".".join(steps))
    here = f"{module}.{names[0]}"
    if len(names) == 1:
        return _found(here, bound, _parsed(module).body)
    if not isinstance(bound, ast.ClassDef):
        return None
    return _attribute(module, here, bound, names[1:])


def _attribute(module: str, here: str, owner: ast.ClassDef, names: list[str]) -> Found | None:
    for node in _flat(owner.body):
        if names[0] in _assigned(node):
            there = f"{here}.{names[0]}"
            if len(names) == 1:
                return _found(there, node, owner.body)
            if isinstance(node, ast.ClassDef):
                return _attribute(module, there, node, names[1:])
            return None
    if len(names) == 1 and names[0] in _set_on_self(owner):
        return Found(f"{here}.{names[0]}", "value", "")
    for base in owner.bases:
        named = base.value if isinstance(base, ast.Subscript) else base
        found = _member(module, [*ast.unparse(named).split("."), *names])
        if found is not None:
            return found
    return None


def _set_on_self(owner: ast.ClassDef) -> set[str]:
    return {
        node.attr
        for node in ast.walk(owner)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    }


def _found(path: str, node: ast.stmt, body: list[ast.stmt]) -> Found:
    if isinstance(node, ast.ClassDef):
        return Found(path, "class", summary(ast.get_docstring(node) or ""))
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return Found(path, "function", summary(ast.get_docstring(node) or ""))
    return Found(path, "value", summary(_text_behind(node, body)))


def _text_behind(node: ast.stmt, body: list[ast.stmt]) -> str:
    """The string that stands behind an assignment, which is its docstring."""
    behind = body[body.index(node) + 1 :] if node in body else []
    if behind and isinstance(behind[0], ast.Expr) and isinstance(behind[0].value, ast.Constant):
        return str(behind[0].value.value)
    return ""
