from __future__ import annotations

import pytest
import torch

from analyses.attribution.stream_norms import STREAM, norms_table
from interp import InputError
from tests.analyses.attribution.test_stream_parts import TOKENS, inputs_of
from tests.interp.kinds import KINDS


@pytest.mark.parametrize(
    ("name", "stack", "prefix"),
    [("gpt2", "main", ""), ("marian", "main", "decoder."), ("marian", "encoder", "encoder.")],
)
def test_against_a_loop(name, stack, prefix, make_model):
    model = make_model(dtype="float64", **KINDS[name])
    inputs = inputs_of(model)
    _, cache = model.run_with_cache(**inputs)
    table = norms_table(model, stack, **inputs)
    hooks = {"attention": "attn_out", "cross-attention": "cross_attn_out", "MLP": "mlp_out"}
    crosses = prefix == "decoder."
    assert set(table["what"]) == {STREAM, *hooks} - (set() if crosses else {"cross-attention"})
    n_layers = table["layer"].max()
    for row in table.itertuples():
        read = cache[f"{prefix}blocks.{min(row.layer, n_layers - 1)}.hook_resid_pre"]
        first = cache[f"{prefix}blocks.0.hook_resid_pre"][0, row.position].norm()
        if row.what == STREAM and row.layer == n_layers:
            vector = cache[f"{prefix}blocks.{n_layers - 1}.hook_resid_post"]
            assert row.stream == "final"
        elif row.what == STREAM:
            vector = read
        else:
            vector = cache[f"{prefix}blocks.{row.layer}.hook_{hooks[row.what]}"]
        norm = float(vector[0, row.position].norm())
        over = float(first if row.what == STREAM else read[0, row.position].norm())
        assert row.norm == pytest.approx(norm, abs=1e-10)
        assert row.relative == pytest.approx(norm / over, abs=1e-10)
    ids = inputs["decoder_input"] if crosses else inputs["input"]
    assert table["token"].tolist()[: ids.shape[1]] == [str(t) for t in ids[0].tolist()]


def test_refusals(make_model):
    with pytest.raises(InputError, match="needs an encoder-decoder"):
        norms_table(make_model(), "encoder", input=TOKENS)
    with pytest.raises(InputError, match="no layers"):
        norms_table(make_model(n_layers=0), input=torch.tensor([[1, 2]]))
