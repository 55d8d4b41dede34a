"""The traces of merges, held against tokenizers of others."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from interp.errors import InputError
from interp.pretrained.tokenizers import load_tokenizer
from interp.tokenization import (
    apply_merges,
    learn_merges,
    trace_tokenizer,
    train_bpe,
)
from tests.covering import examples

needs_hf = pytest.mark.usefixtures("hf")
CORPORA = st.dictionaries(st.text("abcd", min_size=1, max_size=8), st.integers(1, 9), min_size=1)
# Words, signs, numbers, white space, accents apart from their letters, other scripts, emoji.
PROMPTS = [
    "",
    " ",
    "Hello, world!",
    " tokenization isn't   hard\n\n\tis it?",
    "naïve cafe\u0301 — 12,345.67%",
    "日本語 и ещё 🙂👩‍👩‍👧",
    "supercalifragilisticexpialidocious aaaaaaaaaaaaa ababababab",
]


@pytest.fixture
def hf() -> None:
    pytest.importorskip("transformers", reason="needs the extra 'hf'")


def test_the_earliest_merge_goes_first() -> None:
    merges = [("l", "o"), ("e", "r"), ("lo", "w"), ("o", "w")]
    trace = apply_merges("lower", merges)
    assert [(step.pair, step.rank) for step in trace.steps] == [
        (("l", "o"), 0), (("e", "r"), 1), (("lo", "w"), 2),
    ]  # fmt: skip
    assert trace.tokens == ("low", "er")
    assert str(trace).splitlines() == [
        "l o w e r",
        "lo w e r    (l o: rank 0)",
        "lo w er     (e r: rank 1)",
        "low er      (lo w: rank 2)",
    ]
    assert apply_merges("slow", merges).tokens == ("s", "low")
    assert apply_merges("xyz", merges).steps == ()
    assert apply_merges("", merges).tokens == ()


def test_one_step_for_all_places() -> None:
    trace = apply_merges("banana", [("n", "a"), ("na", "na")])
    assert [step.symbols for step in trace.steps] == [("b", "a", "na", "na"), ("b", "a", "nana")]


def test_symbols_of_more_than_one_character() -> None:
    trace = apply_merges(["lo", "w", "</w>"], [("lo", "w"), ("low", "</w>")])
    assert trace.word == "low</w>"
    assert trace.tokens == ("low</w>",)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(corpus=CORPORA)
def test_the_learned_words_come_out_as_they_were_left(corpus: dict[str, int]) -> None:
    trace = learn_merges(corpus, 12)
    # Where two merges make the same symbol, a later one can bring about an earlier one.
    assume(len({"".join(pair) for pair in trace.merges}) == len(trace.merges))
    for word, symbols in trace.words().items():
        assert apply_merges(word, trace.merges).tokens == symbols


@needs_hf
@settings(max_examples=examples(150), deadline=None, derandomize=True)
@given(corpus=CORPORA, word=st.text("abcd", min_size=1, max_size=20))
def test_the_tokens_of_the_tokenizers_library(corpus: dict[str, int], word: str) -> None:
    """Also for merges in an order that nobody learned."""
    from tokenizers import Tokenizer, models

    learned = learn_merges(corpus, 30).merges
    for merges in (learned, learned[::-1]):
        vocab = dict.fromkeys([*"abcd", *("".join(pair) for pair in merges)])
        numbered = {token: i for i, token in enumerate(vocab)}
        theirs = Tokenizer(models.BPE(vocab=numbered, merges=merges)).encode(word).tokens
        assert list(apply_merges(word, merges).tokens) == theirs


_loaded = functools.cache(load_tokenizer)


@functools.cache
def _trained(byte_level: bool) -> Any:
    return train_bpe(PROMPTS[:4], 320, byte_level=byte_level, min_frequency=1)


@pytest.fixture(scope="module", params=["gpt2-tokenizer", "stories260K"])
def of_others(request: pytest.FixtureRequest, third_party: Callable[[str], Path]) -> Any:
    pytest.importorskip("transformers", reason="needs the extra 'hf'")
    return _loaded(third_party(request.param))


@pytest.mark.parametrize("text", PROMPTS)
def test_tokenizers_of_others(of_others: Any, text: str) -> None:
    trace = trace_tokenizer(of_others, text)
    assert list(trace.tokens) == of_others.tokenize(text)
    assert of_others.convert_tokens_to_ids(list(trace.tokens)) == of_others.encode(
        text, add_special_tokens=False
    )
    for word in trace.words:
        assert [step.rank for step in word.steps] == sorted({step.rank for step in word.steps})


def test_gpt2(third_party: Callable[[str], Path], hf: None) -> None:
    tokenizer = _loaded(third_party("gpt2-tokenizer"))
    trace = trace_tokenizer(tokenizer, "A banana<|endoftext|>!")
    assert [word.word for word in trace.words] == ["A", "Ġbanana", "<|endoftext|>", "!"]
    assert trace.words[1].start == tuple("Ġbanana")
    assert trace.words[1].tokens == ("Ġbanana",)
    assert trace.words[2].steps == ()
    assert str(trace).split("\n\n")[1] == str(trace.words[1])


@needs_hf
@pytest.mark.parametrize("text", [*PROMPTS, "a cat</s> and <unk>日 <s>", " <pad>"])
@pytest.mark.parametrize("byte_level", [False, True])
def test_our_own(text: str, byte_level: bool) -> None:
    tokenizer = _trained(byte_level)
    assert list(trace_tokenizer(tokenizer, text).tokens) == tokenizer.tokenize(text)


@needs_hf
@pytest.mark.parametrize(
    "fields",
    [
        {"end_of_word_suffix": "</w>"},
        {"continuing_subword_prefix": "##"},
        {"unk_token": "?", "fuse_unk": True},
        {"unk_token": "?"},
        {"unk_token": "?", "byte_fallback": True},
        {"ignore_merges": True},
        {},
    ],
    ids=str,
)
def test_kinds_of_models(fields: dict[str, Any]) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    suffix, prefix = (
        fields.get(name, "") for name in ("end_of_word_suffix", "continuing_subword_prefix")
    )
    merges = [("a", f"{prefix}b"), ("ab", f"{prefix}a"), (f"{prefix}b", f"{prefix}a{suffix}")]
    tokens = [f"{p}{c}{s}" for c in "ab" for p in {"", prefix} for s in {"", suffix}]
    tokens += ["?", *(left + right[len(prefix) :] for left, right in merges)]
    tokens += ["bb", *(f"<0x{byte:02X}>" for byte in range(256))]
    vocab = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=merges, **fields))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    for text in ("ab aba bab bb", "aécb日本b éé", "a b abab baba"):
        assert list(trace_tokenizer(tokenizer, text).tokens) == backend.encode(text).tokens


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (lambda: learn_merges("", 1), "must hold a word"),
        (lambda: learn_merges({}, 1), "must hold a word"),
        (lambda: learn_merges(["a", ""], 1), "words must not be empty"),
        (lambda: learn_merges({"ab": 0}, 1), "count of 'ab' must be a whole number"),
        (lambda: learn_merges("ab", -1), "n_merges must be a whole number"),
        (lambda: learn_merges("ab", 9).words(2), "at most the 1 merges made. Received 2"),
        (lambda: learn_merges("ab", 9).pair_counts(-1), "n_merges must be a whole number"),
        (lambda: apply_merges("ab", ["ab"]), "must be a pair of symbols. Received 'ab'"),
        (lambda: apply_merges("ab", [("a", "b", "c")]), "must be a pair of symbols"),  # type: ignore[list-item]
        (lambda: trace_tokenizer(object(), "a"), "only a fast tokenizer"),
    ],
)
def test_refusals(request_: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        request_()


@needs_hf
def test_refused_tokenizers() -> None:
    from interp.zoo.recipes.symbols import make_tokenizer

    with pytest.raises(InputError, match=r"byte-pair encoding\. Received a WordLevel model"):
        trace_tokenizer(make_tokenizer(), "a")
    tokenizer = train_bpe(["ab ab"], 50)
    with pytest.raises(InputError, match="text must be a string"):
        trace_tokenizer(tokenizer, 3)  # type: ignore[arg-type]
    tokenizer.backend_tokenizer.model.dropout = 1.0
    with pytest.raises(InputError, match="must follow from its merges"):
        trace_tokenizer(tokenizer, "ab")
