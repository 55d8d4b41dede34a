"""A text continued, against `generate` and single runs."""

from __future__ import annotations

import math

import pytest
import torch

from analyses.predictions.continuation import continuation_table
from interp.errors import InputError
from interp.interventions import FreezePatterns, Place, Zero, applied

TOKENS = torch.tensor([[3, 7, 3]])


@pytest.fixture
def model(make_model):
    return make_model(dtype=torch.float64)


@pytest.mark.parametrize(
    "options", [{}, {"temperature": 0.7, "top_k": 5, "seed": 1}, {"temperature": 2.0, "top_p": 0.5}]
)
def test_tokens_are_those_of_generate(model, options):
    table = continuation_table(model, {"input": TOKENS}, 6, **options)
    given = {"seed": 0, "temperature": 0.0, **options}
    expected = model.generate(TOKENS, max_new_tokens=6, **given)
    assert table["token_id"].tolist() == expected[0, 3:].tolist()
    assert table["position"].tolist() == list(range(3, 9))
    with torch.no_grad():
        p = model(expected)[0].softmax(-1)
    for row in table.itertuples():
        before = p[row.position - 1]
        assert row.probability == pytest.approx(before[row.token_id].item(), abs=1e-10)
        assert row.rank == 1 + int((before > before[row.token_id]).sum())
        assert row.entropy == pytest.approx(-sum(float(x) * math.log(x) for x in before), abs=1e-8)
        assert row.likeliest_token == str(int(before.argmax()))
    if "top_k" in options:
        first = (p[2].log() / 0.7).softmax(-1)
        share = first[table["token_id"][0]] / first.topk(5).values.sum()
        assert table["drawn_from"][0] == pytest.approx(share.item(), abs=1e-6)


def test_interventions_are_made_at_every_step_on_the_whole_text(model):
    # Frozen patterns are those of the whole text so far: of each step anew.
    plan = [Zero(Place("resid_mid", layers=0, positions=-1)), FreezePatterns()]
    table = continuation_table(model, {"input": TOKENS}, 4, interventions=plan)
    tokens = TOKENS
    for _ in range(4):
        with torch.no_grad(), applied(model, plan, tokens):
            best = model(tokens)[:, -1].argmax(-1)
        tokens = torch.cat([tokens, best[:, None]], dim=1)
    assert table["token_id"].tolist() == tokens[0, 3:].tolist()
    plain = continuation_table(model, {"input": TOKENS}, 4)
    assert (plain["probability"] != table["probability"]).all()


def test_an_encoder_decoder_goes_on_with_its_target(make_model):
    both = make_model(architecture="encoder-decoder", dtype=torch.float64)
    table = continuation_table(both, {"input": TOKENS, "decoder_input": torch.tensor([[1, 2]])}, 3)
    expected = both.generate(
        TOKENS, max_new_tokens=3, do_sample=False, decoder_input=torch.tensor([[1, 2]])
    )
    assert table["token_id"].tolist() == expected[0, 2:].tolist()


def test_it_ends_where_the_model_can_read_no_more(model):
    full = torch.zeros(1, 15, dtype=torch.long)
    assert len(continuation_table(model, {"input": full}, 5)) == 1
    full = torch.zeros(1, 16, dtype=torch.long)
    assert continuation_table(model, {"input": full}, 5).empty


def test_what_cannot_be_continued_is_refused(model, make_model):
    with pytest.raises(InputError, match="reads both ways"):
        continuation_table(make_model(attention_dir="bidirectional"), {"input": TOKENS}, 1)
    with pytest.raises(InputError, match="n must be at least 1"):
        continuation_table(model, {"input": TOKENS}, 0)
    with pytest.raises(InputError, match="top_p"):
        continuation_table(model, {"input": TOKENS}, 1, temperature=1.0, top_p=2.0)
