"""The command line that every recipe has."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from interp.zoo.entry import ZooEntry


def recipe_parser(module: str, steps: int) -> argparse.ArgumentParser:
    """Options that all recipes have: `--out` and `--steps`."""
    parser = argparse.ArgumentParser(prog=f"python -m interp.zoo.recipes.{module}")
    parser.add_argument("--out", type=Path, required=True, help="directory of the new entry")
    parser.add_argument("--steps", type=int, default=steps, help="updates (default: %(default)s)")
    return parser


def run_recipe(
    parser: argparse.ArgumentParser,
    arguments: Sequence[str] | None,
    make_entry: Callable[..., ZooEntry],
    measured: str,
    control: str,
) -> int:
    """Make the entry, and print what its model and its control reach, under these names."""
    given = vars(parser.parse_args(arguments))
    entry = make_entry(**given, progress=sys.stderr.isatty())
    for kind, figures in ((measured, entry.metrics), (control, entry.control)):
        print(f"{kind}: " + ", ".join(f"{k}={v}" for k, v in figures.items()))
    print(f"written to {entry.directory}")
    return 0
