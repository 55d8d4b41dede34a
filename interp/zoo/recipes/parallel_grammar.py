"""A grammar of English sentences and their Portuguese translations, with the words aligned.

"In January, Lucas is visiting Chile." is "Lucas está visitando o Chile em janeiro." An English
sentence has one translation. `parallel_clauses` says how the two languages order their words.

Some combinations of words are held out: adjective and noun, or subject, verb and object, that no
training sentence has together, though it has each of them with others.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import islice
from typing import TypeVar
from zlib import crc32

import torch

from interp.zoo.recipes.parallel_clauses import Clause, ParallelSentence, render
from interp.zoo.recipes.parallel_lexicon import (
    ADJECTIVES,
    BARE,
    BARE_MASS,
    BEHIND,
    COUNTS,
    DETERMINERS,
    FOR,
    FRONT,
    IN,
    NAMES,
    NEAR,
    NOUNS,
    ON,
    OWNERS,
    PLACES,
    PRONOUNS,
    THE,
    THROUGH,
    TO,
    UNDER,
    WITH,
    A,
    Adjective,
    Determiner,
    Noun,
    Preposition,
    Pronoun,
    Proper,
)
from interp.zoo.recipes.parallel_parser import parse
from interp.zoo.recipes.parallel_phrases import Name, Nominal, NounPhrase, Personal
from interp.zoo.recipes.parallel_verbs import (
    ADVERBS,
    TIMES,
    VERBS,
    Tense,
    Time,
    Verb,
)
from interp.zoo.recipes.parallel_vocabulary import (
    english_vocabulary,
    portuguese_vocabulary,
    unknown_words,
    words_of,
)

__all__ = [
    "MAX_ENGLISH_WORDS",
    "MAX_PORTUGUESE_WORDS",
    "ParallelSentence",
    "english_vocabulary",
    "example_sentences",
    "held_out_sentences",
    "is_held_out",
    "parse",
    "portuguese_vocabulary",
    "sample",
    "training_sentences",
    "unknown_words",
    "words_of",
]

MAX_ENGLISH_WORDS = 14  # with punctuation
MAX_PORTUGUESE_WORDS = 16
HELD_OUT_ONE_IN = 10  # of the combinations

T = TypeVar("T")


def sample(generator: torch.Generator, n: int) -> list[ParallelSentence]:
    """Sentences of either side of the split, drawn independently."""
    return list(islice(_stream(generator), n))


def training_sentences(generator: torch.Generator, n: int) -> list[ParallelSentence]:
    """Sentences without a held-out combination, drawn independently."""
    return list(islice((s for s in _stream(generator) if not is_held_out(s)), n))


def held_out_sentences(generator: torch.Generator, n: int) -> list[ParallelSentence]:
    """Distinct sentences with a held-out combination."""
    found: dict[str, ParallelSentence] = {}
    for sentence in _stream(generator):
        if len(found) == n:
            break
        if is_held_out(sentence):
            found[sentence.english] = sentence
    return list(found.values())


def is_held_out(sentence: ParallelSentence) -> bool:
    """Whether the sentence has a combination that training never shows."""
    return any(_combination_is_held_out(words) for words in sentence.combinations)


@cache
def _combination_is_held_out(words: str) -> bool:
    return crc32(words.encode()) % HELD_OUT_ONE_IN == 0


def example_sentences() -> list[str]:
    """English sentences that show what the grammar has."""
    return [
        "Lucas is visiting Chile in January.",
        "On Monday, the teacher gave Ana a red book.",
        "My sister does not like cold coffee.",
        "Two small dogs are sleeping in the garden.",
        "Did they buy the white house in Portugal?",
        "Pedro and Maria traveled to the United States last year.",
        "Her brother will wait for Ana near the station.",
        "The old bridge is very beautiful.",
    ]


# Drawing


def _stream(generator: torch.Generator) -> Iterator[ParallelSentence]:
    """Sentences without end. The generator gives the seed and is not asked again."""
    draw = _Draw(random.Random(int(torch.randint(2**62, (), generator=generator))))
    while True:
        sentence = render(draw.clause())
        if (
            len(sentence.english_words) <= MAX_ENGLISH_WORDS
            and len(sentence.portuguese_words) <= MAX_PORTUGUESE_WORDS
        ):
            yield sentence


@cache
def _nouns_of(kinds: frozenset[str]) -> tuple[Noun, ...]:
    return tuple(noun for noun in NOUNS if noun.kinds & kinds)


@cache
def _candidates(kinds: frozenset[str]) -> tuple[Noun | Proper | Pronoun, ...]:
    """What a verb of such an object can take."""
    propers = tuple(proper for proper in (*PLACES, *NAMES) if proper.kind in kinds)
    return (*_nouns_of(kinds), *propers, *(PRONOUNS if "pronoun" in kinds else ()))


@cache
def _adjectives_of(noun: Noun) -> tuple[Adjective, ...]:
    return tuple(adjective for adjective in ADJECTIVES if adjective.kinds & noun.kinds)


@cache
def _times_of(tense: Tense) -> tuple[tuple[Time, ...], tuple[Time, ...]]:
    """Those that Portuguese fronts, and the others: few against many, so draw a group first."""
    fitting = [time for time in TIMES if tense in time.tenses]
    groups = [tuple(t for t in fitting if t.fronted is fronted) for fronted in (True, False)]
    return groups[0] or groups[1], groups[1]


_SINGULAR = tuple(d for d in DETERMINERS if d.english[0] is not None)
_PLURAL = tuple(d for d in DETERMINERS if d.english[1] is not None)
_POSSESSIVES = DETERMINERS[-6:]  # my to their
_NOW = tuple(time for time in TIMES if time.english in (("now",), ("today",)))
_TENSES = (
    *(Tense.PRESENT, Tense.PRESENT, Tense.PRESENT, Tense.PAST, Tense.PAST, Tense.PAST),
    *(Tense.PROGRESSIVE, Tense.PROGRESSIVE, Tense.PAST_PROGRESSIVE, Tense.FUTURE, Tense.FUTURE),
)
_STATIVE_TENSES = (Tense.PRESENT, Tense.PRESENT, Tense.PAST, Tense.PAST, Tense.FUTURE)
_PERSON, _ANIMAL = frozenset({"person"}), frozenset({"animal"})
_WHERE = (  # each with the kinds that stand after it
    *((IN, frozenset({"inside"})),) * 3,
    (ON, frozenset({"ground"})),
    (NEAR, frozenset({"place", "shelter"})),
    (BEHIND, frozenset({"inside", "shelter"})),
    (FRONT, frozenset({"inside"})),
    (UNDER, frozenset({"shelter"})),
)
_DESCRIBED = frozenset(kind for adjective in ADJECTIVES for kind in adjective.kinds)
_SURFACES = ((ON, frozenset({"surface"})), (UNDER, frozenset({"surface"})))


class _Draw:
    """Draws clauses. It asks for `random()` alone, whose numbers are the same everywhere."""

    def __init__(self, rng: random.Random) -> None:
        self.random = rng.random

    def pick(self, options: Sequence[T]) -> T:
        return options[int(self.random() * len(options))]

    def chance(self, probability: float) -> bool:
        return self.random() < probability

    def clause(self) -> Clause:
        return self.to_be() if self.chance(0.13) else self.action(self.pick(VERBS))

    def action(self, verb: Verb) -> Clause:
        """Someone does something."""
        subject = self.subject(verb.subjects)
        tense = self.pick(_STATIVE_TENSES if verb.stative else _TENSES)
        mood = self.random()
        negated, question = mood < 0.2, 0.2 <= mood < 0.32
        plain = not (negated or question)
        if not Clause(subject, verb, tense, negated, question).clear:
            tense = Tense.PAST_PROGRESSIVE
        adverb = None
        if plain and tense is Tense.PRESENT and self.chance(0.25):
            adverb = self.pick(ADVERBS)
        adjuncts = []
        thing = recipient = None
        if verb.objects:
            thing = self.nominal(_candidates(verb.objects), subject)
        if verb.gives:
            someone = self.nominal(_candidates(_PERSON | {"name", "pronoun"}), subject)
            if self.chance(0.5):
                recipient = someone
            else:
                adjuncts.append((TO, someone))
        elif verb.adjuncts and self.chance(0.4 if verb.objects else 0.65):
            adjuncts.append(self.adjunct(self.pick(verb.adjuncts), subject))
        time = None
        lasting = verb.stative and not verb.adjuncts  # no one loves on Monday
        if not adverb and not lasting and self.chance(0.5):
            time = self.pick(self.pick(_times_of(tense)))
        return Clause(
            subject,
            verb,
            tense,
            negated,
            question,
            adverb,
            thing,
            recipient,
            adjuncts=tuple(adjuncts),
            time=time,
            time_first=time is not None and not question and self.chance(0.5),
        )

    def to_be(self) -> Clause:
        """Someone or something is such, or is there."""
        tense = Tense.PRESENT if self.chance(0.6) else Tense.PAST
        mood = self.random()
        negated, question = mood < 0.2, 0.2 <= mood < 0.35
        adjective, very = None, False
        adjuncts: tuple[tuple[Preposition, Nominal], ...] = ()
        if self.chance(0.6):
            someone = self.chance(0.4)
            noun = self.pick(_nouns_of(_PERSON)) if someone else self.pick(_nouns_of(_DESCRIBED))
            adjective = self.pick(_adjectives_of(noun))
            subject: Nominal = (
                self.subject(_PERSON, adjectives=False)
                if someone
                else self.noun_phrase(noun, bare=False, adjectives=False)
            )
            very = adjective.gradable and self.chance(0.2)
        elif self.chance(0.6):
            subject = self.subject(_PERSON | _ANIMAL)
            adjuncts = (self.adjunct(self.pick(("place", "place", "country")), subject),)
        else:
            subject = self.noun_phrase(self.pick(_nouns_of(frozenset({"thing"}))), bare=False)
            preposition, kinds = self.pick(_SURFACES + _WHERE[:1])
            adjuncts = ((preposition, self.noun_phrase(self.pick(_nouns_of(kinds)), bare=False)),)
        time = None
        if (adjuncts or (adjective and adjective.estar)) and self.chance(0.35):
            present = tense is Tense.PRESENT
            time = self.pick(_NOW if present else self.pick(_times_of(Tense.PAST)))
        return Clause(
            subject,
            None,
            tense,
            negated,
            question,
            adjective=adjective,
            very=very,
            adjuncts=adjuncts,
            time=time,
            time_first=time is not None and not question and self.chance(0.5),
        )

    def subject(self, kinds: frozenset[str], adjectives: bool = True) -> Nominal:
        """Someone, of a verb that takes such subjects."""
        which = self.random()
        if which < 0.27:
            return Name(self.pick(NAMES))
        if which < 0.37:
            return self.two_names()
        if which < 0.62:
            return Personal(self.pick(PRONOUNS))
        return self.noun_phrase(self.pick(_nouns_of(kinds)), bare=False, adjectives=adjectives)

    def two_names(self) -> Name:
        first = int(self.random() * len(NAMES))
        second = (first + 1 + int(self.random() * (len(NAMES) - 1))) % len(NAMES)
        return Name(NAMES[first], NAMES[second])

    def nominal(self, options: Sequence[Noun | Proper | Pronoun], subject: Nominal) -> Nominal:
        """An object. It is not the subject again: beside a pronoun there is no other."""
        chosen = self.pick(options)
        while (isinstance(chosen, Pronoun) and isinstance(subject, Personal)) or chosen in subject:
            chosen = self.pick(options)
        if isinstance(chosen, Noun):
            return self.noun_phrase(chosen)
        return Personal(chosen) if isinstance(chosen, Pronoun) else Name(chosen)

    def adjunct(self, kind: str, subject: Nominal) -> tuple[Preposition, Nominal]:
        """Where, with whom, or for whom."""
        if kind in ("with", "for"):
            preposition = WITH if kind == "with" else FOR
            options = _candidates(_PERSON | {"name", "pronoun"})
            return preposition, self.nominal(options, subject)
        if kind == "country":
            return IN, Name(self.pick(PLACES))
        if kind == "path":
            preposition, kinds = THROUGH, frozenset({"path"})
        else:
            preposition, kinds = self.pick(_WHERE)
        place = self.pick(_nouns_of(kinds))
        return preposition, self.noun_phrase(place, bare=False, plurals=0.12)

    def noun_phrase(
        self, noun: Noun, bare: bool = True, adjectives: bool = True, plurals: float = 0.35
    ) -> NounPhrase:
        """A noun with its company. `bare`: whether it can do without a determiner."""
        if "language" in noun.kinds:
            return NounPhrase(noun, False, BARE_MASS)
        mass = noun.mass
        plural = not mass and self.chance(plurals)
        count = self.pick(COUNTS) if plural and self.chance(0.3) else None
        if "kin" in noun.kinds and self.chance(0.6):
            determiner = self.pick(OWNERS if self.chance(0.4) else _POSSESSIVES)
        else:
            determiner = self.determiner(plural, mass, count is not None, bare)
        adjective = None
        if adjectives and self.chance(0.4) and (options := _adjectives_of(noun)):
            adjective = self.pick(options)
        very = adjective is not None and adjective.gradable and self.chance(0.12)
        return NounPhrase(noun, plural, determiner, count, adjective, very)

    def determiner(self, plural: bool, mass: bool, counted: bool, bare: bool) -> Determiner:
        which = self.random()
        if counted and which < 0.6:
            return BARE
        if bare and which < 0.35 and (mass or plural):
            return BARE if plural else BARE_MASS
        if which < 0.55:
            return THE
        if which < 0.65:
            return self.pick(OWNERS)
        chosen = self.pick(_PLURAL if plural else _SINGULAR)
        if (counted and not chosen.counted) or (mass and chosen is A):
            return THE
        return chosen
