"""What `interp dashboard` hands to the pages: `app.py -- --model M … --runs DIR`."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """What the dashboard was started with.

    Attributes:
        models: Hub names and directories to offer besides the zoo.
        runs: Where results are saved.
    """

    models: tuple[str, ...]
    runs: Path


def read_options(args: Sequence[str] | None = None) -> Options:
    """Read the arguments behind `--`; those of the process by default."""
    parser = argparse.ArgumentParser(prog="dashboards/app.py")
    parser.add_argument("--model", action="append", default=[], help="A model to offer.")
    parser.add_argument(
        "--models-dir", type=Path, action="append", default=[], help="Offer each model in it."
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="Where results are saved.")
    given = parser.parse_args(sys.argv[1:] if args is None else args)
    models = [*given.model, *(name for each in given.models_dir for name in models_in(each))]
    return Options(tuple(dict.fromkeys(models)), given.runs)


def models_in(directory: Path) -> list[str]:
    """The models of a directory, by path: its subdirectories that hold a `config.json`."""
    if not directory.is_dir():
        return []
    return sorted(str(each) for each in directory.iterdir() if (each / "config.json").is_file())
