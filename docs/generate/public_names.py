"""The list of public names: what a release promises to keep, so that no change of it goes unseen.

    python -m docs.generate.public_names docs/api/public-names.txt    # `make public-names`

It is read off the source, nothing of `interp` and `analyses` is imported for it: the same lines
come out whatever was imported before, on any version of Python and with any extras. The command
line and the analyses' parameters are asked of the program.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from docs.generate import source
from docs.generate.source import PACKAGES, ROOT

FILE = ROOT / "docs" / "api" / "public-names.txt"
_SPECIAL = ("__init__", "__call__", "__getitem__")
_FIELD_CLASSES = {"NamedTuple", "TypedDict", "BaseModel", "Parameters"}  # besides dataclasses


@dataclass(frozen=True)
class Definition:
    """Where a name is made: its module, its own name there, and the statement."""

    module: str
    name: str
    node: ast.stmt | None

    @property
    def path(self) -> str:
        """Such as `interp.transformer.HookedTransformer`."""
        return f"{self.module}.{self.name}" if self.node is not None else self.name


def public_modules() -> dict[str, list[str]]:
    """Every module with an `__all__`, and the names in it."""
    return {
        module: sorted(source.public_names(module))
        for package in PACKAGES
        for module in source.modules(package)
        if source.has_public_list(module)
    }


@cache
def definition(module: str, name: str) -> Definition:
    """Where a module's name comes from, through as many imports as there are.

    Raises:
        LookupError: If the module has no such name.
    """
    bound = source.bindings(module).get(name)
    if bound is None:
        if source.is_module(f"{module}.{name}"):
            return Definition("", f"{module}.{name}", None)
        raise LookupError(f"{module} has no {name}")
    if isinstance(bound, ast.Assign) and isinstance(bound.value, ast.Name):  # another name for it
        return definition(module, bound.value.id)
    if not isinstance(bound, source.Imported):
        return Definition(module, name, bound)
    if bound.name is None:
        return Definition("", bound.module, None)
    path = f"{bound.module}.{bound.name}"
    is_ours = bound.module.split(".")[0] in PACKAGES
    if not is_ours or (source.is_module(path) and bound.name not in source.bindings(bound.module)):
        return Definition("", path, None)
    return definition(bound.module, bound.name)


@cache
def api_lines() -> list[str]:
    """A line for every public name, class member and signature, in the order of the alphabet."""
    modules = public_modules()
    homes: dict[str, str] = {}  # of a definition: the shortest public path to it
    for module, names in sorted(modules.items(), key=lambda item: (item[0].count("."), item[0])):
        for name in names:
            homes.setdefault(definition(module, name).path, f"{module}.{name}")
    lines = []
    for module, names in modules.items():
        for name in names:
            found, path = definition(module, name), f"{module}.{name}"
            if homes[found.path] != path:
                lines.append(f"{path} is {homes[found.path]}")
            else:
                lines += _described(path, found, homes)
    return sorted(lines, key=lambda line: line.removeprefix("class "))


def _described(path: str, found: Definition, homes: dict[str, str]) -> Iterator[str]:
    node = found.node
    if isinstance(node, ast.FunctionDef):
        yield path + _signature(node)
    elif isinstance(node, ast.ClassDef):
        yield from _class(path, found, homes)
    elif isinstance(node, ast.AnnAssign):
        yield f"{path}: {_text(node.annotation)}"
    else:  # a module, or a value: that it is there is the promise
        yield path


def _class(path: str, found: Definition, homes: dict[str, str]) -> Iterator[str]:
    """A class, its constructor and members; those of bases too that are not public themselves."""
    assert isinstance(found.node, ast.ClassDef)
    members: dict[str, str] = {}
    fields: list[str] = []
    bases: list[str] = []
    has_fields = False
    for owner, is_own in _family(found, homes):
        if not is_own:
            bases.append(homes.get(owner.path, owner.path))
            continue
        assert isinstance(owner.node, ast.ClassDef)
        has_fields |= _has_fields(owner.node)
        own: list[str] = []
        for each in owner.node.body:
            if isinstance(each, ast.FunctionDef):
                _method(each, members)
            elif isinstance(each, ast.Assign):
                targets = [target.id for target in each.targets if isinstance(target, ast.Name)]
                members |= {name: "" for name in targets if name[0] != "_" and name not in members}
            elif isinstance(each, ast.AnnAssign) and not _name(each).startswith("_"):
                if _is_field(each, has_fields):
                    own.append(_field(each))
                else:
                    members.setdefault(_name(each), f": {_text(each.annotation)}")
        fields = own + fields
    made = members.pop("__init__", f"({', '.join(fields)})" if has_fields else "()")
    yield f"class {path}{made}" + (f" of {', '.join(bases)}" if bases else "")
    for name, told in members.items():
        yield f"{path}.{name}{told}"


def _family(found: Definition, homes: dict[str, str]) -> Iterator[tuple[Definition, bool]]:
    """A class, then its bases: whether each is to be told of with it, or by its name alone."""
    yield found, True
    assert isinstance(found.node, ast.ClassDef)
    for base in found.node.bases:
        plain = base.value if isinstance(base, ast.Subscript) else base
        try:
            origin = definition(found.module, ast.unparse(plain))
        except LookupError:  # a builtin, or a name within a module, such as `nn.Module`
            yield Definition("", ast.unparse(plain), None), False
            continue
        if origin.path in homes or not isinstance(origin.node, ast.ClassDef):
            yield origin, False
        else:
            yield from _family(origin, homes)


def _method(node: ast.FunctionDef, members: dict[str, str]) -> None:
    decorators = {ast.unparse(each) for each in node.decorator_list}
    is_public = not node.name.startswith("_") or node.name in _SPECIAL
    if not is_public or _is_overload(node) or any(each.endswith(".setter") for each in decorators):
        return
    if decorators & {"property", "cached_property", "functools.cached_property"}:
        told = f": {_text(node.returns)}" if node.returns else ""
    elif node.name == "__init__":
        told = _signature(node, returns=False)
    else:
        kinds = sorted(decorators & {"classmethod", "staticmethod", "abstractmethod"})
        told = _signature(node) + "".join(f" [{kind}]" for kind in kinds)
    members.setdefault(node.name, told)


def _signature(node: ast.FunctionDef, returns: bool = True) -> str:
    given = ast.unparse(node.args)
    first, _, rest = given.partition(", ")
    given = rest if first in ("self", "cls") else given
    told = f" -> {_text(node.returns)}" if returns and node.returns is not None else ""
    return f"({' '.join(given.split())}){told}"


def _has_fields(node: ast.ClassDef) -> bool:
    """Whether its annotations are its constructor's arguments."""
    decorated = any("dataclass" in ast.unparse(each) for each in node.decorator_list)
    return decorated or any(ast.unparse(base) in _FIELD_CLASSES for base in node.bases)


