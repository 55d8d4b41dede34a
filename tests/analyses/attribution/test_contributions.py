from __future__ import annotations

import numpy as np
import pytest
import torch

from analyses.attribution.contributions import by_sublayer, contributions, leading, promoted_tokens
from interp import InputError
from interp.attribution import direct_logit_attribution
from interp.interventions import applied
from interp.lens import component_lens
from tests.analyses.attribution.test_stream_parts import TOKENS, inputs_of
from tests.interp.kinds import KINDS

MEASURES = [(7, None, False), (7, 3, False), (7, None, True)]


@pytest.mark.parametrize("name", ["gpt2", "gemma2", "olmo2", "mixtral-post", "marian"])
def test_against_direct_logit_attribution(name, make_model):
    """The library projects weights on the logit's direction, and never builds a head's vector."""
    model = make_model(dtype="float64", **KINDS[name])
    inputs = inputs_of(model)
    _, cache = model.run_with_cache(**inputs)
    for measure in MEASURES:
        expected = direct_logit_attribution(model, cache, *measure)
        whole = {c.label: float(v[0, -1]) for c, v in
                 zip(expected.components, expected.values, strict=True)}  # fmt: skip
        found = contributions(model, -1, *measure, "head", **inputs)
        rows = found.table.set_index("component")["contribution"]
        biases = whole.pop("b_O") + whole.pop("norm_bias", 0.0)
        assert rows.pop("biases") == pytest.approx(biases, abs=1e-10)
        assert set(rows.index) == set(whole)
        for label, value in whole.items():
            assert rows[label] == pytest.approx(value, abs=1e-10), label
        assert [check.passed for check in found.checks] == [True, True]


@pytest.mark.parametrize("by", ["layer", "head"])
def test_columns(by, make_model):
    model = make_model(dtype="float64")
    logits, cache = model.run_with_cache(TOKENS)
    found = contributions(model, 2, 7, 3, by=by, input=TOKENS)
    table = found.table
    one = (logits[0, 2, 7] - logits[0, 2, 3]).item()
    assert found.value == pytest.approx(one, abs=1e-10)
    assert found.total == pytest.approx(one, abs=1e-10)
    assert table["running"].iloc[-1] == pytest.approx(one, abs=1e-10)
    assert np.allclose(table["running"].diff().iloc[1:], table["contribution"].iloc[1:])
    assert table["share"].sum() == pytest.approx(1.0, abs=1e-10)
    assert table["order"].tolist() == list(range(len(table)))
    mlp = table[table["component"] == "L1MLP"].iloc[0]
    written, stream = cache["mlp_out", 1][0, 2], cache["resid_post", 1][0, 2]
    assert mlp["norm"] == pytest.approx(float(written.norm()), abs=1e-10)
    cosine = torch.nn.functional.cosine_similarity(written, stream, 0)
    assert mlp["cosine"] == pytest.approx(float(cosine), abs=1e-10)
    assert mlp["column"] == "mlp" and mlp["layer"] == 1
    columns = ["attn", "mlp"] if by == "layer" else ["H0", "H1", "H2", "H3", "mlp"]
    assert table[table["layer"] == 0]["column"].tolist() == columns


def test_sums_by_sublayer_and_leading(make_model):
    model = make_model(dtype="float64")
    found = contributions(model, -1, 7, by="head", input=TOKENS)
    layers = contributions(model, -1, 7, by="layer", input=TOKENS).table
    sums = by_sublayer(found.table)
    assert sums["sublayer"].tolist() == [
        "embeddings", "L0 attention", "L0 MLP", "L1 attention", "L1 MLP", "biases",
    ]  # fmt: skip
    assert sums["running"].iloc[-1] == pytest.approx(found.value, abs=1e-10)
    # Taken by layers, attention has its own bias.
    mlps = layers[layers["kind"] == "mlp"]["contribution"].to_numpy()
    assert np.allclose(sums[sums["part"] == "MLP"]["contribution"], mlps, rtol=0, atol=1e-10)
    few = leading(found.table, 3)
    assert len(few) == 4 and few["component"].iloc[-1] == f"{len(found.table) - 3} others"
    sizes = found.table["contribution"].abs()
    assert few["contribution"].abs().iloc[:3].tolist() == sizes.nlargest(3).tolist()
    assert few["contribution"].sum() == pytest.approx(found.value, abs=1e-10)
    assert len(leading(found.table, 99)) == len(found.table)


