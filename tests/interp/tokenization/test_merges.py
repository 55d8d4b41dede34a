"""Learning the merges of a byte-pair encoding."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from interp.tokenization import (
    MergeTrace,
    learn_merges,
)
from tests.covering import EXHAUSTIVE, examples

needs_hf = pytest.mark.usefixtures("hf")
CORPORA = st.dictionaries(st.text("abcd", min_size=1, max_size=8), st.integers(1, 9), min_size=1)


@pytest.fixture
def hf() -> None:
    pytest.importorskip("transformers", reason="needs the extra 'hf'")


def test_banana() -> None:
    trace = learn_merges("banana", 10)
    assert trace.start == {"banana": tuple("banana")}
    assert trace.merges == [("n", "a"), ("na", "na"), ("b", "a"), ("ba", "nana")]
    assert [step.count for step in trace.steps] == [2, 1, 1, 1]
    assert trace.pair_counts(0) == {("b", "a"): 1, ("a", "n"): 2, ("n", "a"): 2}
    assert trace.pair_counts(1) == {("b", "a"): 1, ("a", "na"): 1, ("na", "na"): 1}
    assert trace.words(1) == {"banana": ("b", "a", "na", "na")}
    assert trace.words() == {"banana": ("banana",)}
    assert not trace.pair_counts()
    assert str(trace).splitlines() == [
        "b a n a n a",
        "b a na na     (n a: 2)",
        "b a nana      (na na: 1)",
        "ba nana       (b a: 1)",
        "banana        (ba nana: 1)",
    ]


def test_the_papers_example() -> None:
    """Sennrich et al. (2016), figure 1 and the operations that its code prints."""
    corpus = {"low": 5, "lower": 2, "newest": 6, "widest": 3}
    first = learn_merges(corpus, 4, end_of_word="</w>")
    assert first.start["low"] == ("l", "o", "w", "</w>")
    assert {"".join(pair) for pair in first.merges} == {"t</w>", "st</w>", "est</w>", "ow"}
    assert [step.count for step in first.steps] == [9, 9, 9, 7]
    assert first.words()["widest"] == ("w", "i", "d", "est</w>")
    assert set(first.steps[0].changed) == {"newest", "widest"}


def test_kinds_of_words() -> None:
    of_text = learn_merges("ab  ab\nabc", 3)
    assert of_text == learn_merges(["ab", "abc", "ab"], 3)
    assert of_text == learn_merges({"ab": 2, "abc": 1}, 3)
    assert of_text.merges == [("a", "b"), ("ab", "c")]


def test_equal_neighbours_merge_from_the_left() -> None:
    trace = learn_merges("aaaaa", 2)
    assert [step.count for step in trace.steps] == [4, 1]
    assert trace.words(1)["aaaaa"] == ("aa", "aa", "a")
    assert trace.words(2)["aaaaa"] == ("aaaa", "a")


def test_many_words_are_cut_short() -> None:
    lines = str(learn_merges("ab cd ef gh ij kl mn op", 1)).splitlines()
    assert lines[0] == "a b | c d | e f | g h | i j | k l | … 2 more"
    assert lines[1].endswith("(o p: 1)")


def test_no_merges() -> None:
    assert learn_merges("ab", 0).words() == {"ab": ("a", "b")}
    assert learn_merges("a", 5).merges == []
    assert str(learn_merges("a", 5)) == "a"


def _plainly(corpus: dict[str, int], n_merges: int) -> list[tuple[tuple[str, str], int]]:
    """All counts made again at every step, words kept as lists and merged in place."""
    words = {word: list(word) for word in corpus}
    merges = []
    for _ in range(n_merges):
        counts: Counter[tuple[str, str]] = Counter()
        for word, symbols in words.items():
            for i in range(len(symbols) - 1):
                counts[symbols[i], symbols[i + 1]] += corpus[word]
        if not counts:
            break
        best = max(counts, key=lambda pair: (counts[pair], pair))
        merges.append((best, counts[best]))
        for symbols in words.values():
            i = 0
            while i < len(symbols) - 1:
                if (symbols[i], symbols[i + 1]) == best:
                    symbols[i : i + 2] = ["".join(best)]
                i += 1
    return merges


@settings(max_examples=150, deadline=None, derandomize=True)
@given(corpus=CORPORA, n_merges=st.integers(0, 40))
def test_counts_kept_up_to_date(corpus: dict[str, int], n_merges: int) -> None:
    trace = learn_merges(corpus, n_merges)
    assert [(step.pair, step.count) for step in trace.steps] == _plainly(corpus, n_merges)
    for i, step in enumerate(trace.steps):
        counts = trace.pair_counts(i)
        assert counts[step.pair] == step.count == max(counts.values())
        assert step.pair == max(pair for pair in counts if counts[pair] == step.count)
        before, after = trace.words(i), trace.words(i + 1)
        assert step.changed == {w: after[w] for w in after if after[w] != before[w]}
    for word, symbols in trace.words().items():
        assert "".join(symbols) == word


def _up_to_a_tie(trace: MergeTrace) -> list[tuple[str, str]]:
    for i, step in enumerate(trace.steps):
        if list(trace.pair_counts(i).values()).count(step.count) > 1:
            return trace.merges[:i]
    return trace.merges


@needs_hf
@settings(max_examples=examples(150), deadline=None, derandomize=True)
@given(
    # Odd counts of many sizes: ties are rare among the first merges.
    corpus=st.dictionaries(
        st.text("abcd", min_size=1, max_size=7), st.integers(1, 10**4), min_size=3, max_size=8
    )
)
def test_the_merges_of_the_tokenizers_library(corpus: dict[str, int]) -> None:
    merges = _up_to_a_tie(learn_merges(corpus, 30))
    assume(len(merges) > 2)
    assert _of_the_library(corpus)[: len(merges)] == merges


def _of_the_library(corpus: dict[str, int]) -> list[tuple[str, str]]:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(vocab_size=10**4, min_frequency=1, show_progress=False)
    tokenizer.train_from_iterator((f"{word} " * n for word, n in corpus.items()), trainer)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [(left, right) for left, right in merges]


@needs_hf
def test_a_real_text(third_party: Callable[[str], Path]) -> None:
    """Many merges of a megabyte, learned and then applied."""
    from tokenizers import Tokenizer, models

    words = Counter(third_party("tinyshakespeare.txt").read_text().split())
    n = 5000 if EXHAUSTIVE else 1000
    trace = learn_merges(words, n)
    assert len(trace.steps) == n
    # The library's own merges are the same until the first that is as frequent as another.
    theirs = _of_the_library(words)
    same = next(i for i, pair in enumerate(trace.merges) if pair != theirs[i])
    counts = trace.pair_counts(same)
    assert same == 80
    assert counts[theirs[same]] == trace.steps[same].count == max(counts.values())
    # Ours, applied by the library, give what they gave when they were learned.
    vocab = dict.fromkeys([*sorted(set("".join(words))), *("".join(p) for p in trace.merges)])
    numbered = {token: i for i, token in enumerate(vocab)}
    library = Tokenizer(models.BPE(vocab=numbered, merges=trace.merges))
    encodings = library.encode_batch(list(words))
    assert [tuple(found.tokens) for found in encodings] == list(trace.words().values())
