from __future__ import annotations

import pytest
import torch

from analyses.weights.pairs import moved_table, sought_table
from analyses.weights.tables import Texts, ov_table, qk_table
from interp import InputError
from interp.factored import FactoredMatrix
from interp.weight_circuits import ov_circuit, qk_circuit


@torch.no_grad()
def test_of_all_tokens_they_are_those_of_the_analysis(make_model):
    model = make_model()
    texts = Texts(model)
    moved = moved_table(ov_circuit(model, 1, 2, less_mean=True), 5, texts)
    analysis = ov_table(model, [(1, 2)], 5, False, texts)
    assert sorted(moved["logit"]) == pytest.approx(sorted(analysis["logit"]))
    assert moved["logit"].is_monotonic_decreasing and moved["order"].tolist() == list(range(10))
    keys = ["source_id", "output_id"]
    assert set(moved[keys].itertuples(index=False, name=None)) == set(
        analysis[keys].itertuples(index=False, name=None)
    )
    sought = sought_table(qk_circuit(model, 1, 2, scaled=True), 5, texts)
    analysis = qk_table(model, [(1, 2)], 5, False, 0, texts)
    assert sought["score"].tolist() == pytest.approx(analysis["score"].tolist())
    assert sought["destination_id"].tolist() == analysis["destination_id"].tolist()
    assert sought["source_id"].tolist() == analysis["source_id"].tolist()


@torch.no_grad()
def test_of_one_token_they_are_its_row(make_model):
    model = make_model()
    texts = Texts(model)
    circuit = ov_circuit(model, 0, 1)
    values, ids = circuit.AB[7].sort(descending=True)
    table = moved_table(circuit, 2, texts, token=7)
    assert table["source_id"].tolist() == [7] * 4
    assert table["output_id"].tolist() == [*ids[:2].tolist(), *ids[-2:].tolist()]
    expected = [*values[:2].tolist(), *values[-2:].tolist()]
    assert table["logit"].tolist() == pytest.approx(expected, abs=1e-5)
    names = texts([7, int(ids[0])])
    assert table["pair"][0] == f"{names[0]}→{names[1]}"
    scores = qk_circuit(model, 0, 1).AB[7]
    values, ids = (scores - scores.mean()).sort(descending=True)
    table = sought_table(qk_circuit(model, 0, 1), 3, texts, token=7)
    assert table["source_id"].tolist() == ids[:3].tolist()
    assert table["score"].tolist() == pytest.approx(values[:3].tolist(), abs=1e-5)
    assert table["destination_id"].tolist() == [7] * 3
    with pytest.raises(InputError, match="rows must lie in 0 … 30"):
        moved_table(circuit, 2, texts, token=31)


def test_few_entries_come_once(make_model):
    circuit = FactoredMatrix(torch.tensor([[1.0], [2.0]]), torch.tensor([[1.0, -1.0]]))
    table = moved_table(circuit, 3, Texts(make_model()))
    assert table["logit"].tolist() == [2.0, 1.0, -1.0, -2.0]
