"""The table of folders and files: where is what, in the words of their own docstrings."""

from __future__ import annotations

from docs.generate.source import ROOT, docstring, is_package, summary


def folders_table(floor: str) -> str:
    """The folders of a floor and then the files beside them, each with its docstring's first line.

    Args:
        floor: `interp`, `analyses` or `dashboards`.

    Returns:
        A Markdown table.
    """
    names = sorted(
        path.stem
        for path in (ROOT / floor).iterdir()
        if (path.suffix == ".py" or (path / "__init__.py").exists()) and path.stem != "__init__"
    )
    folders = [name for name in names if is_package(f"{floor}.{name}")]
    files = [name for name in names if name not in folders]
    places = [f"{name}/" for name in folders] + [f"{name}.py" for name in files]
    rows = [
        f"| `{floor}/{place}` | {_line(f'{floor}.{name}')} |"
        for place, name in zip(places, folders + files, strict=True)
    ]
    return "\n".join(["| where | what |", "|---|---|", *rows])


def _line(module: str) -> str:
    return summary(docstring(module)).replace("|", "\\|")
