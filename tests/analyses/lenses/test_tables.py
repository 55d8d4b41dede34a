from __future__ import annotations

import numpy as np
import pytest
import torch

from analyses.lenses.tables import lens_grid, lens_table, top_tokens_table
from interp import InputError
from interp.lens import logit_lens
from tests.interp.kinds import KINDS

TOKENS = [3, 1, 4, 1, 5, 9]
ANSWER = 7


@pytest.mark.parametrize("name", ["gpt2", "gemma2", "marian"])
def test_grid_against_a_loop(name, make_model):
    """Every cell from the stream itself: final norm, unembedding, soft cap, softmax."""
    model = make_model(dtype="float64", **KINDS[name])
    inputs = {"input": torch.tensor([TOKENS])}
    read = TOKENS
    if model.cfg.architecture == "encoder-decoder":
        read = [2, 7, 1, 8]
        inputs["decoder_input"] = torch.tensor([read])
    table = lens_grid(model, ANSWER, 1, 2, incl_mid=True, **inputs)
    assert table["position"].unique().tolist() == [1, 2]
    assert table["token"].tolist()[:2] == [str(t) for t in read[1:3]]
    logits, cache = model.run_with_cache(**inputs)
    prefix = "decoder." if model.cfg.architecture == "encoder-decoder" else ""
    for row in table.itertuples():
        layer, _, kind = row.stream.partition("_")
        last = f"blocks.{model.cfg.n_layers - 1}.hook_resid_post"
        hook = last if layer == "final" else f"blocks.{layer}.hook_resid_{kind}"
        vector = cache[prefix + hook][:, [row.position]]
        with torch.no_grad():
            one = model.unembed(model.main_stack.ln_final(vector) * model.cfg.logit_scale)[0, 0]
        cap = model.cfg.output_logits_soft_cap
        one = cap * torch.tanh(one / cap) if cap > 0 else one
        p = one.softmax(-1)
        predicted = int(logits[0, row.position].argmax())
        assert row.final_token == str(predicted) and row.top_token == str(int(p.argmax()))
        assert row.final_rank == 1 + int((one > one[predicted]).sum())
        assert row.target_rank == 1 + int((one > one[ANSWER]).sum())
        assert np.isclose(row.target_probability, p[ANSWER].item(), rtol=0, atol=1e-10)
        assert np.isclose(row.top_probability, p.max().item(), rtol=0, atol=1e-10)
        assert np.isclose(row.entropy, -(p * p.log()).sum().item(), rtol=0, atol=1e-10)


def test_grid_of_the_whole_prompt(make_model):
    model = make_model()
    table = lens_grid(model, ANSWER, input=torch.tensor([TOKENS]))
    assert table["position"].tolist() == list(range(6)) * 3
    assert (table[table["stream"] == "final_post"]["final_rank"] == 1).all()


def test_without_a_target_and_top_tokens(make_model):
    model = make_model()
    reading = logit_lens(model, torch.tensor([TOKENS]), top_k=3)
    assert "target_rank" not in lens_table(model, reading, list("abcdef")).columns
    top = top_tokens_table(model, reading, 4)
    assert top["rank"].tolist() == [1, 2, 3] * 3 and top["order"].tolist()[::3] == [0, 1, 2]
    assert top["token_id"].tolist() == reading.top_tokens[:, 0, 4].flatten().tolist()
    assert np.allclose(top["probability"], reading.top_probabilities[:, 0, 4].flatten())


def test_no_lens_of_a_classifier(make_model):
    model = make_model(**KINDS["classifier"])
    with pytest.raises(InputError, match="reads one vector for the whole sequence"):
        lens_grid(model, 0, input=torch.tensor([TOKENS]))
