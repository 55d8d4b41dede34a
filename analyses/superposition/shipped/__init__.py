"""Results that ship with the package, to be looked at before anything is trained.

Made by `python -m analyses.superposition.shipped`; each says its settings in its provenance. They
are saved without pictures, which are drawn from the tables.
"""

from __future__ import annotations

from pathlib import Path

from analyses.results.result import AnalysisResult
from analyses.results.storage import DOCUMENT
from interp.errors import unknown

HERE = Path(__file__).parent


def list_shipped() -> list[str]:
    """Names of the results that ship."""
    return sorted(each.name for each in HERE.iterdir() if (each / DOCUMENT).is_file())


def load_shipped(name: str) -> AnalysisResult:
    """Read one of them.

    Raises:
        InputError: If there is none of this name; the message lists those there are.
    """
    names = list_shipped()
    if name not in names:
        raise unknown("shipped result", name, names)
    return AnalysisResult.load(HERE / name)
