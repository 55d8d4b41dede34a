"""Words and their tokens, and the attention between two languages, by hand and by brute force."""

from __future__ import annotations

import pytest
import torch

from interp import InputError
from interp.tokenization import train_bpe
from interp.zoo.recipes.alignment import align, is_right, words_of_tokens
from interp.zoo.recipes.parallel_grammar import parse, sample
from interp.zoo.recipes.translation import BOS, alignment_scores, make_model


@pytest.fixture(scope="module")
def sentences():
    return sample(torch.Generator().manual_seed(31), 500)


@pytest.fixture(scope="module")
def tokenizer(sentences):
    texts = [text for s in sentences for text in (s.english, s.portuguese)]
    return train_bpe(texts, 400)  # so few that many words are of several tokens


@pytest.fixture(scope="module")
def model(tokenizer):
    return make_model(tokenizer, seed=4)


@pytest.mark.parametrize("language", ["english", "portuguese"])
def test_every_word_has_its_tokens_in_order(sentences, tokenizer, language):
    several = 0
    for sentence in sentences:
        text, words = getattr(sentence, language), getattr(sentence, f"{language}_words")
        tokens = tokenizer.tokenize(text)
        places = words_of_tokens(tokenizer, text, words)
        assert len(places) == len(tokens)
        assert places == sorted(places) and set(places) == set(range(len(words)))
        spelled = [""] * len(words)
        for token, place in zip(tokens, places, strict=True):
            spelled[place] += token.replace("▁", "")
        assert [spelled[0].lower(), *spelled[1:]] == [words[0].lower(), *words[1:]]
        several += len(tokens) > len(words)
    assert several > 400


def test_a_lone_space_belongs_to_the_next_word():
    class Tokenizer:
        def tokenize(self, text):
            return ["▁An", "a", "'s", "▁", "cat", "▁"]

    assert words_of_tokens(Tokenizer(), "Ana's cat ", ["Ana", "'s", "cat"]) == [0, 0, 1, 2, 2, 2]


def test_words_must_spell_the_text(tokenizer):
    with pytest.raises(InputError, match=r"words must spell the text 'The cat.'. Received \['the'"):
        words_of_tokens(tokenizer, "The cat.", ["the", "cat"])


def test_right_words_are_counted_by_hand():
    # Tokens: a1 a2 b c </s> in the source, X1 X2 Y Z in the target.
    pattern = torch.tensor(
        [
            [0.1, 0.6, 0.2, 0.1, 0.0],  # X1 looks at a2, a part of a
            [0.0, 0.0, 0.0, 1.0, 0.0],  # X2 is not the first of its word
            [0.1, 0.3, 0.4, 0.2, 0.0],  # Y looks at b by its highest token, though a has as much
            [0.1, 0.1, 0.1, 0.1, 0.6],  # Z looks at the end
        ]
    )
    source, target = [0, 0, 1, 2], [0, 0, 1, 2]
    assert is_right(pattern, source, target, [(0,), (1,), (2,)]) == [True, True, False]
    assert is_right(pattern, source, target, [(1, 2), (0,), (0, 1, 2)]) == [False, False, False]
    assert is_right(pattern, source, target, [(2, 0), (1, 2), ()]) == [True, True, False]


def test_patterns_are_those_where_tokens_are_predicted(model, assert_close):
    sentence = parse("On Monday, the teacher gave Ana a red book.")
    found = align(model, sentence.english, sentence.portuguese)
    source = model.tokenizer.encode(sentence.english)
    target = model.tokenizer.encode(sentence.portuguese, add_special_tokens=False)
    assert found.shape == (2, model.cfg.n_heads, len(target), len(source))
    assert_close(found.sum(-1), torch.ones(found.shape[:-1]))
    for t in range(len(target)):  # one token after the other: what follows is not read
        _, cache = model.run_with_cache(
            torch.tensor([source]), decoder_input=torch.tensor([[BOS, *target[:t]]])
        )
        for layer in range(2):
            pattern = cache[f"decoder.blocks.{layer}.cross_attn.hook_pattern"]
            assert_close(found[layer, :, t], pattern[0, :, -1])


def test_scores_are_those_of_every_pattern(model, sentences):
    sentences = sentences[:12]
    right = {}
    for s in sentences:
        patterns = align(model, s.english, s.portuguese)
        source = words_of_tokens(model.tokenizer, s.english, s.english_words)
        target = words_of_tokens(model.tokenizer, s.portuguese, s.portuguese_words)
        for layer in range(2):
            named = {f"L{layer}C{head}": patterns[layer, head] for head in range(model.cfg.n_heads)}
            named[f"L{layer} mean"] = patterns[layer].mean(0)
            for name, pattern in named.items():
                found = is_right(pattern, source, target, s.alignment)
                for word, gold, ok in zip(s.portuguese_words, s.alignment, found, strict=True):
                    inserted = word == "," and s.english_words[gold[0]] != ","
                    right.setdefault(name, []).extend([] if inserted else [ok])
    expected = {name: sum(found) / len(found) for name, found in right.items()}
    assert alignment_scores(model, sentences) == pytest.approx(expected)
