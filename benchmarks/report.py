"""From what was measured to the tables of docs/measured/benchmarks.md."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import shapes
from benchmarks.aims import Found, evaluate, value
from benchmarks.contenders.ours import OURS

_HEAD = """# Benchmarks

Made by `make bench` (CPU) and `make bench-gpu` (CUDA), each of which replaces its own part below.

All contenders of a task hold the same random GPT-2 weights, are compared with one another first
(fp32 to 1e-5 of the largest value, bf16 to 0.1) and are then timed in turns in one process, with
gradients off. A time is the median of the calls, their middle half in brackets; the ratio is
interp's time over that contender's, so that less than 1 means interp is faster. Memory is the most
that one call had allocated through PyTorch above what stood there before it, what it returns
included. Nothing here is a test: the ratios move with the machine.
"""
_SECTIONS = {"cpu": "CPU", "cuda": "GPU"}
_TASKS = {
    "forward": "forward, nothing watched",
    "record_all": "record all",
    "record_pattern": "record one layer's pattern",
    "edit": "one edit hook (a head set to zero)",
    "attribution:last": "head attribution, last position",
    "attribution:all": "head attribution, all positions",
    "attribution_patching": "attribution patching, every head at every position",
    "generation": "generation, 32 tokens, greedy",
    "pattern_statistics:all": "pattern statistics, all",
    "pattern_statistics:simple": "pattern statistics, five simple ones",
    "import": "import, after torch",
    "load": "opening a checkpoint, and eight tokens",
}
_BEGIN, _END = "<!-- begin: {} -->", "<!-- end: {} -->"
Rows = Sequence[Mapping[str, Any]]


def write(document: Mapping[str, Any], path: Path) -> None:
    """Put a run's part into the file, in place of the part of the device's last run."""
    device = document["machine"]["device"]
    parts = dict.fromkeys(_SECTIONS, "")
    if path.exists():
        text = path.read_text(encoding="utf-8")
        parts = {name: _between(text, name) for name in _SECTIONS}
    parts[device] = section(document)
    whole = [_HEAD]
    for name, part in parts.items():
        if part:
            whole += [_BEGIN.format(name), part, _END.format(name), ""]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(whole), encoding="utf-8")


def _between(text: str, device: str) -> str:
    _, begins, after = text.partition(_BEGIN.format(device))
    part, ends, _ = after.partition(_END.format(device))
    return part.strip("\n") if begins and ends else ""


def section(document: Mapping[str, Any]) -> str:
    """One device's part: the machine, the aims, then every task."""
    machine, rows = document["machine"], document["rows"]
    device = machine["device"]
    found = evaluate(rows, device)
    lines = [f"## {_SECTIONS[device]}", ""]
    lines += [f"- {what}: {text}" for what, text in machine.items() if what != "device"]
    lines += [f"- {line}" for line in document.get("remarks", [])]
    lines += ["", f"### {_SECTIONS[device]}: aims and what was found", "", *aims_table(found)]
    for place in dict.fromkeys((row["shape"], row["dtype"]) for row in rows):
        lines += ["", *_place(place, rows, found, _SECTIONS[device])]
    return "\n".join(lines)


def aims_table(found: Iterable[Found]) -> list[str]:
    """Each aim at each shape: the ratio that was found, and whether it is as small as aimed at."""
    lines = ["| what | shape | found | aim | met |", "| --- | --- | ---: | ---: | --- |"]
    for one in found:
        where = f"{one.shape}, {one.dtype}" if one.dtype else one.shape
        if one.limit is not None:
            met = "yes" if one.is_met else "**no**"
            lines.append(
                f"| {one.aim.what} | {where} | {ratio(one.ratio)} | ≤ {ratio(one.limit)} | {met} |"
            )
    return lines


