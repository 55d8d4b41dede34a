"""Make the results that ship: `python -m analyses.superposition.shipped [NAME …]`.

Where settings differ from an analysis's defaults it is to train less: all of them take about nine
minutes of one CPU core.
"""

from __future__ import annotations

import sys
from typing import Any

from analyses.registry import run_analysis
from analyses.results.storage import save
from analyses.superposition.shipped import HERE
from interp.errors import unknown

RECIPES: dict[str, tuple[str, dict[str, Any]]] = {
    "five-in-two-dimensions": (
        "superposition-intro",
        {"n_seeds": 5, "steps": 5000, "batch_size": 512, "lr": 3e-3},
    ),
    "solids-in-three-dimensions": (
        "superposition-toys",
        {
            "n_features": 12,
            "d_hidden": 3,
            "importance": 1.0,
            "densities": [1.0, 0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01],
            "n_seeds": 8,
            "steps": 2500,
            "n_snapshots": 25,
        },
    ),
    "phase-diagrams": ("superposition-phase", {"n_seeds": 6, "steps": 2000}),
    "dynamics": ("superposition-dynamics", {"n_seeds": 8, "batch_size": 512}),
    "uniform-geometry": (
        "superposition-geometry",
        {
            "n_features": 200,
            "d_hidden": 20,
            "n_densities": 22,
            "sparsest": 0.04,
            "more_densities": [],
            "steps": 3000,
            "batch_size": 512,
        },
    ),
    "correlated-features": ("superposition-correlated", {}),
    "privileged-basis": ("superposition-privileged", {}),
}


def make(name: str) -> None:
    """Run the analysis of one shipped result and save it where it ships from.

    Raises:
        InputError: If there is no recipe of this name.
    """
    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES)
    analysis, settings = RECIPES[name]
    result = run_analysis(analysis, device="cpu", **settings)
    save(result, HERE / name, pictures=False)
    print(f"{name}: {result!r} in {result.provenance.seconds:.0f} s")


if __name__ == "__main__":
    for wanted in sys.argv[1:] or RECIPES:
        make(wanted)
