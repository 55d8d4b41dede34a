"""A mutant in place of the code that is already imported, in this process alone."""

from __future__ import annotations

import gc
import importlib
import types
from collections import defaultdict
from collections.abc import Iterable, Iterator

from tests.mutation.mutants import Mutant

Functions = dict[str, list[types.FunctionType]]


def live_functions(paths: Iterable[str]) -> dict[str, Functions]:
    """File → the functions that stand in its text, decorated ones and methods too, by name."""
    modules = {path: importlib.import_module(_module_name(path)) for path in paths}
    by_file: dict[str | None, Functions] = {
        module.__file__: defaultdict(list) for module in modules.values()
    }
    for x in gc.get_objects():
        if type(x) is types.FunctionType and "<locals>" not in x.__qualname__:
            found = by_file.get(x.__code__.co_filename)  # not its module's: it may be a dataclass's
            if found is not None:
                found[x.__qualname__].append(x)
    for functions in by_file.values():
        for same_name in functions.values():
            same_name.sort(key=lambda function: function.__code__.co_firstlineno)
    return {path: by_file[module.__file__] for path, module in modules.items()}


def plant(mutant: Mutant, live: Functions) -> bool:
    """Give live functions the mutant's code, or its default values; whether anything changed.

    Whoever imported one of them holds the same function, and so has the mutant too. What runs
    while the module is imported stays as it was.
    """
    module = importlib.import_module(_module_name(mutant.path))
    code = compile(mutant.code, str(module.__file__), "exec", dont_inherit=True)
    codes = defaultdict(list)
    for inner in _outermost(code):
        codes[inner.co_qualname].append(inner)
    changed = False
    for name, functions in live.items():
        for function, new in zip(functions, codes[name], strict=True):
            if function.__code__ != new:
                function.__code__ = new
                changed = True
    return changed or _plant_defaults(code, module, live)


def _plant_defaults(code: types.CodeType, module: types.ModuleType, live: Functions) -> bool:
    planted = types.ModuleType(module.__name__)
    planted.__file__, planted.__package__ = module.__file__, module.__package__
    exec(code, planted.__dict__)
    changed = False
    for x in gc.get_objects():
        if type(x) is types.FunctionType and x.__globals__ is planted.__dict__:
            for function in live.get(x.__qualname__, []):
                old, new = [repr((y.__defaults__, y.__kwdefaults__)) for y in (function, x)]
                if old != new:
                    function.__defaults__, function.__kwdefaults__ = (
                        x.__defaults__,
                        x.__kwdefaults__,
                    )
                    changed = True
    return changed


def _outermost(code: types.CodeType) -> Iterator[types.CodeType]:
    """The functions of a module, and the methods of its classes."""
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            if inner.co_flags & 1:  # CO_OPTIMIZED: a function; a class's body is not
                if not inner.co_name.startswith("<"):
                    yield inner
            else:
                yield from _outermost(inner)


def _module_name(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
