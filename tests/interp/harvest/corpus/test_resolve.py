from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from interp import HookedTransformer, InputError
from interp.harvest.corpus import CorpusSettings
from interp.harvest.corpus.resolve import make_layout
from interp.zoo.recipes.symbols import make_tokenizer
from tests.interp.harvest.corpus.words import make_encoder_tokenizer

pytest.importorskip("transformers", reason="needs the extra 'hf'")

MakeModel = Callable[..., HookedTransformer]


@pytest.fixture(scope="module")
def decoder(make_model: MakeModel) -> HookedTransformer:
    return make_model(make_tokenizer(), d_vocab=64)


def _settings(**fields: Any) -> CorpusSettings:
    return CorpusSettings(files=("a.txt",), **fields)


def test_a_decoder_reads_windows_after_bos(decoder: HookedTransformer) -> None:
    layout = make_layout(_settings(), decoder, False)
    assert (layout.kind, layout.length, layout.room) == ("packed", 16, 15)
    assert (layout.prefix, layout.suffix, layout.separator) == ((0,), (), None)
    assert make_layout(_settings(prepend_bos=False), decoder, False).room == 16


def test_an_encoder_reads_windows_between_cls_and_sep(make_model: MakeModel) -> None:
    encoder = make_model(make_encoder_tokenizer(), architecture="encoder")
    layout = make_layout(_settings(length=5), encoder, False)
    assert (layout.prefix, layout.suffix, layout.separator, layout.pad) == ((2,), (3,), 3, 0)
    padded = make_layout(_settings(layout="padded", overlong="split"), encoder, False)
    assert (padded.prefix, padded.suffix, padded.separator) == ((2,), (3,), None)
    assert padded.overlong == "split"


def test_tokens_stay_as_they_are(decoder: HookedTransformer) -> None:
    assert make_layout(_settings(), decoder, True).prefix == ()
    assert make_layout(_settings(prepend_bos=True), decoder, True).prefix == (0,)


def test_a_long_context_is_not_filled_unless_asked_for(make_model: MakeModel) -> None:
    model = make_model(n_ctx=3000)
    assert make_layout(_settings(), model, True).length == 1024
    assert make_layout(_settings(length=2000), model, True).length == 2000


@pytest.mark.parametrize(("separator", "expected"), [(5, 5), ("none", None), (None, 2), ("eos", 2)])
def test_what_separates_documents(
    make_model: MakeModel, separator: Any, expected: int | None
) -> None:
    tokenizer = make_tokenizer()
    tokenizer.eos_token = "b"
    assert tokenizer.eos_token_id == 2
    model = make_model(tokenizer, d_vocab=64)
    assert make_layout(_settings(separator=separator), model, False).separator == expected


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"length": 17}, "length must be at most n_ctx = 16. Received 17"),
        ({"length": 1}, "length must leave room for a token beside 1 special ones. Received 1"),
        ({"separator": 64}, "separator must lie in 0 … 63. Received 64"),
        ({"separator": "eos"}, "needs a tokenizer with an EOS token"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(
    decoder: HookedTransformer, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        make_layout(_settings(**fields), decoder, False)


def test_text_without_a_tokenizer_is_refused(make_model: MakeModel) -> None:
    with pytest.raises(InputError, match="text needs a tokenizer"):
        make_layout(_settings(), make_model(), False)


def test_bos_that_the_tokenizer_has_not_is_refused(make_model: MakeModel) -> None:
    tokenizer = make_encoder_tokenizer()  # for a decoder, its CLS and SEP are nothing
    model = make_model(tokenizer)
    assert make_layout(_settings(), model, False).prefix == ()
    with pytest.raises(InputError, match="the tokenizer has no BOS token"):
        make_layout(_settings(prepend_bos=True), model, False)


def test_an_encoder_decoder_is_refused(make_model: MakeModel) -> None:
    model = make_model(architecture="encoder-decoder")
    with pytest.raises(InputError, match="An encoder–decoder reads two"):
        make_layout(_settings(), model, True)
