from __future__ import annotations

import numpy as np
import pytest
import torch

from analyses.attribution.input_gradients import token_attribution
from interp import InputError
from interp.attribution import input_gradients, integrated_gradients
from interp.patching.metrics import LogitDiff
from tests.analyses.attribution.test_stream_parts import DECODED, TOKENS
from tests.interp.kinds import KINDS

METRIC = LogitDiff(7, 3, pos=-1)


def test_methods_against_the_library(make_model):
    model = make_model(dtype="float64")
    gradients = input_gradients(model, TOKENS, METRIC)
    path = integrated_gradients(model, TOKENS, METRIC, "mean", 16)
    expected = {
        "gradient × input": gradients.times_input[0],
        "gradient norm": gradients.norm[0],
        "integrated gradients": path.attributions[0],
    }
    for method, values in expected.items():
        found = token_attribution(model, METRIC, method, 16, input=TOKENS)
        assert np.allclose(found.table["attribution"], values, rtol=0, atol=1e-10)
        assert found.table["token"].tolist() == [str(t) for t in TOKENS[0].tolist()]
        assert set(found.table["sequence"]) == {"prompt"}
        assert found.value == pytest.approx(float(gradients.value[0]), abs=1e-10)
    assert found.error == pytest.approx(float(path.error[0]), abs=1e-12)
    total = found.table["attribution"].sum()
    assert total - found.difference == pytest.approx(found.error, abs=1e-10)


def test_both_sequences(make_model):
    model = make_model(dtype="float64", **KINDS["marian"])
    found = token_attribution(
        model, METRIC, "gradient × input", input=TOKENS, decoder_input=DECODED
    )
    for sequence, of in (("source", "input"), ("target", "decoder_input")):
        expected = input_gradients(model, TOKENS, METRIC, of=of, decoder_input=DECODED)
        rows = found.table[found.table["sequence"] == sequence]
        assert np.allclose(rows["attribution"], expected.times_input[0], rtol=0, atol=1e-10)
    assert found.difference is None and found.error is None


def test_another_method(make_model):
    with pytest.raises(InputError, match="method"):
        token_attribution(make_model(), METRIC, "saliency", input=torch.tensor([[1, 2]]))
