"""All words of the English–Portuguese grammar, and sentences taken apart into them."""

from __future__ import annotations

import re
from functools import cache

from interp.zoo.recipes.parallel_lexicon import (
    ADJECTIVES,
    ADJUNCTS,
    ARTICLES,
    CONTRACTIONS,
    COUNTS,
    DETERMINERS,
    NAMES,
    NOUNS,
    OWNERS,
    PLACES,
    PRONOUNS,
    Adjective,
    Words,
)
from interp.zoo.recipes.parallel_verbs import ADVERBS, AM, ESTAR, IR, SER, TIMES, VERBS, WAS

_WORD = re.compile(r"'s\b|\w+(?:-\w+)*|[^\w\s]")


def words_of(text: str) -> Words:
    """The words of a sentence in either language.

    The first loses its capital, unless it is one of those that always have it: names, months, "I".
    """
    words = tuple(_WORD.findall(text.replace("’", "'")))
    if words and words[0] not in _known():
        lower = words[0][0].lower() + words[0][1:]
        words = (lower if lower in _known() else words[0], *words[1:])
    return words


def unknown_words(english: str) -> list[str]:
    """The words that the grammar does not have, in order, each once."""
    known = set(english_vocabulary())
    return list(dict.fromkeys(word for word in words_of(english) if word not in known))


@cache
def _known() -> frozenset[str]:
    return frozenset(english_vocabulary() + portuguese_vocabulary())


@cache
def english_vocabulary() -> tuple[str, ...]:
    """Every word of the English side, sorted, with `.`, `,`, `?` and `'s`."""
    phrases = [
        *(form for d in (*DETERMINERS, *OWNERS) for form in d.english if form),
        *(proper.english for proper in (*NAMES, *PLACES)),
        *(p.english for p in ADJUNCTS),
        *(pronoun.english for pronoun in PRONOUNS),
        *(noun.english for noun in NOUNS),
        *((*verb.particle, *verb.preposition.english) for verb in VERBS),
        *(verb.english[:3] if verb.stative else verb.english for verb in VERBS),
        *(time.english for time in TIMES),
        *(adverb.english for adverb in ADVERBS),
        [adjective.english for adjective in ADJECTIVES],
        [count.english for count in COUNTS],
        (*AM, *WAS, "an", "and", "do", "does", "did", "not", "very", "will", ".", ",", "?"),
    ]
    return tuple(sorted({word for phrase in phrases for word in phrase}))


@cache
def portuguese_vocabulary() -> tuple[str, ...]:
    """Every word of the Portuguese side, sorted, with `.`, `,` and `?`."""
    phrases = [
        *(d.portuguese + d.after for d in (*DETERMINERS, *OWNERS)),
        *(proper.portuguese for proper in (*NAMES, *PLACES)),
        *(p.portuguese for p in ADJUNCTS),
        *(pronoun.portuguese for pronoun in PRONOUNS if pronoun.portuguese[0] != "eu"),
        *(noun.portuguese for noun in NOUNS),
        *((*verb.preposition.portuguese, verb.infinitive) for verb in VERBS),
        *(verb.present + verb.past for verb in VERBS),
        [verb.gerund for verb in VERBS if not verb.stative],
        *(time.portuguese for time in TIMES),
        *(adverb.portuguese for adverb in ADVERBS),
        *(count.portuguese for count in COUNTS),
        *(_forms(adjective) for adjective in ADJECTIVES),
        CONTRACTIONS.values(),
        *(forms for copula in (SER, ESTAR) for forms in copula.values()),
        (*ARTICLES, *IR, "eu", "mim", "e", "não", "muito", ".", ",", "?"),
    ]
    return tuple(sorted({word for phrase in phrases for word in phrase} - {""}))


def _forms(adjective: Adjective) -> set[str]:
    """The forms that nouns ask for."""
    nouns = [noun for noun in NOUNS if adjective.kinds & noun.kinds]
    return {
        adjective.portuguese[2 * plural + noun.feminine]
        for noun in nouns
        for plural in (False, not noun.mass)
    }