def test_vectors_alone_where_logits_are_not_linear(make_model):
    model = make_model(**KINDS["bert"])
    found = contributions(model, 1, None, input=TOKENS)
    assert "contribution" not in found.table.columns and found.value is None
    assert found.checks[0].passed and len(found.checks) == 1
    with pytest.raises(InputError, match="head='lm'"):
        contributions(model, 1, 7, input=TOKENS)


def test_an_edit_of_the_stream_is_in_no_component(make_model):
    """The check is no tautology: it fails by what a steering vector adds."""
    model = make_model(dtype="float64")
    with model.hooks(fwd_hooks=[("blocks.1.hook_resid_pre", lambda x, hook: 1.5 * x)]):
        found = contributions(model, -1, 7, input=TOKENS)
    assert not any(check.passed for check in found.checks)
    with applied(model, (), input=TOKENS):
        assert all(c.passed for c in contributions(model, -1, 7, input=TOKENS).checks)


@pytest.mark.parametrize("name", ["gpt2", "gemma2", "stablelm2"])
def test_promoted_against_the_component_lens(name, make_model):
    model = make_model(dtype="float64", **KINDS[name])
    _, cache = model.run_with_cache(TOKENS)
    names = {"L1MLP": ("layer", "1_mlp_out"), "L0ATTN": ("layer", "0_attn_out"),
             "L1H2": ("head", "L1H2"), "embed": ("layer", "embed")}  # fmt: skip
    for component, (by, label) in names.items():
        lens = component_lens(cache, by=by, top_k=3, pos_slice=[4])
        at = (lens.labels.index(label), 0, 0)
        table = promoted_tokens(model, component, 4, 3, input=TOKENS)
        up = table[table["direction"] == "promoted"].sort_values("rank")
        down = table[table["direction"] == "suppressed"].sort_values("rank")
        assert up["token_id"].tolist() == lens.top_tokens[at].tolist()
        assert down["token_id"].tolist() == lens.bottom_tokens[at].tolist()
        assert np.allclose(up["contribution"], lens.top_values[at], rtol=0, atol=1e-10)
        assert np.allclose(down["contribution"], lens.bottom_values[at], rtol=0, atol=1e-10)
    assert (table["contribution"].diff().iloc[1:] <= 0).all()  # drawn from best to worst


def test_promoted_by_a_neuron(make_model):
    """All neurons of an MLP and its bias write what it writes."""
    model = make_model(dtype="float64", normalization_type=None)
    _, cache = model.run_with_cache(TOKENS)
    table = promoted_tokens(model, "L1N5", -1, 4, input=TOKENS)
    logits = cache["post", 1][0, -1, 5] * model.W_out[1, 5] @ model.W_U
    logits = logits - logits.mean()
    expected = logits.topk(4)
    up = table[table["direction"] == "promoted"]
    assert up["token_id"].tolist() == expected.indices.tolist()
    assert np.allclose(up["contribution"], expected.values.detach(), rtol=0, atol=1e-10)


def test_refusals(make_model):
    model = make_model()
    with pytest.raises(InputError, match=r"a component is one of embed.*Received 'L9MLP'"):
        promoted_tokens(model, "L9MLP", 0, input=TOKENS)
    with pytest.raises(InputError, match="top_k"):
        promoted_tokens(model, "L0MLP", 0, 0, input=TOKENS)
    with pytest.raises(InputError, match="linear in the residual stream"):
        promoted_tokens(make_model(**KINDS["bert"]), "L0MLP", 0, input=TOKENS)
