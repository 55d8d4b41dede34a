from __future__ import annotations

import numpy as np
import pytest
import torch

from analyses.attribution.contributions import contributions
from analyses.attribution.direct_tables import (
    head_sources_table,
    neurons_table,
    ov_table,
    sources_table,
    summed_over_heads,
)
from interp import InputError
from tests.analyses.attribution.test_stream_parts import TOKENS, inputs_of
from tests.interp.kinds import KINDS


def test_sources_against_plain_products(make_model):
    """pattern × v W_O, through the final norm with its scale held, on the difference of columns."""
    model = make_model(dtype="float64")
    _, cache = model.run_with_cache(TOKENS)
    found = sources_table(model, 3, 7, 2, input=TOKENS)
    assert found.check.passed
    u = model.W_U[:, 7] - model.W_U[:, 2]
    u = u * model.ln_final.w
    u = u - u.mean()
    scale = cache["ln_final.hook_scale"][0, 3, 0]
    assert found.table["source"].max() == 3 and len(found.table) == 2 * 4 * 4
    for row in found.table.itertuples():
        weight = cache["pattern", row.layer][0, row.number, 3, row.source]
        v = cache["v", row.layer][0, row.source, row.number]
        share = weight * (v @ model.W_O[row.layer, row.number] @ u) / scale
        assert row.attention == pytest.approx(float(weight), abs=1e-10)
        assert row.attribution == pytest.approx(share.item(), abs=1e-10)
        assert row.source_token == str(int(TOKENS[0, row.source]))
    summed = summed_over_heads(found.table)
    assert summed["source"].tolist() == [0, 1, 2, 3]
    for row in summed.itertuples():
        parts = found.table[found.table["source"] == row.source]["attribution"].sum()
        assert row.attribution == pytest.approx(parts, abs=1e-12)


@pytest.mark.parametrize("name", ["llama", "gemma2", "olmo2", "bidirectional-tied", "marian"])
def test_sums_and_matrices(name, make_model):
    """Sources, the head's matrix and the contributions of whole heads say the same."""
    model = make_model(dtype="float64", **KINDS[name])
    inputs = inputs_of(model)
    found = sources_table(model, -2, 7, **inputs)
    assert found.check.passed
    whole = contributions(model, -2, 7, by="head", **inputs).table.set_index("component")
    sums = found.table.groupby("head")["attribution"].sum()
    for head, value in sums.items():
        assert value == pytest.approx(whole.loc[head, "contribution"], abs=1e-10)
    matrix = head_sources_table(model, 1, 2, 7, **inputs) if model.cfg.n_layers > 1 else None
    if matrix is None:
        return
    n = int(matrix["destination"].max()) + 1
    causal = model.cfg.attention_dir == "causal"
    assert len(matrix) == (n * (n + 1) // 2 if causal else n * n)
    assert (matrix["attention"] > 0).all()
    row = matrix[matrix["destination"] == n - 2].reset_index(drop=True)
    own = found.table[found.table["head"] == "L1H2"].reset_index(drop=True)
    columns = ["source", "source_token", "attention", "attribution"]
    for column in columns[:2]:
        assert row[column].tolist() == own[column].tolist()
    assert np.allclose(row[columns[2:]], own[columns[2:]], rtol=0, atol=1e-10)


def test_what_a_window_hides_has_no_row(make_model):
    """Layer 0 sees a token and the one before it, layer 1 all tokens so far."""
    model = make_model(**KINDS["gemma2"])
    found = sources_table(model, 3, 7, input=TOKENS)
    sources = found.table.groupby("head")["source"].apply(list)
    assert sources["L0H1"] == [2, 3] and sources["L1H1"] == [0, 1, 2, 3]
    assert found.check.passed and (found.table["attention"] > 0).all()
    assert found.table["source_token"].iloc[:2].tolist() == ["4", "1"]
    matrix = head_sources_table(model, 0, 1, 7, input=TOKENS)
    places = matrix[["destination", "source"]].to_numpy()
    assert [(d, s) for d in range(6) for s in (d - 1, d) if s >= 0] == list(map(tuple, places))
    assert summed_over_heads(found.table)["source"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("name", ["gpt2", "mixtral-post"])
def test_neurons(name, make_model):
    model = make_model(dtype="float64", **KINDS[name])
    found = neurons_table(model, 1, 4, 7, 3, input=TOKENS)
    assert found.check.passed
    all_of_them = neurons_table(model, 1, 4, 7, 3, False, 10_000, input=TOKENS).table
    sizes = all_of_them["attribution"].abs()
    assert (sizes.diff().iloc[1:] <= 0).all()
    assert found.table.equals(all_of_them.head(20))
    _, cache = model.run_with_cache(TOKENS)
    post = cache["post", 1][0, 4]
    experts = model.cfg.num_experts
    assert len(all_of_them) == post.numel()
    for row in found.table.itertuples():
        where = (row.number,) if experts is None else (row.expert, row.number)
        assert row.activation == pytest.approx(float(post[where]), abs=1e-12)
        start = f"L1N{row.number}" if experts is None else f"L1E{row.expert}N{row.number}"
        assert row.neuron == start
    if experts is None:
        row = found.table.iloc[0]
        u = (model.W_U[:, 7] - model.W_U[:, 3]) * model.ln_final.w
        u = u - u.mean()
        share = row["activation"] * (model.W_out[1, row["number"]] @ u)
        share = share / cache["ln_final.hook_scale"][0, 4, 0]
        assert row["attribution"] == pytest.approx(share.item(), abs=1e-10)


def test_ov(make_model):
    """Without norms: W_E W_V W_O W_U, less the mean of each row."""
    model = make_model(dtype="float64", **KINDS["no-norm"])
    table = ov_table(model, 1, 2, [5, 9, 5], top_k=3)
    assert table["token_id"].tolist() == [5] * 3 + [9] * 3
    logits = model.W_E[[5, 9]] @ model.W_V[1, 2] @ model.W_O[1, 2] @ model.W_U
    logits = (logits - logits.mean(-1, keepdim=True)).detach()
    top = logits.topk(3)
    assert table["top_token_id"].tolist() == top.indices.flatten().tolist()
    assert np.allclose(table["score"], top.values.flatten(), rtol=0, atol=1e-10)
    own = [float(logits[0, 5])] * 3 + [float(logits[1, 9])] * 3
    assert np.allclose(table["own_score"], own, rtol=0, atol=1e-10)


def test_own_score_of_a_token_without_a_logit(make_model):
    model = make_model(d_vocab=31, d_vocab_out=13)
    assert ov_table(model, 0, 0, [20])["own_score"].isna().all()


def test_refusals(make_model):
    model = make_model()
    with pytest.raises(InputError, match=r"layer must lie in 0 … 1\. Received 2"):
        head_sources_table(model, 2, 0, 7, input=TOKENS)
    with pytest.raises(InputError, match="head must lie"):
        head_sources_table(model, 1, 4, 7, input=TOKENS)
    with pytest.raises(InputError, match="no neurons"):
        neurons_table(make_model(**KINDS["attn-only"]), 0, 0, 7, input=TOKENS)
    with pytest.raises(InputError, match="head='lm'"):
        sources_table(make_model(**KINDS["bert"]), 0, 7, input=torch.tensor([[1, 2]]))
