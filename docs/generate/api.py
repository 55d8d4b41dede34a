"""The API pages: one for each public package, made from the names in its `__all__`.

mkdocstrings fills in signatures and docstrings; here is decided what stands on which page. A name
that several packages offer has its entry in one place; the other pages link to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from docs.generate.source import (
    PACKAGES,
    Found,
    docstring,
    find,
    has_public_list,
    is_package,
    modules,
    public_names,
    summary,
)
from interp.errors import InputError

# Single files whose names scripts import from there.
MODULES = (
    "interp.compat.transformer_lens",
    "interp.errors",
    "interp.fourier",
    "interp.modular_addition",
    "interp.names",
    "interp.progress",
    "interp.utils",
)
# Their methods come from several classes, each a file of its own; the page shows them as one.
_WITH_INHERITED = {"HookedTransformer", "ActivationCache", "FactoredMatrix"}


@dataclass(frozen=True)
class ApiPage:
    """The page of one module.

    Attributes:
        module: Its dotted name.
        owners: What it offers, in the order of its `__all__`: name → the module whose page has its
            entry.
    """

    module: str
    owners: Mapping[str, str]

    @property
    def path(self) -> str:
        """Where the page lies in the site."""
        return f"api/{self.module}.md"

    def markdown(self) -> str:
        """The page: the module's docstring, a table of its names, and an entry for each."""
        rows = [
            f"| {_link(owner, name)} | {_cell(_known(self.module, name).summary)} |"
            for name, owner in self.owners.items()
        ]
        entries = [
            _entry(self.module, name)
            for name, owner in self.owners.items()
            if owner == self.module and _known(owner, name).kind != "module"
        ]
        parts = [f"# {self.module}", docstring(self.module)]
        if rows:
            parts.append("\n".join(["| name | what it is |", "|---|---|", *rows]))
        return "\n\n".join([*parts, *entries]) + "\n"


def public_modules() -> list[str]:
    """The modules that have a page: packages with an `__all__`, and `MODULES`."""
    return [
        module
        for package in PACKAGES
        for module in modules(package)
        if module in MODULES or (is_package(module) and has_public_list(module))
    ]


def api_pages() -> list[ApiPage]:
    """All pages, in the order of the menu: a package before those below it."""
    listed = public_modules()
    # The shortest name is where people look first.
    owners: dict[str, str] = {}
    for module in sorted(listed, key=lambda name: (name.count("."), listed.index(name))):
        for name in public_names(module):
            owners.setdefault(_known(module, name).path, module)
    return [
        ApiPage(module, {name: owners[_known(module, name).path] for name in public_names(module)})
        for module in listed
    ]


def api_index(pages: list[ApiPage]) -> str:
    """The page before them: each module with its line."""
    rows = [
        f"| [{page.module}]({page.module}.md) | {_cell(summary(docstring(page.module)))} |"
        for page in pages
    ]
    return "\n".join(
        [
            "# API",
            "",
            "Every public name, from the docstrings. What no page lists may change without notice.",
            "",
            "| module | what it is |",
            "|---|---|",
            *rows,
            "",
        ]
    )


def _known(module: str, name: str) -> Found:
    found = find(f"{module}.{name}")
    if found is None:
        raise InputError(f"every name in an __all__ must exist. Received {module}.{name}")
    return found


def _identifier(module: str, name: str) -> str:
    """What mkdocstrings calls a name: where it is written if a module nearby is called the same."""
    path = _known(module, name).path
    return path if path.endswith(f".{name}.{name}") else f"{module}.{name}"


def _link(module: str, name: str) -> str:
    if _known(module, name).kind == "module":
        return f"[`{name}`]({module}.{name}.md)"
    return f"[`{name}`][{_identifier(module, name)}]"


def _entry(module: str, name: str) -> str:
    options = "\n    options:\n      inherited_members: true" if name in _WITH_INHERITED else ""
    return f"::: {_identifier(module, name)}{options}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
