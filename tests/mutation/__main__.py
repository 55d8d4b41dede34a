"""`python -m tests.mutation --seconds 3600`: plant small faults, see which the tests notice."""

from __future__ import annotations

import argparse
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.mutation.mutants import places_of, sample
from tests.mutation.report import page
from tests.mutation.runs import Runs, read_results

ROOT = Path(__file__).resolve().parents[2]


def _files(folder: str) -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for path in (ROOT / folder).glob("*.py"))


AREAS = {
    "hooks": ["interp/hooks.py"],
    "cache": ["interp/cache.py"],
    "patching": _files("interp/patching"),
    "attribution": _files("interp/attribution"),
}
TESTS = [
    "tests/interp/test_hooks.py",
    "tests/interp/test_hooks_gradients.py",
    "tests/interp/test_hook_handles.py",
    "tests/interp/test_hook_lists.py",
    "tests/interp/test_cache.py",
    "tests/interp/test_cache_by_hand.py",
    "tests/interp/patching",
    "tests/interp/attribution",
]


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def main() -> int:
    """Try the mutants that have no result yet, then write the page."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation")
    parser.add_argument("--seed", type=int, default=0, help="of the order in which they are tried")
    parser.add_argument("--each", type=int, default=210, help="mutants of one area; 0: all")
    parser.add_argument("--seconds", type=float, default=3600, help="how long; 0: only the page")
    parser.add_argument("--longest", type=float, default=5, help="seconds of tests for a mutant")
    parser.add_argument("--again", action="store_true", help="only those that survived so far")
    parser.add_argument("--results", type=Path, default=ROOT / "build" / "mutation.jsonl")
    parser.add_argument("--docs", type=Path, help="the page to write")
    options = parser.parse_args()
    options.results.parent.mkdir(exist_ok=True)
    status = 0
    if options.seconds > 0:
        places = sample(ROOT, AREAS, options.each, options.seed)
        runs = Runs(places, options.results, options.seconds, options.longest, options.again)
        status = int(pytest.main(["-q", "-p", "no:cacheprovider", *TESTS], plugins=[runs]))
    if options.docs:
        counts = places_of(ROOT, AREAS)
        made = (
            f"Commit `{_commit()}`. The operators are those of mutmut {version('mutmut')}; a "
            "driver of our own (`tests/mutation/`) plants each mutant in a fork of a process that "
            "has imported everything. Of each of the four areas (hooks, cache, patching, "
            f"attribution) {f'up to {options.each}' if options.each else 'all'} places were taken, "
            f"drawn at random (seed {options.seed}). A mutant gets the tests that run its lines, "
            "as coverage.py saw them, of "
            + ", ".join(f"`{x}`" for x in TESTS)
            + ": first those that found its neighbours, then the quickest; some seconds of them, "
            "and up to a minute where it survives those. Not mutated: what runs while a module is "
            "imported, annotations, decorators, and the texts of errors where they are raised."
        )
        text = page(read_results(options.results), AREAS, counts, made)
        options.docs.write_text(text, "utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main())
