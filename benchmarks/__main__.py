"""interp beside other packages: python -m benchmarks [--device cuda] [--quick] [--only GLOB …]."""

from __future__ import annotations

import os

# Before anything that reads them is imported.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("KINETO_LOG_LEVEL", "6")

import argparse
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch

from benchmarks import bench, contenders, machine, processes, report, shapes, suites
from benchmarks.bench import Row
from benchmarks.suites import Entry

_ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Measure, print as it goes, and write JSON and Markdown; exit code 1 if a contender failed."""
    options = _options()
    if options.render:
        report.write(json.loads(options.json.read_text(encoding="utf-8")), options.docs)
        return
    warnings.simplefilter("ignore")  # peers warn of random tokens and missing tokenizers
    missing = [c.package for c in contenders.ALL if not c.is_installed()]
    document: dict[str, Any] = {
        "machine": machine.describe(options.device),
        "remarks": [f"not installed, so left out: {', '.join(missing)}"] if missing else [],
        "rows": _earlier(options.json) if options.append else [],
    }
    failed = False
    for rows in _measure(options):
        document["rows"] = _merged(document["rows"], [asdict(row) for row in rows])
        for row in rows:
            failed = failed or row.problem not in ("", "out of memory")
            _show(row)
        # After each set: a run that is cut short keeps what it has.
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(document, indent=1), encoding="utf-8")
    if options.docs is not None:
        report.write(document, options.docs)
    print("\n".join(report.aims_table(report.evaluate(document["rows"], options.device))))
    sys.exit(int(failed))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--quick", action="store_true", help="small shapes, few rounds, no docs")
    parser.add_argument(
        "--only",
        nargs="*",
        default=["*"],
        help="globs of shape/dtype/task, such as small/*/forward",
    )
    parser.add_argument("--seconds", type=float, default=1.0, help="times the usual duration")
    parser.add_argument("--no-compile", action="store_true", help="leave compiled contenders out")
    parser.add_argument("--compile-mode", help="for torch.compile; reduce-overhead on CUDA")
    parser.add_argument("--json", type=Path, help="build/benchmarks/DEVICE.json")
    parser.add_argument("--docs", type=Path, help="the Markdown file whose part is replaced")
    parser.add_argument("--append", action="store_true", help="keep the JSON's other rows")
    parser.add_argument("--render", action="store_true", help="only write --docs, from --json")
    options = parser.parse_args()
    if options.device == "cuda" and not options.render and not torch.cuda.is_available():
        parser.error("there is no CUDA device here")
    if options.json is None:
        name = f"{options.device}-quick.json" if options.quick else f"{options.device}.json"
        options.json = _ROOT / "build" / "benchmarks" / name
    if options.compile_mode is None:
        options.compile_mode = "reduce-overhead" if options.device == "cuda" else "default"
    if options.render and options.docs is None:
        parser.error("--render needs --docs")
    return options


def _measure(options: argparse.Namespace) -> Iterator[list[Row]]:
    suite: tuple[Entry, ...] = suites.GPU if options.device == "cuda" else suites.CPU
    if options.quick:
        suite = suites.quick(suite)
    for entry in suite:
        chosen = _chosen(entry, options.only)
        for one in chosen:
            start = time.perf_counter()
            effort = replace(one.effort, seconds=one.effort.seconds * options.seconds)
            compiles = () if options.no_compile else one.compiles
            one = replace(one, effort=effort, compiles=compiles)
            print(f"\n{one.shape.name}: {one.shape.describe()}; {', '.join(one.dtypes)}")
            yield from bench.run_entry(one, options.device, options.compile_mode)
            print(f"{time.perf_counter() - start:.0f} s")
    rounds = 1 if options.quick else 5
    load_shape = shapes.SMALL if options.quick else replace(shapes.GPT2_PROMPT, name="gpt2")
    if _fits("any", "", "import", options.only):
        yield _timed("import", lambda: processes.import_times(rounds))
    if _fits(load_shape.name, "float32", "load", options.only):
        load_rounds = min(rounds, 3)
        yield _timed("load", lambda: processes.load_times(load_shape, options.device, load_rounds))


def _timed(what: str, measure: Callable[[], list[Row]]) -> list[Row]:
    start = time.perf_counter()
    rows = measure()
    print(f"\n{what}: {time.perf_counter() - start:.0f} s")
    return rows


def _chosen(entry: Entry, only: list[str]) -> list[Entry]:
    """The entry for each dtype, with the tasks that are asked for."""
    found = []
    for dtype in entry.dtypes:
        tasks = tuple(t for t in entry.tasks if _fits(entry.shape.name, dtype, t, only))
        if tasks:
            found.append(replace(entry, tasks=tasks, dtypes=(dtype,)))
    return found


def _fits(shape: str, dtype: str, task: str, only: list[str]) -> bool:
    return any(fnmatchcase(f"{shape}/{dtype}/{task}", glob) for glob in only)


def _earlier(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["rows"]
    return rows


def _merged(earlier: list[dict[str, Any]], new: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of the same task, shape and dtype are replaced."""

    def key(row: dict[str, Any]) -> tuple[str, str, str]:
        return row["shape"], row["dtype"], row["task"]

    measured = {key(row) for row in new}
    return [row for row in earlier if key(row) not in measured] + new


def _show(row: Row) -> None:
    if row.problem:
        print(f"{row.task:34s} {row.contender:44s} {row.problem}")
        return
    milliseconds = statistics.median(row.milliseconds)
    memory = "" if row.peak_bytes is None else f"{row.peak_bytes / 2**20:10.1f} MiB"
    print(
        f"{row.task:34s} {row.contender:44s} {milliseconds:10.2f} ms "
        f"{len(row.milliseconds):3d} calls {memory}"
    )


if __name__ == "__main__":
    main()
