"""docs/measured/mutation.md: counts by file, and every mutant that no test finds, with why."""

from __future__ import annotations

import tomllib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

EXPLAINED = Path(__file__).with_name("survivors.toml")
_HEAD = """# Mutation

Made by `make mutation`; do not edit.

What the tests would notice. Small faults (mutants) are planted one at a time: a `<` becomes `<=`,
an argument is dropped or becomes `None`, a `+` a `-`, a number one more, one arm of a conditional
never runs. A mutant is *killed* where a test fails, or the process dies, with it. One that
*survives* changes nothing that matters, or shows a test that is missing.
"""
_OUTCOMES = ("killed", "timeout", "survived", "not reached")


def page(
    results: Sequence[Mapping[str, Any]],
    areas: Mapping[str, Sequence[str]],
    places: Mapping[str, int],
    made_of: str,
) -> str:
    """The page's text.

    Args:
        results: What `runs` wrote.
        areas: Name → files.
        places: File → how many mutants it has in all.
        made_of: A paragraph: with what, of which commit, how chosen.
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for result in results:
        counts[result["path"]][result["outcome"]] += 1
    lines = [_HEAD, made_of, "", "## By file", ""]
    lines += ["| file | mutants | tried | killed | too slow | survived | no test runs it |"]
    lines += ["|---|---:|---:|---:|---:|---:|---:|"]
    for name, files in areas.items():
        for path in files:
            if places[path]:
                lines.append(_row(f"`{path}`", places[path], counts[path]))
        if len(files) > 1:
            total = sum((counts[path] for path in files), Counter[str]())
            lines.append(_row(f"**{name}**", sum(places[path] for path in files), total))
    lines.append(_row("**all**", sum(places.values()), sum(counts.values(), Counter())))
    lines += ["", "“Too slow” is killed too: the mutant ran on and on, or asked for memory.", ""]
    return "\n".join([*lines, *_survivors(results)]) + "\n"


def _row(name: str, places: int, found: Counter[str]) -> str:
    cells = [places, sum(found[x] for x in _OUTCOMES), *(found[x] for x in _OUTCOMES)]
    return f"| {name} | " + " | ".join(f"{x:,}" for x in cells) + " |"


def _survivors(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is left, by file, beside what `survivors.toml` says about it."""
    explained = tomllib.loads(EXPLAINED.read_text("utf-8"))["survivor"]
    why = {(x["file"], x["function"], x["old"], x["new"]): x["why"] for x in explained}
    left = [x for x in results if x["outcome"] in ("survived", "not reached")]
    lines = ["## What survives", "", "Each with the reason for which no test was written.", ""]
    by_file = defaultdict(list)
    for result in left:
        by_file[result["path"]].append(result)
    for path in sorted(by_file):
        lines += [f"### {path}", "", "| where | was | became | why it stays |", "|---|---|---|---|"]
        for x in sorted(by_file[path], key=lambda x: x["line"]):
            reason = why.get((path, x["function"], x["old"], x["new"]), "not looked at yet")
            old, new = _part(x["old"], x["new"])
            lines.append(f"| `{x['function']}` | {_code(old)} | {_code(new)} | {reason} |")
        lines.append("")
    return lines


def _part(old: str, new: str, around: int = 24) -> tuple[str, str]:
    """What differs between two lines, with a little of what stands beside it."""
    first = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), len(old))
    last = 0
    while last < min(len(old), len(new)) - first and old[-1 - last] == new[-1 - last]:
        last += 1
    begin, end = max(0, first - around), max(0, last - around)
    cut = [x[begin : len(x) - end] for x in (old, new)]
    dots = "…" if begin else "", "…" if end else ""
    return dots[0] + cut[0] + dots[1], dots[0] + cut[1] + dots[1]


def _code(text: str) -> str:
    return f"`` {text} ``".replace("|", "\\|") if text else "(nothing)"
