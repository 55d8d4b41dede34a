"""Reads an English sentence of the grammar, so that its translation can be given.

The parser only proposes: it collects what a sentence might say, and the first proposal that is
said in exactly the words that were given is the answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from interp.zoo.recipes.parallel_clauses import Clause, ParallelSentence, render
from interp.zoo.recipes.parallel_lexicon import (
    ADJECTIVES,
    ADJUNCTS,
    BARE,
    BARE_MASS,
    COUNTS,
    DETERMINERS,
    NAMES,
    NOUNS,
    OWNERS,
    PLACES,
    PRONOUNS,
    TO,
    A,
    Determiner,
    Noun,
    Preposition,
    Words,
)
from interp.zoo.recipes.parallel_phrases import Name, Nominal, NounPhrase, Personal
from interp.zoo.recipes.parallel_verbs import ADVERBS, TIMES, VERBS, Adverb, Tense, Time, Verb
from interp.zoo.recipes.parallel_vocabulary import words_of

_AUXILIARIES = frozenset(["am", "is", "are", "was", "were", "do", "does", "did", "will"])
_BE = frozenset(["am", "is", "are", "was", "were"])

Adjuncts = tuple[tuple[Preposition, Nominal], ...]


def parse(english: str) -> ParallelSentence | None:
    """The sentence with its translation, or None if the grammar does not have it.

    It may say what is never drawn: books that sleep, or more than a drawn sentence has room for.
    """
    words = words_of(english)
    for clause in _clauses(words):
        sentence = render(clause)
        if sentence.english_words == words:
            return sentence
    return None


def _clauses(words: Words) -> Iterator[Clause]:
    """What the words might say."""
    if words[-1:] not in ((".",), ("?",)):
        return
    question, words = words[-1] == "?", words[:-1]
    for time, time_first, rest in _without_time(words):
        auxiliary = rest[0] if question and rest else ""
        if question and auxiliary not in _AUXILIARIES:
            continue
        for subject, end in _nominals(rest, int(question)):
            if not question:
                auxiliary = rest[end] if end < len(rest) and rest[end] in _AUXILIARIES else ""
                end += bool(auxiliary)
            negated = rest[end : end + 1] == ("not",)
            for clause in _predicates(rest, end + negated, subject, auxiliary in _BE):
                clause = clause._replace(
                    negated=negated, question=question, time=time, time_first=time_first
                )
                if clause.clear:
                    yield clause


def _without_time(words: Words) -> Iterator[tuple[Time | None, bool, Words]]:
    yield None, False, words
    for time in TIMES:
        n = len(time.english)
        if words[: n + 1] == (*time.english, ","):
            yield time, True, words[n + 1 :]
        if words[-n:] == time.english:
            yield time, False, words[:-n]


def _predicates(words: Words, start: int, subject: Nominal, be: bool) -> Iterator[Clause]:
    """What follows the auxiliary, in every tense: telling them apart is left to the check."""
    if be:
        very = words[start : start + 1] == ("very",)
        for adjective in ADJECTIVES:
            if words[start + very :] == (adjective.english,):
                for tense in (Tense.PRESENT, Tense.PAST):
                    yield Clause(subject, None, tense, adjective=adjective, very=very)
        for adjuncts in _adjuncts(words, start):
            if adjuncts:
                for tense in (Tense.PRESENT, Tense.PAST):
                    yield Clause(subject, None, tense, adjuncts=adjuncts)
    adverbs: list[Adverb | None] = [
        a for a in ADVERBS if words[start : start + len(a.english)] == a.english
    ]
    for adverb in adverbs or [None]:
        at_verb = start + (len(adverb.english) if adverb else 0)
        for verb in _verbs().get(words[at_verb] if at_verb < len(words) else "", ()):
            after = at_verb + 1 + len(verb.particle)
            for clause in _complements(words, after, Clause(subject, verb, Tense.PRESENT)):
                for tense in Tense:
                    yield clause._replace(adverb=adverb, tense=tense)


def _complements(words: Words, start: int, clause: Clause) -> Iterator[Clause]:
    """The objects and what else there is."""
    verb = clause.verb
    assert verb is not None
    if not verb.objects:
        for adjuncts in _adjuncts(words, start):
            yield clause._replace(adjuncts=adjuncts)
        return
    for first, end in _nominals(words, start + len(verb.preposition.english)):
        for adjuncts in _adjuncts(words, end):
            if not verb.gives or (adjuncts and adjuncts[0][0] is TO):
                yield clause._replace(object=first, adjuncts=adjuncts)
        if verb.gives:
            for second, second_end in _nominals(words, end):
                for adjuncts in _adjuncts(words, second_end):
                    if all(preposition is not TO for preposition, _ in adjuncts):
                        yield clause._replace(object=second, recipient=first, adjuncts=adjuncts)


def _adjuncts(words: Words, start: int) -> Iterator[Adjuncts]:
    """Ways to read all the rest."""
    if start == len(words):
        yield ()
    for preposition in ADJUNCTS:
        end = start + len(preposition.english)
        if words[start:end] == preposition.english:
            for nominal, nominal_end in _nominals(words, end):
                for others in _adjuncts(words, nominal_end):
                    yield ((preposition, nominal), *others)


def _nominals(words: Words, start: int) -> Iterator[tuple[Nominal, int]]:
    """Ways to read the words from `start` as someone or something, with where that ends."""
    word = words[start] if start < len(words) else ""
    for pronoun in PRONOUNS:
        if word in pronoun.english:
            yield Personal(pronoun), start + 1
    for proper in (*NAMES, *PLACES):
        end = start + len(proper.english)
        if words[start:end] == proper.english:
            yield Name(proper), end
            if words[end : end + 1] == ("and",):
                for other in NAMES:
                    if words[end + 1 : end + 2] == other.english:
                        yield Name(proper, other), end + 2
    for determiner, end in _determiners(words, start):
        yield from _noun_phrases(words, end, determiner)


def _determiners(words: Words, start: int) -> Iterator[tuple[Determiner, int]]:
    for determiner in (BARE, BARE_MASS, *DETERMINERS, *OWNERS):
        for form in dict.fromkeys(determiner.english):
            if form is not None and words[start : start + len(form)] == form:
                yield determiner, start + len(form)
    if words[start : start + 1] == ("an",):
        yield A, start + 1


def _noun_phrases(
    words: Words, start: int, determiner: Determiner
) -> Iterator[tuple[NounPhrase, int]]:
    rest = words[start:]
    count = next((c for c in COUNTS if rest[:1] == (c.english,)), None)
    at = int(count is not None)
    very = rest[at : at + 1] == ("very",)
    at += very
    adjective = next((a for a in ADJECTIVES if rest[at : at + 1] == (a.english,)), None)
    for chosen in (adjective, None) if adjective else (None,):
        at_noun = at + (chosen is not None)
        for noun, plural in _noun_forms().get(rest[at_noun] if at_noun < len(rest) else "", ()):
            fits = noun.mass if determiner is BARE_MASS else not (noun.mass and determiner is A)
            if fits and determiner.english[plural] is not None:
                phrase = NounPhrase(noun, plural, determiner, count, chosen, very)
                yield phrase, start + at_noun + 1


@cache
def _noun_forms() -> dict[str, list[tuple[Noun, bool]]]:
    forms: dict[str, list[tuple[Noun, bool]]] = {}
    for noun in NOUNS:
        for plural in (False,) if noun.mass else (False, True):
            forms.setdefault(noun.english[plural], []).append((noun, plural))
    return forms


@cache
def _verbs() -> dict[str, list[Verb]]:
    forms: dict[str, list[Verb]] = {}
    for verb in VERBS:
        for form in set(verb.english):
            forms.setdefault(form, []).append(verb)
    return forms
