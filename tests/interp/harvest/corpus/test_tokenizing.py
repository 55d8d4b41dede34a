from __future__ import annotations

from collections.abc import Callable

import pytest

from interp import HookedTransformer, InputError
from interp.harvest.corpus.tokenizing import (
    encode,
    identity_of,
    pad_of,
    separator_of,
    specials_of,
)
from interp.zoo.recipes.symbols import make_tokenizer
from tests.interp.harvest.corpus.words import make_encoder_tokenizer

pytest.importorskip("transformers", reason="needs the extra 'hf'")

MakeModel = Callable[..., HookedTransformer]


@pytest.fixture(scope="module")
def decoder(make_model: MakeModel) -> HookedTransformer:
    """Its tokenizer has a BOS token, which it pads with, and no EOS."""
    return make_model(make_tokenizer(), d_vocab=64)


@pytest.fixture(scope="module")
def encoder(make_model: MakeModel) -> HookedTransformer:
    return make_model(make_encoder_tokenizer(), architecture="encoder", n_ctx=8)


def test_texts_get_the_tokens_of_to_tokens(decoder: HookedTransformer) -> None:
    texts = ["abc", "q", "Zz. 9"]
    expected = [decoder.to_tokens(text, prepend_bos=False)[0].tolist() for text in texts]
    assert encode(decoder.tokenizer, texts) == expected


def test_a_text_that_cannot_be_read_is_named(decoder: HookedTransformer) -> None:
    where = ["a.txt:4", "a.txt:9"].__getitem__
    with pytest.raises(InputError, match=r"^a\.txt:9: the tokenizer cannot read 'a\?'"):
        encode(decoder.tokenizer, ["a", "a?"], where=where)
    with pytest.raises(InputError, match=r"^text 0: the tokenizer cannot read '\\ud800'"):
        encode(decoder.tokenizer, ["\ud800"])


def test_a_decoder_has_bos_in_front(decoder: HookedTransformer) -> None:
    assert specials_of(decoder, None) == specials_of(decoder, True) == ((0,), ())
    assert specials_of(decoder, False) == ((), ())


def test_an_encoder_has_tokens_around(encoder: HookedTransformer) -> None:
    tokenizer = encoder.tokenizer
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    assert specials_of(encoder, None) == ((cls,), (sep,))
    assert specials_of(encoder, False) == ((), ())
    assert separator_of(encoder) == sep
    assert pad_of(encoder) == tokenizer.pad_token_id


def test_a_tokenizer_without_specials_gives_none(make_model: MakeModel) -> None:
    plain = make_encoder_tokenizer()
    plain.backend_tokenizer.post_processor = None
    assert specials_of(make_model(plain, architecture="encoder"), None) == ((), ())


def test_without_an_eos_nothing_separates(
    decoder: HookedTransformer, make_model: MakeModel
) -> None:
    assert separator_of(decoder) is None
    assert pad_of(decoder) == 0
    assert separator_of(make_model()) is None
    assert pad_of(make_model()) == 0


def test_text_needs_a_tokenizer(make_model: MakeModel) -> None:
    with pytest.raises(InputError, match="text needs a tokenizer"):
        specials_of(make_model(), None)


def test_what_a_tokenizer_did_before_is_not_its_identity() -> None:
    tokenizer = make_encoder_tokenizer()
    before = identity_of(tokenizer)
    tokenizer(["a", "a b"], padding=True, truncation=True, max_length=3)
    assert identity_of(tokenizer) == before


@pytest.mark.parametrize("change", ["token", "special", "template"])
def test_another_tokenizer_has_another_identity(change: str) -> None:
    tokenizer = make_encoder_tokenizer()
    before = identity_of(tokenizer)
    if change == "token":
        tokenizer.add_tokens(["new"])
    elif change == "special":
        tokenizer.eos_token = "a"
    else:
        tokenizer.backend_tokenizer.post_processor = None
    assert identity_of(tokenizer) != before


def test_a_tokenizer_in_python_has_an_identity() -> None:
    class Slow:
        """What is asked of a tokenizer without a pipeline in Rust."""

        is_fast = False
        eos_token_id = 1

        def __init__(self, *words: str) -> None:
            self.vocabulary = {word: i for i, word in enumerate(words)}

        def get_vocab(self) -> dict[str, int]:
            return self.vocabulary

    assert identity_of(Slow("a", "b")) == identity_of(Slow("a", "b"))
    assert identity_of(Slow("a", "b")) != identity_of(Slow("b", "a"))
