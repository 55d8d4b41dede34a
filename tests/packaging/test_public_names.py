"""The checked-in list of public names is that of the code, and what Python itself finds there."""

from __future__ import annotations

import difflib
import importlib
import inspect
import re

import pytest

import interp
from docs.generate.public_names import FILE, ROOT, api_lines, public_modules, public_names


def test_every_change_of_a_public_name_is_meant():
    listed = FILE.read_text(encoding="utf-8").splitlines()
    changes = difflib.unified_diff(listed, public_names().splitlines(), lineterm="", n=0)
    told = [line for line in changes if not line.startswith(("---", "+++", "@@"))]
    if told:
        more = f"\n… and {len(told) - 30} more" if len(told) > 30 else ""
        pytest.fail(
            "public names have changed:\n" + "\n".join(line[:200] for line in told[:30]) + more
            + "\nIf that was meant: `make public-names`, and tell of it in CHANGELOG.md under "
            "Unreleased.",
            pytrace=False,
        )  # fmt: skip


def test_one_version_everywhere():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"^version: (.*)$", citation, re.M) == [interp.__version__]
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## (Unreleased|{re.escape(interp.__version__)} )", changes, re.M)


def _arguments(line: str) -> list[str]:
    """The names of a listed signature's arguments."""
    depth, names, start = 0, [], line.index("(") + 1
    for i, letter in enumerate(line[start:], start):
        if letter in "([{":
            depth += 1
        elif letter in ")]}":
            depth -= 1
        if (letter == "," and depth == 0) or depth < 0:
            names.append(re.match(r"\W*(\w*)", line[start:i])[1])
            start = i + 1
        if depth < 0:
            break
    return [name for name in names if name]


def _actual(function) -> list[str]:
    names = list(inspect.signature(function).parameters)
    is_method = "." in function.__qualname__ and names[:1] in (["self"], ["cls"])
    return names[1:] if is_method else names


def _has(cls: type, name: str) -> bool:
    """As an attribute, an annotation or a field."""
    annotated = any(name in vars(each).get("__annotations__", {}) for each in cls.__mro__)
    return annotated or hasattr(cls, name)


def test_python_finds_the_same():
    """Every listed name is there with these arguments; every public method there is listed."""
    lines = {re.split(r"[(:]| is ", line.removeprefix("class "))[0]: line for line in api_lines()}
    assert len(lines) > 1000
    unseen = dict(lines)
    for module, names in public_modules().items():
        for name in names:
            path = f"{module}.{name}"
            found, line = getattr(importlib.import_module(module), name), unseen.pop(path)
            if " is " in line:
                home, _, other = line.split(" is ")[1].rpartition(".")
                assert getattr(importlib.import_module(home), other) is found, line
            elif inspect.isfunction(found):
                assert _arguments(line) == _actual(found), line
            elif inspect.isclass(found):
                assert line.startswith("class "), line
                _check_members(found, path, lines, unseen)
    assert not unseen


def _check_members(cls: type, path: str, lines: dict[str, str], unseen: dict[str, str]) -> None:
    public_bases = re.findall(r"[\w.]+", lines[path].rpartition(" of ")[2])
    inherited = {name for base in public_bases for name in vars(_named(base))}
    for member in [each for each in unseen if each.rpartition(".")[0] == path]:
        name, line = member.rpartition(".")[2], unseen.pop(member)
        assert _has(cls, name), line
        function = inspect.getattr_static(cls, name, None)
        function = getattr(function, "__func__", function)
        if inspect.isfunction(function) and "(" in line.split(": ")[0]:
            assert _arguments(line) == _actual(function), line
    for each in cls.__mro__:
        if each.__module__.split(".")[0] not in ("interp", "analyses"):
            continue
        for name, value in vars(each).items():
            made = inspect.isfunction(value) or isinstance(value, property | classmethod)
            if made and not name.startswith("_") and name not in inherited:
                listed = f"{path}.{name}" in lines or any(
                    f".{base.__name__}.{name}" in key for base in cls.__mro__ for key in lines
                )
                assert listed, f"{path}.{name} is public and not listed"


def _named(path: str) -> type:
    module, _, name = path.rpartition(".")
    if module.split(".")[0] not in ("interp", "analyses"):
        return object
    return getattr(importlib.import_module(module), name)
