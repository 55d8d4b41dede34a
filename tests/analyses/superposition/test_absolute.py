"""Absolute values in superposition: tables of weights by hand, and toys trained for a moment."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from analyses import run_analysis
from analyses.superposition.absolute_tables import tables_of
from analyses.superposition.neurons import NeuronToys
from interp.errors import InputError

NAME = "superposition-abs"
TINY: dict[str, Any] = {
    "steps": 20, "batch_size": 16, "few_densities": [0.5], "few_seeds": 2, "n_features": 6,
    "n_neurons": 4, "densities": [0.5, 0.1],
}  # fmt: skip


def _toys(W: list[torch.Tensor], W_out: list[torch.Tensor], densities: list[float]) -> NeuronToys:
    stacked = torch.stack(W).double()
    return NeuronToys(
        densities=densities,
        n_seeds=1,
        signed=True,
        W=stacked,
        W_out=torch.stack(W_out).double(),
        b=torch.zeros(len(W), stacked.shape[-1]).double(),
        loss=torch.ones(len(W)).double(),
    )


def test_tables_of_weights_by_hand() -> None:
    naive = torch.cat([torch.eye(3), -torch.eye(3)])
    one_sided = torch.cat([torch.eye(3), torch.eye(3)])
    few = _toys([naive, one_sided], [naive.abs().T, one_sided.T], [1.0, 0.1])
    # Four neurons, three features: two for each of the first two; then the paper's motif.
    dense = torch.tensor([[1.0, 0, 0], [-1.0, 0, 0], [0, 1.0, 0], [0, -1.0, 0]])
    motif = torch.tensor([[2.0, 0.5, 0], [1.0, 0, 0], [0, -1.0, 0], [-1.0, 0, 0.1]])
    motif_out = torch.tensor([[0.5, 0, 0, 1.0], [2.0, -5.0, 1.0, 0], [0, 0, 0, 0]])
    many = _toys([dense, motif], [dense.abs().T, motif_out], [0.5, 0.1])
    tables = tables_of(few, many, ratio=2.0)
    table = tables["by-density"]
    assert table["monosemantic"].tolist() == [4, 2] and table["polysemantic"].tolist() == [0, 1]
    assert table["idle"].tolist() == [0, 1], "one only inhibits"
    assert table["features_computed"].tolist() == [2, 2]
    for name, counts in {
        "shared_pairs": [0, 1], "motifs": [0, 1], "inhibited": [0, 1], "outweighed": [0, 1],
        "interferences": [0, 2], "interferences_inhibited": [0, 1],
    }.items():  # fmt: skip
        assert table[name].tolist() == counts, name
    (row,) = tables["motifs"].itertuples()
    assert (row.density, row.neuron, row.loud, row.quiet) == (0.1, 0, 0, 1)
    assert (row.interference, row.back, row.inhibition, row.net) == (4.0, 0.25, -5.0, -1.0)
    assert row.inhibited
    findings = tables["findings"]
    assert findings["here"][0] == "at density 1"
    assert findings["agrees"].tolist() == [True, True, True, True, False, False, True]
    parts = tables["parts"]
    here = parts[parts["density"] == 0.5].pivot(index="place", columns="feature", values="part")
    assert here.to_numpy().tolist() == [[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]]
    # Too few inhibitors: the same without the neuron that inhibits.
    motif_out = motif_out.clone()
    motif_out[1, 1] = 0.0
    less = tables_of(few, _toys([dense, motif], [dense.abs().T, motif_out], [0.5, 0.1]), 2.0)
    assert less["by-density"]["inhibited"].tolist() == [0, 0]
    assert not less["findings"]["agrees"].iloc[-1]


def test_the_result_is_of_what_was_asked_for() -> None:
    result = run_analysis(NAME, **TINY)
    assert result.passed and len(result.checks) == 4
    table = result.tables["by-density"]
    assert table["density"].tolist() == [0.5, 0.1]
    assert (table[["monosemantic", "polysemantic", "idle"]].sum(axis=1) == 4).all()
    assert len(result.tables["small-weights"]) == 6 * (3 + 3)
    with pytest.raises(InputError, match="few_densities"):
        run_analysis(NAME, **(TINY | {"few_densities": [0.5, 0.5]}))


def test_naive_solution_is_learnt() -> None:
    """n = 3, m = 6, dense: |x| = ReLU(x) + ReLU(-x), a neuron for each."""
    settings = {"steps": 300, "batch_size": 64, "lr": 0.03, "few_densities": [0.5], "few_seeds": 3}
    result = run_analysis(NAME, **(TINY | settings))
    assert result.tables["findings"]["agrees"][0]
    small = result.tables["small-by-density"].iloc[0]
    assert small["monosemantic"] == 6 and small["features_computed"] == 3
    assert small["loss"] < 1e-4


def test_a_fault_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    from interp.toys.motifs import self_contributions

    monkeypatch.setattr(
        "analyses.superposition.neurons.self_contributions",
        lambda W, W_out, signed: self_contributions(W, W_out, signed).flip(-3),  # signs swapped
    )
    result = run_analysis(NAME, **TINY)
    failed = [check.name for check in result.checks if not check.passed]
    assert failed == [
        "a feature alone comes back as its neurons say (3 features)",
        "a feature alone comes back as its neurons say (6 features)",
    ]
