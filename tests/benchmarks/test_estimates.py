"""Estimates rank edges and places as exact patching does, on models of the zoo."""

from __future__ import annotations

import torch

from analyses.inputs.pairs import PairParams, resolve_pairs
from benchmarks import estimates
from interp import zoo


def rows(name: str) -> dict[tuple[str, str], estimates.Row]:
    model = zoo.load(name, dtype=torch.float64)
    pairs = resolve_pairs(model, PairParams(**zoo.defaults(name, "attribution-patching")))
    return {(row.places, row.method): row for row in estimates.rows_of(name, model, [pairs])}


def test_induction() -> None:
    found = rows("zoo:induction")
    plain, integrated = (found["edges", method].found[0] for method in ("EAP", "EAP-IG, 5 steps"))
    assert plain.n == integrated.n == 106
    # By rank the gradient of the patched run itself is the better one, by size the mean gradient.
    assert plain.signed > 0.95 and plain.magnitude > 0.95
    assert integrated.magnitude > 0.85 and integrated.leading == 1.0
    assert plain.scale < 0.5 and 0.9 < integrated.scale < 1.1
    first, fixed = (found["k", method].found[0] for method in ("AtP", "AtP, QK fix"))
    assert fixed.signed > first.signed > 0.9
    assert first.scale < 0.2 and 0.9 < fixed.scale < 1.1
    sizes = found["k", "AtP*"]
    assert sizes.cells().startswith("| zoo:induction | k (80) | AtP* |  | 0.9")


def test_modular_addition() -> None:
    found = rows("zoo:modular-addition")
    for method in estimates.EDGES:
        (edges,) = found["edges", method].found
        assert edges.magnitude > 0.95 and edges.signed > 0.8 and 0.8 < edges.scale < 1.1
    assert not any(method == "AtP*" for _, method in found)  # one layer
