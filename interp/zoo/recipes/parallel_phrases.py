"""Someone or something, in both languages: nouns with their company, names, pronouns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from interp.zoo.recipes.parallel_lexicon import (
    ARTICLES,
    CONTRACTIONS,
    NONE,
    Adjective,
    Count,
    Determiner,
    Links,
    Noun,
    Preposition,
    Pronoun,
    Proper,
    Words,
)


class Phrase(NamedTuple):
    """Words that stand together in both languages; links are counted from its first word."""

    english: Words
    portuguese: Words
    links: Links


class NounPhrase(NamedTuple):
    """A common noun with what belongs to it."""

    noun: Noun
    plural: bool
    determiner: Determiner
    numeral: Count | None = None
    adjective: Adjective | None = None
    very: bool = False

    @property
    def key(self) -> str:
        """The name it goes by in `combinations`."""
        return self.noun.english[0]

    @property
    def person(self) -> int:
        """Which of the Portuguese verb forms goes with it."""
        return 3 if self.plural else 1

    @property
    def english_person(self) -> int:
        """Which of am, is, are goes with it."""
        return 2 if self.plural else 1

    @property
    def feminine(self) -> bool:
        """Its gender."""
        return self.noun.feminine

    def phrase(self, preposition: Preposition = NONE) -> Phrase:
        """Its words after a preposition."""
        noun, determiner, plural = self.noun, self.determiner, self.plural
        form = 2 * plural + noun.feminine
        first = len(preposition.english)
        english = [*preposition.english, *(determiner.english[plural] or ())]
        at_numeral = len(english)
        if self.numeral:
            english.append(self.numeral.english)
        at_adjective = len(english) + self.very
        if self.very:
            english.append("very")
        if self.adjective:
            english.append(self.adjective.english)
        at_noun = len(english)
        english.append(noun.english[plural])
        if english[first] == "a" and english[first + 1][0] in "aeiou":
            english[first] = "an"

        words: list[str] = []
        links: list[tuple[int, ...]] = []
        contracts = determiner.possessive and preposition.contracts
        if determiner.after or contracts:
            words.append(ARTICLES[form])
            links.append((at_noun,))
        if determiner.portuguese:
            words.append(determiner.portuguese[form])
            links.append((first,))
        if self.numeral:
            words.append(self.numeral.portuguese[noun.feminine])
            links.append((at_numeral,))
        words.append(noun.portuguese[plural])
        links.append((at_noun,))
        if self.very:
            words.append("muito")
            links.append((at_adjective - 1,))
        if self.adjective:
            words.append(self.adjective.portuguese[form])
            links.append((at_adjective,))
        words += determiner.after
        links += [tuple(first + i for i in link) for link in determiner.links]
        return _after(preposition, english, words, links)


class Name(NamedTuple):
    """A person, two of them, a country or a city."""

    first: Proper
    second: Proper | None = None

    @property
    def key(self) -> str:
        """The name it goes by in `combinations`."""
        others = ("and", *self.second.english) if self.second else ()
        return " ".join((*self.first.english, *others))

    @property
    def person(self) -> int:
        """Which of the Portuguese verb forms goes with it."""
        return 3 if self.second else 1

    @property
    def english_person(self) -> int:
        """Which of am, is, are goes with it."""
        return 2 if self.second else 1

    @property
    def feminine(self) -> bool:
        """Its gender."""
        return self.first.feminine and (self.second is None or self.second.feminine)

    def phrase(self, preposition: Preposition = NONE) -> Phrase:
        """Its words after a preposition."""
        first, start = self.first, len(preposition.english)
        english = [*preposition.english, *first.english]
        words = list(first.portuguese)
        links: list[tuple[int, ...]] = [tuple(start + i for i in link) for link in first.links]
        if first.article:
            words.insert(0, first.article)
            links.insert(0, (start,) if first.english[0] == "the" else links[0])
        if self.second:
            words += ["e", *self.second.portuguese]
            links += [(start + 1,), (start + 2,)]
            english += ["and", *self.second.english]
        return _after(preposition, english, words, links)


class Personal(NamedTuple):
    """A personal pronoun."""

    pronoun: Pronoun

    @property
    def key(self) -> str:
        """The name it goes by in `combinations`."""
        return self.pronoun.english[0]

    @property
    def person(self) -> int:
        """Which of the Portuguese verb forms goes with it."""
        return self.pronoun.person

    @property
    def english_person(self) -> int:
        """Which of am, is, are goes with it."""
        return self.pronoun.english_person

    @property
    def feminine(self) -> bool:
        """Its gender."""
        return self.pronoun.feminine

    def phrase(self, preposition: Preposition = NONE) -> Phrase:
        """Its words after a preposition, or as subject."""
        after = bool(preposition.portuguese)
        english = [*preposition.english, self.pronoun.english[after]]
        at = len(preposition.english)
        return _after(preposition, english, [self.pronoun.portuguese[after]], [(at,)])


Nominal = NounPhrase | Name | Personal


def _after(
    preposition: Preposition,
    english: Sequence[str],
    words: Sequence[str],
    links: Sequence[tuple[int, ...]],
) -> Phrase:
    """A phrase after its preposition, merged with the first word where Portuguese does so."""
    before, before_links = preposition.portuguese, preposition.links
    if before and (merged := CONTRACTIONS.get((before[-1], words[0]))):
        words = [*before[:-1], merged, *words[1:]]
        links = [*before_links[:-1], (*before_links[-1], *links[0]), *links[1:]]
        return Phrase(tuple(english), tuple(words), tuple(links))
    return Phrase(tuple(english), (*before, *words), (*before_links, *links))
