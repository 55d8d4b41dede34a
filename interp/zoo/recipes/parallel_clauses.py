"""How a sentence of the English–Portuguese grammar is said in either language, word by word.

The order of the words differs in these ways:

- Adjectives follow the noun, and so do "his", "her", "their" and "Ana's": a casa vermelha dela.
- "gave Ana a book" becomes "deu um livro para Ana".
- A question has the order of a statement: an auxiliary moves, "do" leaves no word of its own.
- A phrase of time stands where its Portuguese wants it: "yesterday" or "on Monday" first, "in
  January" or "every day" last, in a question always last. English has it first or last, freely.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from interp.zoo.recipes.parallel_lexicon import GOVERNED_PARA, Adjective, Links, Preposition, Words
from interp.zoo.recipes.parallel_phrases import Nominal, NounPhrase, Phrase
from interp.zoo.recipes.parallel_verbs import AM, ESTAR, IR, SER, WAS, Adverb, Tense, Time, Verb


class ParallelSentence(NamedTuple):
    """A sentence in both languages.

    Attributes:
        english, portuguese: As one writes them.
        english_words, portuguese_words: Word by word, the first one without its capital.
            Punctuation and the 's of "Ana's" are words.
        alignment: For every Portuguese word, the places of the English words it comes from. An
            article that English lacks comes from the noun, a preposition that English lacks from
            the verb, a comma that English lacks from the full stop, and "do" is part of its verb.
        combinations: Which adjective meets which noun, and which subject, verb and object meet.
    """

    english: str
    portuguese: str
    english_words: Words
    portuguese_words: Words
    alignment: Links
    combinations: Words


class Clause(NamedTuple):
    """What a sentence says.

    Attributes:
        verb: None for "to be", of which `adjective` or the first of `adjuncts` is the predicate.
        recipient: Of "gave Ana a book". In "gave a book to Ana" she is one of `adjuncts`.
        adjuncts: Phrases of place, company or purpose.
        time_first: Whether English begins with the time.
    """

    subject: Nominal
    verb: Verb | None
    tense: Tense
    negated: bool = False
    question: bool = False
    adverb: Adverb | None = None
    object: Nominal | None = None
    recipient: Nominal | None = None
    adjective: Adjective | None = None
    very: bool = False
    adjuncts: tuple[tuple[Preposition, Nominal], ...] = ()
    time: Time | None = None
    time_first: bool = False

    @property
    def clear(self) -> bool:
        """Whether its English says when. "They read" might be the present or the past."""
        plain = not (self.negated or self.question)
        verb = self.verb
        unmarked = verb is not None and verb.english[0] == verb.english[2]
        return not (unmarked and plain and self.tense is Tense.PAST)

    @property
    def nominals(self) -> list[Nominal]:
        """All it speaks of."""
        others = (self.object, self.recipient, *(nominal for _, nominal in self.adjuncts))
        return [self.subject, *(other for other in others if other)]

    def combinations(self) -> Words:
        """Which adjective meets which noun, and which subject, verb and object (or place) meet."""
        found = [
            f"{nominal.adjective.english} {nominal.key}"
            for nominal in self.nominals
            if isinstance(nominal, NounPhrase) and nominal.adjective
        ]
        if self.adjective:
            found.append(f"{self.adjective.english} {self.subject.key}")
        target = self.object or (self.adjuncts[0][1] if self.adjuncts else None)
        if target:
            verb = self.verb.english[0] if self.verb else "be"
            found.append(f"{self.subject.key} {verb} {target.key}")
        return tuple(found)


def _verb_group(clause: Clause) -> tuple[str, Words, list[tuple[str, bool, bool]]]:
    """The English auxiliary (or "") and main verb, and the Portuguese words.

    Each Portuguese word with whether it comes from the auxiliary and whether from the main verb.
    """
    verb, tense, person = clause.verb, clause.tense, clause.subject.person
    english_person = clause.subject.english_person
    past = tense in (Tense.PAST, Tense.PAST_PROGRESSIVE)
    be = (WAS if past else AM)[english_person]
    state = ESTAR[Tense.PAST if past else Tense.PRESENT][person]
    if verb is None:
        if clause.adjective and not clause.adjective.estar:
            state = SER[tense][person]
        return be, (), [(state, True, False)]
    base, third, preterite, participle = verb.english
    if tense is Tense.FUTURE:
        words = [(IR[person], True, False), (verb.infinitive, False, True)]
        return "will", (base, *verb.particle), words
    if tense in (Tense.PROGRESSIVE, Tense.PAST_PROGRESSIVE):
        words = [(state, True, False), (verb.gerund, False, True)]
        return be, (participle, *verb.particle), words
    form = (verb.past if past else verb.present)[person]
    is_third = english_person == 1
    if clause.negated or clause.question:
        do = "did" if past else ("does" if is_third else "do")
        return do, (base, *verb.particle), [(form, True, True)]
    finite = preterite if past else (third if is_third else base)
    return "", (finite, *verb.particle), [(form, False, True)]


def render(clause: Clause) -> ParallelSentence:
    """Say it in both languages."""
    english: list[str] = []
    portuguese: list[str] = []
    alignment: list[tuple[int, ...]] = []

    def say(words: Words) -> int:
        english.extend(words)
        return len(english) - len(words)

    def tell(words: Words, links: Links, start: int) -> None:
        portuguese.extend(words)
        alignment.extend([tuple([start + i for i in link]) for link in links])

    subject, verb, time = clause.subject.phrase(), clause.verb, clause.time
    auxiliary, main, verb_words = _verb_group(clause)
    after: list[tuple[Phrase, int]] = []  # what follows the verb, in the order of Portuguese
    at_time = at_not = at_adverb = at_comma = -1

    if time and clause.time_first:
        at_time = say(time.english)
        at_comma = say((",",))
    at_auxiliary = say((auxiliary,)) if auxiliary and clause.question else -1
    at_subject = say(subject.english)
    if auxiliary and not clause.question:
        at_auxiliary = say((auxiliary,))
    if clause.negated:
        at_not = say(("not",))
    if clause.adverb:
        at_adverb = say(clause.adverb.english)
    at_main = say(main)
    if verb and clause.object:
        thing = clause.object.phrase(verb.preposition)
        if clause.recipient:
            receiver = clause.recipient.phrase(GOVERNED_PARA)
            after.append((receiver, say(receiver.english)))
        after.insert(0, (thing, say(thing.english)))
    if clause.very:
        very = Phrase(("very",), ("muito",), ((0,),))
        after.append((very, say(very.english)))
    if clause.adjective:
        form = 2 * (clause.subject.person > 1) + clause.subject.feminine
        word = clause.adjective.portuguese[form]
        predicate = Phrase((clause.adjective.english,), (word,), ((0,),))
        after.append((predicate, say(predicate.english)))
    for preposition, nominal in clause.adjuncts:
        adjunct = nominal.phrase(preposition)
        after.append((adjunct, say(adjunct.english)))
    if time and not clause.time_first:
        at_time = say(time.english)
    at_end = say(("?" if clause.question else ".",))

    fronted = time is not None and time.fronted and not clause.question
    if time and fronted:
        tell(time.portuguese, time.links, at_time)
        tell((",",), ((0,),), at_comma if at_comma >= 0 else at_end)
    tell(subject.portuguese, subject.links, at_subject)
    if clause.negated:
        tell(("não",), ((0,),), at_not)
    if clause.adverb:
        tell(clause.adverb.portuguese, clause.adverb.links, at_adverb)
    from_main = tuple(range(at_main, at_main + len(main)))
    for word, of_auxiliary, of_main in verb_words:
        portuguese.append(word)
        alignment.append((*((at_auxiliary,) * of_auxiliary), *(from_main * of_main)))
    for phrase, start in after:
        tell(phrase.portuguese, phrase.links, start)
    if time and not fronted:
        tell(time.portuguese, time.links, at_time)
    tell((english[-1],), ((0,),), at_end)
    return ParallelSentence(
        as_text(english),
        as_text(portuguese),
        tuple(english),
        tuple(portuguese),
        tuple(alignment),
        clause.combinations(),
    )


def as_text(words: Sequence[str]) -> str:
    """Words as one writes them: a capital, and no space before punctuation and 's."""
    text = " ".join(words).replace(" ,", ",").replace(" '", "'")
    text = text.replace(" .", ".").replace(" ?", "?")
    return text[:1].upper() + text[1:]
