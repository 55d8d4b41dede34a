"""Toys with neurons: tables of weights known by hand, and toys trained for a moment."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
import torch

from analyses import run_analysis
from analyses.superposition.neurons import (
    NeuronToys,
    by_density_table,
    falls,
    neuron_order,
    neurons_table,
)
from analyses.superposition.privileged import PrivilegedParams, _findings
from interp.errors import InputError

NAME = "superposition-privileged"
TINY: dict[str, Any] = {
    "steps": 20, "batch_size": 16, "densities": [0.1, 0.5], "n_seeds": 3, "n_linear": 2,
    "n_features": 4, "d_hidden": 2,
}  # fmt: skip


def test_neurons_are_told_apart_by_hand() -> None:
    # Two toys of three neurons and four features: one feature each; then 2, 1 and none.
    pure = torch.tensor([[0.0, 1.0, 0, 0], [1.0, 0.1, 0, 0], [0, 0, 0.9, -3.0]])
    shared = torch.tensor([[0.8, 0.8, -1.0, 0], [0.1, 0.2, 0.3, 0.4], [0, 0.2, 0, 1.0]])
    W = torch.stack([0.01 * pure, pure, shared, 0.01 * shared]).double()
    toys = NeuronToys(
        densities=[0.5, 0.1],
        n_seeds=2,
        signed=False,
        W=W,
        W_out=W.mT,
        b=torch.zeros(4, 4).double(),
        loss=torch.tensor([2.0, 1.0, 3.0, 4.0]).double(),
    )
    assert [toys.best(0), toys.best(1)] == [1, 2]
    assert neuron_order(toys, 1) == [1, 0, 2]
    assert neuron_order(toys, 2) == [0, 2, 1], "the idle one is last"
    table = by_density_table(toys)
    for name, expected in {
        "monosemantic": [3, 1], "polysemantic": [0, 1], "idle": [0, 1],
        "features_computed": [3, 3], "features_per_neuron": [1.0, 1.5],
        "mean_monosemantic": [1.5, 0.5], "mean_idle": [1.5, 2.0], "loss": [1.0, 3.0],
    }.items():  # fmt: skip
        assert table[name].tolist() == expected, name
    # Features 0, 1, 2 come back in the first toy, 0, 1, 3 in the second.
    assert table["monosemanticity"].tolist() == pytest.approx(
        [(1 + 1 / 1.1 + 1) / 3, (0.5 + 0.4 / 0.7 + 1 / 1.2) / 3]
    )
    neurons = neurons_table(toys)
    assert neurons["features"].tolist() == ["0", "1", "2", "0 1", "3", ""]
    assert neurons["kind"].tolist() == ["monosemantic"] * 3 + [
        "polysemantic", "monosemantic", "idle",
    ]  # fmt: skip


def _by_density(rows: list[tuple[float, int, int, float]]) -> pd.DataFrame:
    names = ["density", "monosemantic", "polysemantic", "monosemanticity"]
    table = pd.DataFrame(rows, columns=names)
    return table.assign(
        features_per_neuron=1.0, features_computed=2, monosemanticity_without_relu=0.5
    )


def test_the_densest_features_decide() -> None:
    """Not whichever density has the wanted neurons; and of the most important features."""
    params = PrivilegedParams(d_hidden=2, n_features=4)
    right = [(1.0, 0, 2, 0.3), (0.5, 2, 0, 0.9), (0.2, 1, 1, 0.9), (0.1, 0, 2, 0.9)]
    late = [(0.5, 0, 2, 0.6), (0.2, 2, 0, 0.9), (0.1, 0, 2, 0.9)]

    def agrees(rows: list[tuple[float, int, int, float]], of: list[str]) -> list[bool]:
        neurons = pd.DataFrame(
            [(0.5, "monosemantic", text) for text in of]
            + [(0.2, "monosemantic", "0"), (0.2, "polysemantic", "1 2")],
            columns=["density", "kind", "features"],
        )
        return list(_findings(_by_density(rows), neurons, params)["agrees"])

    assert agrees(right, ["1", "0"]) == [True] * 6
    assert agrees(right, ["0", "3"]) == [False] + [True] * 5, "a less important feature"
    # Nor is a toy without a ReLU compared with the purest toy of another density.
    assert agrees(late, ["0 2", "1 3"]) == [False, False, False, True, False, False]


def test_falling() -> None:
    assert falls([5, 5, 2, 0]) and falls([5, 6, 2], slack=1)
    assert not falls([5, 6, 2]) and not falls([5, 5])


def test_the_result_is_of_what_was_asked_for() -> None:
    result = run_analysis(NAME, **TINY)
    assert result.passed
    table = result.tables["by-density"]
    assert table["density"].tolist() == [0.5, 0.1]
    kinds = table[["monosemantic", "polysemantic", "idle"]]
    assert (kinds.sum(axis=1) == 2).all()
    assert len(result.tables["weights"]) == 2 * 2 * 4
    weights = result.tables["weights"].pivot(
        index=["density", "place"], columns="feature", values="weight"
    )
    squares = (weights.clip(lower=0) ** 2 >= 0.25).sum(axis=1)
    neurons = result.tables["neurons"].set_index(["density", "place"])
    assert squares.sort_index().tolist() == neurons["n_features"].sort_index().tolist()


def test_the_order_by_sparsity() -> None:
    settings = {"steps": 500, "batch_size": 64, "lr": 0.03, "n_seeds": 4, "n_linear": 1}
    result = run_analysis(NAME, **settings, densities=[0.5, 0.03])
    table = result.tables["by-density"]
    assert table["monosemantic"].iloc[0] == 5
    assert table["polysemantic"].iloc[1] == 5
    first = result.tables["neurons"][result.tables["neurons"]["density"] == 0.5]
    assert first["features"].tolist() == ["0", "1", "2", "3", "4"]
    assert (table["monosemanticity_without_relu"] < 0.6).all()


def test_a_fault_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    from interp.toys.motifs import self_contributions

    monkeypatch.setattr(
        "analyses.superposition.neurons.self_contributions",
        lambda W, W_out, signed: self_contributions(W, W_out, signed) * 1.01 + 1e-3,
    )
    result = run_analysis(NAME, **TINY)
    failed = [check.name for check in result.checks if not check.passed]
    assert failed == ["a feature alone comes back as its neurons say (4 features)"]


@pytest.mark.parametrize(
    "densities", [[0.5, 0.5], [0.5, 0.5000000001], [1.5, 0.5], [0.5, 0.0], [0.5]]
)
def test_bad_input(densities: list[float]) -> None:
    with pytest.raises(InputError, match="densities"):
        run_analysis(NAME, **(TINY | {"densities": densities}))
