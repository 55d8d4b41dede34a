"""The scripts of this folder under TransformerLens 3.9 and under interp, number by number.

    python -m docs.ported.compare --other build/transformer-lens-3.9/bin/python

runs each script with both, requires that all numbers agree, checks that `names.csv` holds exactly
TransformerLens's public names, and writes what TransformerLens gave to `numbers.json`, which the
tests compare with where it is not installed. `make ported` does all of it.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from docs.ported.names import read_names
from interp.files.atomic import replacing_file

HERE = Path(__file__).parent
NUMBERS = HERE / "numbers.json"
VERSION = "3.9.0"
SCRIPTS = ("exploratory_analysis", "induction_heads", "training_and_weights")
TOLERANCES = {"float32": 1e-5, "float64": 1e-10}
# TransformerLens 3.9 makes these in float32 whatever the model's dtype: what its patching helpers
# return, and the sum of biases (accumulated_bias) in the full decomposition.
ALWAYS_SINGLE = ("helper_", "full_decomposition")


def tolerance(dtype: str, name: str) -> float:
    """How far a number may be from TransformerLens's."""
    return TOLERANCES["float32" if name.startswith(ALWAYS_SINGLE) else dtype]


def difference(found: Any, expected: Any) -> float:
    """The largest difference of two nested lists, as a share of max(1, the largest expected).

    Infinite where shapes differ or where only one of the two is a number.
    """
    found, expected = np.asarray(found, dtype=float), np.asarray(expected, dtype=float)
    if found.shape != expected.shape or not np.array_equal(np.isnan(found), np.isnan(expected)):
        return float("inf")
    if not expected.size or np.isnan(expected).all():
        return 0.0
    return float(np.nanmax(np.abs(found - expected)) / max(1.0, np.nanmax(np.abs(expected))))


def run(script: str, library: str, python: str) -> dict[str, dict[str, Any]]:
    """What a script prints: dtype → name → numbers."""
    quiet = {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
    told = subprocess.run(
        [python, "-W", "ignore", str(HERE / f"{script}.py")],
        env={**os.environ, **quiet, "LIBRARY": library},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(told.stdout.splitlines()[-1])


def compare_names(other: str) -> list[str]:
    """How `names.csv` differs from what the other Python's TransformerLens has."""
    told = subprocess.run(
        [other, "-W", "ignore", str(HERE / "introspect.py")],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    document = json.loads(told.stdout.splitlines()[-1])
    if document["version"] != VERSION:
        return [f"the other Python must have transformer-lens {VERSION}: {document['version']}"]
    there = {
        (owner, name): " ".join(entry["parameters"] or ())
        for owner, names in document["owners"].items()
        for name, entry in names.items()
    }
    here = {(row.owner, row.name): " ".join(row.parameters) for row in read_names()}
    faults = [f"names.csv lacks {'.'.join(key)}" for key in there if key not in here]
    faults += [f"TransformerLens has no {'.'.join(key)}" for key in here if key not in there]
    faults += [
        f"{'.'.join(key)} takes ({there[key]}), names.csv says ({here[key]})"
        for key in there
        if key in here and there[key] != here[key]
    ]
    return faults


def main() -> int:
    """Compare all, print what was found; 0 if nothing differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--other", required=True, help="a Python with transformer-lens 3.9.0")
    other = parser.parse_args().other
    faults = compare_names(other)
    numbers: dict[str, Any] = {"transformer-lens": VERSION}
    for script in SCRIPTS:
        theirs = run(script, "transformer_lens", other)
        ours = run(script, "interp", sys.executable)
        numbers[script] = theirs
        for dtype in TOLERANCES:
            if ours[dtype].keys() != theirs[dtype].keys():
                faults.append(f"{script} gives other numbers by name")
                continue
            errors = {n: difference(ours[dtype][n], theirs[dtype][n]) for n in theirs[dtype]}
            worst = max(errors, key=lambda name: errors[name] / tolerance(dtype, name))
            print(f"{script} {dtype}: {len(errors)} numbers, worst {worst}: {errors[worst]:.1e}")
            faults += [
                f"{script} {dtype} {name}: {error:.1e} > {tolerance(dtype, name):.0e}"
                for name, error in errors.items()
                if not error <= tolerance(dtype, name)
            ]
    print("\n".join(faults) or "all agree")
    if not faults:
        with replacing_file(NUMBERS) as path:
            Path(path).write_text(json.dumps(numbers) + "\n", encoding="utf-8")
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
