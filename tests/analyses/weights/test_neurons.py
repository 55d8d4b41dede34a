from __future__ import annotations

import pytest
import torch

from analyses.weights.neurons import neuron_sizes_table, neuron_tokens_table
from analyses.weights.tables import Texts
from interp import InputError

CLOSE = {"rel": 1e-5, "abs": 1e-6}


@torch.no_grad()
def test_sizes_and_cosines_are_those_of_columns_and_rows(make_model):
    model = make_model(normalization_type=None, final_norm=False, gated_mlp=True)
    mlp = model.blocks[1].mlp
    table = neuron_sizes_table(model, 1)
    assert table["component"].tolist() == [f"L1N{i}" for i in range(20)]
    for i in range(20):
        read, gate, written = mlp.W_in[:, i], mlp.W_gate[:, i], mlp.W_out[i]
        row = table.iloc[i]
        assert row["read_norm"] == pytest.approx(float(read.norm()), **CLOSE)
        assert row["write_norm"] == pytest.approx(float(written.norm()), **CLOSE)
        assert row["gate_norm"] == pytest.approx(float(gate.norm()), **CLOSE)
        assert row["strength"] == pytest.approx(float(read.norm() * written.norm()), **CLOSE)
        cosine = torch.cosine_similarity(read, written, dim=0)
        assert row["cosine"] == pytest.approx(float(cosine), **CLOSE)
        cosine = torch.cosine_similarity(gate, written, dim=0)
        assert row["gate_cosine"] == pytest.approx(float(cosine), **CLOSE)


def test_a_neuron_that_writes_nothing_has_cosine_zero(make_model):
    model = make_model()
    with torch.no_grad():
        model.blocks[0].mlp.W_out[3] = 0
    row = neuron_sizes_table(model, 0).iloc[3]
    assert (row["write_norm"], row["strength"], row["cosine"]) == (0, 0, 0)
    assert "gate_norm" not in row


@pytest.mark.parametrize("gated", [False, True])
def test_tokens_are_the_largest_of_the_dense_products(make_model, gated):
    model = make_model(normalization_type=None, final_norm=False, gated_mlp=gated)
    mlp, k, neuron = model.blocks[1].mlp, 4, 7
    into = mlp.W_gate if gated else mlp.W_in
    read = (model.W_E @ into[:, neuron]).double()
    written = (mlp.W_out[neuron] @ model.W_U).double()
    written = written - written.mean()
    expected = {
        "excited by": read.sort(descending=True),
        "inhibited by": read.sort(),
        "promotes": written.sort(descending=True),
        "suppresses": written.sort(),
    }
    table = neuron_tokens_table(model, 1, neuron, k, False, Texts(model))
    assert list(table["kind"].unique()) == list(expected)
    for kind, (values, ids) in expected.items():
        rows = table[table["kind"] == kind]
        assert rows["rank"].tolist() == [1, 2, 3, 4]
        assert rows["token_id"].tolist() == ids[:k].tolist()
        assert rows["value"].tolist() == pytest.approx(values[:k].tolist(), **CLOSE)


def test_neurons_of_a_mixture_are_counted_through_all_experts(make_model):
    model = make_model(
        normalization_type=None, final_norm=False, num_experts=3, experts_per_token=2,
        gated_mlp=True,
    )  # fmt: skip
    width = model.cfg.width_mlp
    sizes = neuron_sizes_table(model, 0)
    assert len(sizes) == 3 * width
    neuron = width + 2
    assert sizes["component"][neuron] == "L0E1N2"
    table = neuron_tokens_table(model, 0, neuron, 1, False, Texts(model))
    mlp = model.blocks[0].mlp
    read = model.W_E @ mlp.W_gate[1][:, 2]
    assert table["token_id"][0] == int(read.argmax())
    assert sizes["write_norm"][neuron] == pytest.approx(float(mlp.W_out[1][2].norm()), **CLOSE)


def test_what_is_not_there_is_refused(make_model):
    with pytest.raises(InputError, match="no neurons"):
        neuron_sizes_table(make_model(attn_only=True), 0)
    model = make_model()
    with pytest.raises(InputError, match=r"neuron must lie in 0 … 19\. Received 20"):
        neuron_tokens_table(model, 0, 20, 3, False, Texts(model))
    with pytest.raises(InputError, match="stack"):
        neuron_sizes_table(model, 0, "encoder")
