"""The side of every page: second prompt, answers, the decoder's line, interventions."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("streamlit", reason="needs the extra 'dashboard'")

from dashboards.page.subject import MAX_TOKENS, open_model, read, read_target
from interp import InputError, load_model, zoo
from tests.dashboards.screen import PROMPT, html, said, table


def test_the_models_own_pair_is_taken(open_page):
    app = open_page(models=(), model="zoo:induction")
    pair = zoo.defaults("zoo:induction", "activation-patching")
    next(b for b in app.sidebar.button if b.label.startswith("Take")).click().run()
    assert not app.exception and not app.error
    query = app.query_params
    assert (query["prompt"], query["second"]) == (pair["clean"][0], pair["corrupted"][0])
    assert (query["answer"], query["rival"]) == (pair["right"][0], pair["wrong"][0])
    assert app.sidebar.text_area[1].value == pair["corrupted"][0]


def test_a_pair_is_not_offered_where_a_model_has_none(open_page):
    app = open_page(prompt=PROMPT)
    assert not [b for b in app.sidebar.button if b.label.startswith("Take")]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"answer": "two words"}, "'two words' must be a single token"),
        ({"rival": "#13"}, "a token must lie in 0 … 12. Received 13."),
        ({"second": "the " * 30}, "reads 16 tokens at most; these are 31"),
        ({"edits": "melt:L0H1", "edited": "1"}, "melt"),
        ({"edits": "zero:L9H1", "edited": "1"}, "9"),
    ],
)
def test_what_cannot_be_read_is_told(open_page, query, message):
    app = open_page(prompt=PROMPT, **query)
    assert message in said(app.error)[0]


def test_interventions_change_every_page_when_they_are_switched_on(open_page, model):
    app = open_page(prompt=PROMPT, edits="zero:L0H1; zero:L1MLP")
    bare = table(app, "probability")["logit"]
    assert "edits" in app.query_params and app.query_params["edited"] == "0"
    app.sidebar.toggle(key="shared/edited").set_value(True).run()
    assert app.query_params["edited"] == "1"

    def no_head(z, hook):
        z[:, :, 1] = 0
        return z

    def no_mlp(out, hook):
        return torch.zeros_like(out)

    hooks = [("blocks.0.attn.hook_z", no_head), ("blocks.1.hook_mlp_out", no_mlp)]
    expected = model.run_with_hooks(model.to_tokens(PROMPT), fwd_hooks=hooks)[0, -1].topk(10)
    shown = table(app, "probability")
    assert shown["token_id"].tolist() == expected.indices.tolist()
    assert shown["logit"].tolist() == pytest.approx(expected.values.tolist(), abs=1e-5)
    assert bare.tolist() != shown["logit"].tolist()


def test_without_interventions_the_address_does_not_speak_of_them(open_page):
    app = open_page(prompt=PROMPT, edits="", edited="1")
    assert not {"edits", "edited"} & set(app.query_params)


@pytest.fixture
def translation(fresh_caches):
    return open_model("zoo:translation")


def test_a_decoder_reads_what_was_typed_behind_its_start_token(translation):
    model = translation.model
    source = read(translation, "I see the key.", True)
    line = read_target(translation, source, "Eu vejo")
    start = model.cfg.decoder_start_token_id
    start = model.tokenizer.bos_token_id if start is None else start
    assert line.tokens[0] == start
    assert model.tokenizer.decode(line.tokens[1:]).strip() == "Eu vejo"
    assert line.text == "Eu vejo"


def test_without_a_target_the_decoder_reads_the_models_own_answer(translation):
    source = read(translation, "Your sister showed the key to Spanish boys.", True)
    line = read_target(translation, source, "")
    model = load_model("zoo:translation")
    tokens = torch.tensor([line.tokens])
    with torch.no_grad():
        logits = model(torch.tensor([source.tokens]), decoder_input=tokens)[0]
    best = logits.argmax(-1).tolist()
    assert len(tokens[0]) > 4
    assert best[:-1] == tokens[0, 1:].tolist()  # greedy, each behind those before
    assert best[-1] == model.tokenizer.eos_token_id  # which is predicted, not read


def test_a_page_bounds_the_prompt(words_model, make_model, word_tokenizer, tmp_path, fresh_caches):
    long = make_model(word_tokenizer, d_vocab=13, n_ctx=MAX_TOKENS + 100).save(tmp_path / "long")
    loaded = open_model(str(long))
    assert len(read(loaded, "the " * MAX_TOKENS, False).tokens) == MAX_TOKENS
    with pytest.raises(InputError, match=f"a page reads {MAX_TOKENS} tokens at most; these are"):
        read(loaded, "the " * MAX_TOKENS, True)


def test_old_models_make_room_and_are_freed(make_model, word_tokenizer, tmp_path, fresh_caches):
    import gc
    import weakref

    from dashboards.page import subject

    first = open_model(str(make_model(word_tokenizer, d_vocab=13).save(tmp_path / "0")))
    gone = weakref.ref(first.model)
    del first
    for i in range(1, subject.MODELS_IN_MEMORY + 1):
        open_model(str(make_model(word_tokenizer, d_vocab=13).save(tmp_path / str(i))))
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("page", ["weights", "positions"])
def test_pages_of_the_model_alone_need_no_prompt(open_page, page):
    app = open_page(page)
    assert not app.info and not app.error
    assert app.get("plotly_chart")


def test_an_encoder_is_read_with_its_special_tokens(open_page):
    model = load_model("zoo:brackets")
    app = open_page(models=(), model="zoo:brackets", prompt="(()())")
    assert app.sidebar.toggle[0].label == "Add special tokens" and app.sidebar.toggle[0].value
    tokens = model.tokenize("(()())")[0]
    with torch.no_grad():
        expected = model(tokens)[0].softmax(-1).max().item()
    assert not app.error
    assert f"id {int(tokens[0, 0])}" in html(app)
    assert table(app, "probability")["probability"].max() == pytest.approx(expected, abs=1e-6)