def _place(place: tuple[str, str], rows: Rows, found: Sequence[Found], device: str) -> list[str]:
    shape, dtype = place
    known = {s.name: s for s in vars(shapes).values() if isinstance(s, shapes.Shape)}
    here = [row for row in rows if (row["shape"], row["dtype"]) == place]
    title = "Processes of their own" if shape == "any" else f"`{shape}`, {dtype}"
    lines = [f"### {device}: {title}", ""]
    if shape in known:
        lines += [f"{known[shape].describe()}.", ""]
    lines += [
        "| task | contender | ms | interp / this | aim | MiB | interp / this | difference |",
        "| --- | --- | ---: | ---: | --- | ---: | ---: | ---: |",
    ]
    notes: list[str] = []
    for task in dict.fromkeys(row["task"] for row in here):
        of_task = [row for row in here if row["task"] == task]
        ours = next((r for r in of_task if r["contender"] == OURS and not r["problem"]), None)
        for row in of_task:
            lines.append(_line(row, ours, found, notes))
    if notes:
        lines += ["", *(f"{i}. {note}" for i, note in enumerate(notes, 1))]
    return lines


def _line(
    row: Mapping[str, Any],
    ours: Mapping[str, Any] | None,
    found: Sequence[Found],
    notes: list[str],
) -> str:
    label = row["contender"]
    if row["compile_seconds"] is not None:
        label += f"; first call {row['compile_seconds']:.0f} s"
    if row["note"]:
        if row["note"] not in notes:
            notes.append(row["note"])
        label += f" ({notes.index(row['note']) + 1})"
    cells = [title_of(row["task"]), label]
    if row["problem"]:
        problem = row["problem"].replace("|", "\\|")
        return "| " + " | ".join([*cells, problem, "", "", "", "", ""]) + " |"
    is_ours = row["contender"].startswith(OURS)
    peak = value(row, "memory")
    cells += [
        _times(row["milliseconds"]),
        "" if is_ours else _beside(ours, row, "time"),
        _aims(row, found),
        "" if peak is None else f"{peak / 2**20:,.1f}",
        "" if is_ours else _beside(ours, row, "memory"),
        "" if row["difference"] is None else f"{row['difference']:.0e}",
    ]
    return "| " + " | ".join(cells) + " |"


def title_of(task: str) -> str:
    """A task in words."""
    name, _, detail = task.partition(":")
    if name == "sweep":
        return f"patch sweep, {detail}"
    return _TASKS[task]


def _times(milliseconds: Sequence[float]) -> str:
    median = statistics.median(milliseconds)
    if len(milliseconds) < 3:
        calls = "one call" if len(milliseconds) == 1 else f"{len(milliseconds)} calls"
        return f"{_number(median)} ({calls})"
    low, _, high = statistics.quantiles(milliseconds, n=4, method="inclusive")
    return f"{_number(median)} ({_number(low)}–{_number(high)})"


def _beside(ours: Mapping[str, Any] | None, row: Mapping[str, Any], quantity: Any) -> str:
    if ours is None:
        return ""
    above, below = value(ours, quantity), value(row, quantity)
    return ratio(above / below) if above is not None and below else ""


def _aims(row: Mapping[str, Any], found: Sequence[Found]) -> str:
    """The aims that have this row above the line; what is beside it may stand in another task."""
    cells = []
    for one in found:
        here = (one.shape, one.dtype) == (row["shape"], row["dtype"])
        if here and one.aim.ours == (row["task"], row["contender"]) and one.limit is not None:
            beside = one.aim.beside[1]
            if one.aim.beside[0] != row["task"]:
                beside = f"{beside}, {title_of(one.aim.beside[0])}"
            kind = "memory " if one.aim.quantity == "memory" else ""
            cells.append(f"{kind}{ratio(one.ratio)} ≤ {ratio(one.limit)} of {beside}")
    return "; ".join(cells)


def ratio(number: float) -> str:
    """Two digits that mean something; small ones as a fraction."""
    if number < 0.02:
        return f"1/{1 / number:,.0f}"
    return f"{number:.2f}" if number < 10 else f"{number:,.0f}"


def _number(milliseconds: float) -> str:
    return f"{milliseconds:,.0f}" if milliseconds >= 100 else f"{milliseconds:.3g}"