def _is_field(node: ast.AnnAssign, has_fields: bool) -> bool:
    if not has_fields or _text(node.annotation).startswith("ClassVar"):
        return False
    return "init=False" not in (ast.unparse(node.value) if node.value else "")


def _field(node: ast.AnnAssign) -> str:
    told = f"{_name(node)}: {_text(node.annotation)}"
    return told if node.value is None else f"{told} = {_default(node.value)}"


def _default(value: ast.expr) -> str:
    """A field's default, without what `Field` and `field` say besides."""
    if isinstance(value, ast.Call) and ast.unparse(value.func) in ("Field", "field"):
        named = {word.arg: word.value for word in value.keywords}
        if value.args:
            return _text(value.args[0])
        if "default" in named:
            return _text(named["default"])
        return f"{_text(named['default_factory'])}()" if "default_factory" in named else "..."
    return _text(value)


def _is_overload(node: ast.stmt) -> bool:
    decorators = getattr(node, "decorator_list", [])
    return any(ast.unparse(each).endswith("overload") for each in decorators)


def _name(node: ast.AnnAssign) -> str:
    return ast.unparse(node.target)


def _text(node: ast.expr) -> str:
    """Source of an expression in one line, without the quotes of a whole annotation."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
        return node.value if node.value[:1].isupper() else repr(node.value)
    return " ".join(ast.unparse(node).split())


def command_lines() -> list[str]:
    """Every command with its options, and every analysis with its parameters."""
    import typer

    from analyses import list_analyses
    from dashboards.cli import app
    from dashboards.settings import describe

    commands: Any = typer.main.get_command(app)
    lines = []
    for name, command in sorted(commands.commands.items()):
        given = [
            "/".join([*each.opts, *each.secondary_opts])
            if each.param_type_name == "option"
            else each.name.upper()
            for each in command.params
        ]
        lines.append(" ".join([f"$ interp {name}", *given]))
    for each in list_analyses():
        settings = [f"{p['name']}={p['default']!r}" for p in describe(each.Params)]
        lines.append(f"$ interp run {each.name} --set {' '.join(settings)}")
    return lines


def public_names() -> str:
    """The whole list, as it is checked in."""
    version = source.bindings("interp")["__version__"]
    assert isinstance(version, ast.Assign)
    number = ast.literal_eval(version.value)
    head = f"# Public names of interp {number}. Made by `make public-names`; do not edit."
    return "\n".join([head, "", *api_lines(), "", *command_lines()]) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(public_names(), encoding="utf-8")
