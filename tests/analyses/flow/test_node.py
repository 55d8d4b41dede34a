from __future__ import annotations

import pytest
import torch

from analyses.flow.node import neurons_table, node_heads_table
from interp import HookedTransformer, InputError
from interp.attribution import neuron_importance, stream_importance
from tests.interp.kinds import KINDS, everything

TOKENS = torch.tensor([[3, 1, 4, 1, 5]])
TEXTS = ["3", "1", "4", "1", "5"]


@pytest.fixture(scope="module")
def model(make_model) -> HookedTransformer:
    return make_model(dtype="float64", **KINDS["gpt2"])


@pytest.fixture(scope="module")
def cache(model: HookedTransformer):
    with torch.no_grad():
        return model.run_with_cache(TOKENS, names_filter=everything)[1]


def test_heads_by_source(cache) -> None:
    _, post, later, _ = stream_importance(cache)
    table = node_heads_table(later, cache, 2, TEXTS)
    assert list(table) == ["head", "source", "source_token", "importance", "attention"]
    assert len(table) == 4 * 3
    for row in table.to_dict("records"):
        place = (0, int(row["head"].removeprefix("L1H")), 2, row["source"])
        assert row["importance"] == float(later.heads[place])
        assert row["attention"] == float(cache["pattern", 1][place])
        assert row["source_token"] == TEXTS[row["source"]]
    with pytest.raises(InputError, match="no attention writes into 0_post"):
        node_heads_table(post, cache, 2, TEXTS)
    with pytest.raises(InputError, match=r"position must lie in 0 … 4\. Received 5"):
        node_heads_table(later, cache, 5, TEXTS)


@pytest.mark.parametrize(("name", "seen"), [("bert", [0, 1, 2, 3, 4]), ("gemma2", [2, 3])])
def test_heads_have_the_sources_that_their_layer_sees(make_model, name, seen) -> None:
    """Both ways, and through a window of 2: what lies beyond it is absent, not zero."""
    model = make_model(dtype="float64", **KINDS[name])
    with torch.no_grad():
        _, cache = model.run_with_cache(TOKENS, names_filter=everything)
    table = node_heads_table(stream_importance(cache)[0], cache, 3, TEXTS)
    assert table["source"].tolist() == seen * 4
    assert (table["attention"] > 0).all()


def test_neurons_by_importance(cache) -> None:
    last = stream_importance(cache)[-1]
    table = neurons_table(last, cache, 3, n=4)
    shares = neuron_importance(cache, last)[0, 3]
    order = sorted(range(20), key=lambda i: -float(shares[i]))[:4]
    assert table["neuron"].tolist() == [f"L1N{i}" for i in order]
    assert table["importance"].tolist() == [float(shares[i]) for i in order]
    assert table["activation"].tolist() == [float(cache["post", 1][0, 3, i]) for i in order]
    assert len(neurons_table(last, cache, 3, n=999)) == 20
    with pytest.raises(InputError, match="n must be a whole number"):
        neurons_table(last, cache, 3, n=0)
