"""What each public name of TransformerLens 3.9 is in interp: `names.csv`, and the page's tables.

    python -m docs.ported.names

writes the tables of `docs/coming-from-transformerlens.md` anew, between its markers. The verdicts
are written by hand; the names and their parameters are TransformerLens's own (`introspect.py`).
"""

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from interp.files.atomic import replacing_file

TABLE = Path(__file__).parent / "names.csv"
PAGE = Path(__file__).parents[1] / "coming-from-transformerlens.md"
VERDICTS = ("same", "differs", "other name", "not here")
_MARKED = re.compile(r"(<!-- names of (\w+) -->\n).*?(<!-- end of names -->)", re.DOTALL)


@dataclass(frozen=True)
class Name:
    """One public name of TransformerLens.

    Attributes:
        owner: The class or module that has it.
        name: The name.
        parameters: Of something that can be called, in order; `*` and `**` as in a signature.
        verdict: `same`: a script need not change; `differs`: the name is here and means something
            else in a way that `note` tells; `other name`: `here` says which; `not here`.
        here: Dotted names of what there is instead, one or several with commas between.
        note: What differs, or why it is not here.
    """

    owner: str
    name: str
    parameters: tuple[str, ...]
    verdict: str
    here: str
    note: str


def read_names() -> list[Name]:
    """The rows of `names.csv`."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [Name(**{**row, "parameters": tuple(row["parameters"].split())}) for row in rows]


def table(names: Iterable[Name]) -> str:
    """A Markdown table: first what is the same; names of which the same is said share a row."""
    lines = ["| TransformerLens | here | |", "|---|---|---|"]
    groups: dict[tuple[str, str, str], list[str]] = {}
    for name in sorted(names, key=lambda n: VERDICTS.index(n.verdict)):
        groups.setdefault((name.verdict, name.here, name.note), []).append(name.name)
    for (verdict, here, note), group in groups.items():
        shown = ", ".join(f"`{name}`" for name in group)
        links = ", ".join(f"`{target}`" for target in here.split(", ")) if here else ""
        lines.append(f"| {shown} | {links or verdict} |{f' {note} ' if note else ' '}|")
    return "\n".join(lines) + "\n"


def summary(names: Sequence[Name]) -> str:
    """How many names have which verdict."""
    counts = {verdict: sum(n.verdict == verdict for n in names) for verdict in VERDICTS}
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    return f"{len(names)} names: {told}.\n"


def page_with_tables(text: str) -> str:
    """The page's text with every marked table as `names.csv` has it."""
    names = read_names()

    def fill(match: re.Match[str]) -> str:
        owner = match[2]
        if owner == "everything":
            return match[1] + "\n" + summary(names) + "\n" + match[3]
        return match[1] + "\n" + table([n for n in names if n.owner == owner]) + "\n" + match[3]

    return _MARKED.sub(fill, text)


if __name__ == "__main__":
    text = page_with_tables(PAGE.read_text(encoding="utf-8"))
    with replacing_file(PAGE) as fresh:
        fresh.write_text(text, encoding="utf-8")
