"""Which folder imports which: read off the code, folders that need each other taken together."""

from __future__ import annotations

from dataclasses import dataclass

import grimp
import networkx as nx

from docs.generate.source import ROOT, is_package

FLOORS = ("dashboards", "analyses", "interp")  # from the top down


@dataclass(frozen=True, order=True)
class Group:
    """A node of the picture: folders of one floor, several where they import each other.

    Attributes:
        floor: The package that they lie in.
        folders: Their names, without the floor's. `*.py` are the files beside the folders.
    """

    floor: str
    folders: tuple[str, ...]


def import_graph() -> nx.DiGraph:
    """The house as a graph of `Group`s without cycles, an edge from who imports to what.

    What counts is imported when a module is: imports inside functions and those for type checkers
    alone are left out. So are files that stand beside the folders and need none of them (errors,
    names): nearly all import these. Edges that follow from others are left out
    (`networkx.transitive_reduction`).
    """
    imports = _module_imports()
    folder = {module: _folder(module) for module in imports}
    plain = _plain_files(imports, folder)
    edges = nx.DiGraph()
    for module, targets in imports.items():
        if module in plain:
            continue
        edges.add_node(folder[module])
        edges.add_edges_from(
            (folder[module], folder[target])
            for target in targets
            if target not in plain and folder[target] != folder[module]
        )
    whole = nx.condensation(edges)
    names = {node: _group(data["members"]) for node, data in whole.nodes(data=True)}
    reduced = nx.relabel_nodes(nx.transitive_reduction(whole), names)
    result = nx.DiGraph()  # in an order that does not depend on how the search went
    result.add_nodes_from(sorted(reduced.nodes))
    result.add_edges_from(sorted(reduced.edges))
    return result


def _module_imports() -> dict[str, set[str]]:
    graph = grimp.build_graph(*FLOORS, cache_dir=None, exclude_type_checking_imports=True)
    found: dict[str, set[str]] = {}
    for module in sorted(graph.modules):
        base = ROOT / module.replace(".", "/")
        path = base / "__init__.py" if is_package(module) else base.with_suffix(".py")
        lines = path.read_text("utf-8").split("\n")
        found[module] = {
            target
            for target in graph.find_modules_directly_imported_by(module)
            for detail in graph.get_import_details(importer=module, imported=target)
            if not lines[detail["line_number"] - 1].startswith(" ")
        }
    return found


def _folder(module: str) -> tuple[str, str]:
    floor, *rest = module.split(".")
    if rest and is_package(f"{floor}.{rest[0]}"):
        return floor, rest[0]
    return floor, "*.py"


def _plain_files(imports: dict[str, set[str]], folder: dict[str, tuple[str, str]]) -> set[str]:
    plain = {module for module, (_, name) in folder.items() if name == "*.py" and "." in module}
    while True:
        needy = {module for module in plain if not imports[module] <= plain}
        if not needy:
            return plain
        plain -= needy


def _group(members: set[tuple[str, str]]) -> Group:
    (floor,) = {floor for floor, _ in members}  # floors cannot import each other in a circle
    names = sorted((name for _, name in members), key=lambda name: (name == "*.py", name))
    return Group(floor, tuple(names))
