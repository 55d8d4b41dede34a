import pytest

from interp import HookedTransformer, HookedTransformerConfig
from interp.zoo.recipes.symbols import BOS_ID, SYMBOLS, VOCABULARY, make_tokenizer


@pytest.fixture(scope="module")
def model():
    cfg = HookedTransformerConfig(
        n_layers=0, d_model=4, n_heads=1, n_ctx=80, d_vocab=64, attn_only=True, device="cpu"
    )
    return HookedTransformer(cfg, make_tokenizer())


def test_there_are_64_tokens(model):
    assert len(VOCABULARY) == len(set(VOCABULARY)) == 64
    assert model.tokenizer.get_vocab() == {text: i for i, text in enumerate(VOCABULARY)}


@pytest.mark.parametrize("text", ["q f B 7 q f", "qfB7qf", " q f\nB7 q f "])
def test_white_space_does_not_matter(model, text):
    tokens = model.to_tokens(text)
    assert tokens.shape == (1, 7)
    assert tokens[0, 0] == BOS_ID
    assert model.to_str_tokens(text) == ["<bos>", "q", "f", "B", "7", "q", "f"]


def test_every_symbol_round_trips(model):
    tokens = model.to_tokens(" ".join(SYMBOLS))
    assert tokens[0].tolist() == list(range(64))
    text = model.to_string(tokens[0])
    assert text == "".join(VOCABULARY)
    assert model.to_tokens(text, prepend_bos=False).equal(tokens)
    assert [model.to_single_token(symbol) for symbol in SYMBOLS] == list(range(1, 64))
    assert model.to_single_token(" q") == model.to_single_token("q")
    assert model.to_single_token("<bos>") == BOS_ID


def test_unknown_symbols_are_errors(model):
    with pytest.raises(Exception, match="UNK"):
        model.to_tokens("q é")


def test_shorter_texts_are_padded_with_bos(model):
    assert model.to_tokens(["a b", "a"]).tolist() == [[0, 1, 2], [0, 1, 0]]
