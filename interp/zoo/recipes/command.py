"""The command line that every recipe has."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from interp.zoo.entry import ZooEntry


def recipe_parser(module: str, steps: int | None) -> argparse.ArgumentParser:
    """Options that all recipes have: `--out` and `--steps` (None: as many as suit the task)."""
    parser = argparse.ArgumentParser(prog=f"python -m interp.zoo.recipes.{module}")
    parser.add_argument("--out", type=Path, required=True, help="directory of the new entry")
    usual = "as many as suit the task" if steps is None else "%(default)s"
    parser.add_argument("--steps", type=int, default=steps, help=f"updates (default: {usual})")
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
    print_entry(make_entry(**given, progress=sys.stderr.isatty()), measured, control)
    return 0


def print_entry(entry: ZooEntry, measured: str, control: str) -> None:
    """Print what an entry's model and its control reach, under these names, and where it is."""
    for kind, figures in ((measured, entry.metrics), (control, entry.control)):
        print(f"{kind}: " + ", ".join(f"{k}={v}" for k, v in figures.items()))
    print(f"written to {entry.directory}")
