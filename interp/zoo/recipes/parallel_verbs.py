"""Verbs, adverbs and phrases of time in the English–Portuguese grammar, with their inflection.

Portuguese verb forms stand in the order eu, você/ele, nós, eles.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from interp.zoo.recipes.parallel_lexicon import (
    ABOUT,
    GOVERNED_DE,
    GOVERNED_PARA,
    IN,
    NONE,
    OF,
    TO,
    Links,
    Preposition,
    Words,
    english_s,
)


class Tense(Enum):
    """The English verb groups, and what Portuguese makes of them."""

    PRESENT = "sees: vê"
    PAST = "saw: viu"
    PROGRESSIVE = "is seeing: está vendo"
    PAST_PROGRESSIVE = "was seeing: estava vendo"
    FUTURE = "will see: vai ver"


AM = ("am", "is", "are")
WAS = ("was", "was", "were")
SER = {
    Tense.PRESENT: ("sou", "é", "somos", "são"),
    Tense.PAST: ("era", "era", "éramos", "eram"),
}
ESTAR = {
    Tense.PRESENT: ("estou", "está", "estamos", "estão"),
    Tense.PAST: ("estava", "estava", "estávamos", "estavam"),
}
IR = ("vou", "vai", "vamos", "vão")

_ENDINGS = {
    "ar": ("o a amos am", "ei ou amos aram"),
    "er": ("o e emos em", "i eu emos eram"),
    "ir": ("o e imos em", "i iu imos iram"),
}
_IRREGULAR = {
    "ver": ("vejo vê vemos veem", "vi viu vimos viram"),
    "ler": ("leio lê lemos leem", "li leu lemos leram"),
    "dar": ("dou dá damos dão", "dei deu demos deram"),
    "dormir": ("durmo dorme dormimos dormem", "dormi dormiu dormimos dormiram"),
}


def _conjugate(infinitive: str) -> tuple[Words, Words]:
    """Present and preterite."""
    if infinitive in _IRREGULAR:
        present, past = _IRREGULAR[infinitive]
        return tuple(present.split()), tuple(past.split())
    stem = infinitive[:-2]
    present, past = _ENDINGS[infinitive[-2:]]
    forms = [stem + ending for ending in past.split()]
    if infinitive.endswith(("gar", "çar")):  # the sound stays the same before e
        forms[0] = stem[:-1] + {"g": "gu", "ç": "c"}[stem[-1]] + "ei"
    return tuple(stem + ending for ending in present.split()), tuple(forms)


@dataclass(frozen=True, eq=False)
class Verb:
    """A verb in both languages.

    Attributes:
        english: Base, third person, past, and -ing form.
        particle: An English word that belongs to it: look *for*.
        infinitive, present, past, gerund: The Portuguese forms.
        preposition: What stands before its object.
        objects: The kinds of its object. Empty if it has none.
        subjects: The kinds of its subject.
        adjuncts: What may follow: `place`, `path`, `country`, `with`, `for`.
        stative: Has no progressive.
        gives: Has a recipient: gave a book to Ana, gave Ana a book.
    """

    english: tuple[str, str, str, str]
    particle: Words
    infinitive: str
    present: Words
    past: Words
    gerund: str
    preposition: Preposition
    objects: frozenset[str]
    subjects: frozenset[str]
    adjuncts: Words
    stative: bool
    gives: bool


def _verb(
    english: str,
    portuguese: str,
    objects: str = "",
    adjuncts: str = "",
    *,
    particle: str = "",
    preposition: Preposition = NONE,
    subjects: str = "person",
    stative: bool = False,
    gives: bool = False,
) -> Verb:
    """`english`: the base, then the irregular past and -ing form, if any."""
    base, *irregular = english.split()
    stem = base[:-1] if base.endswith("e") and not base.endswith("ee") else base
    past = base[:-1] + "ied" if english_s(base).endswith("ies") else stem + "ed"
    forms = base, english_s(base), *irregular, *(past, stem + "ing")[len(irregular) :]
    present_pt, past_pt = _conjugate(portuguese)
    return Verb(
        (forms[0], forms[1], forms[2], forms[3]),
        tuple(particle.split()),
        portuguese,
        present_pt,
        past_pt,
        portuguese[:-1] + "ndo",
        preposition,
        frozenset(objects.split()),
        frozenset(subjects.split()),
        tuple(adjuncts.split()),
        stative,
        gives,
    )


_ALIVE = "person animal"
VERBS = (
    _verb("buy bought", "comprar", "thing food drink", "place for"),
    _verb("sell sold", "vender", "thing food drink", "place"),
    _verb("eat ate", "comer", "food", "place with", subjects=_ALIVE),
    _verb("drink drank", "beber", "drink", "place with", subjects=_ALIVE),
    _verb("read read", "ler", "text", "place"),
    _verb("write wrote", "escrever", "text", "place for"),
    _verb("see saw", "ver", "person animal thing name", "place", subjects=_ALIVE, stative=True),
    _verb("find found", "encontrar", "animal thing", "place", subjects=_ALIVE, stative=True),
    _verb("paint", "pintar", "thing place", "for with"),
    _verb("draw drew", "desenhar", "person animal thing place", "for"),
    _verb("clean", "limpar", "thing place", "with"),
    _verb("wash", "lavar", "thing", "place with"),
    _verb("open", "abrir", "opening"),
    _verb("close", "fechar", "opening"),
    _verb("carry", "carregar", "thing food", "path"),
    _verb("help", "ajudar", "person name", "place"),
    _verb("look", "procurar", "animal thing person", "place", particle="for", subjects=_ALIVE),
    _verb("wait", "esperar", "person name", "place", particle="for", subjects=_ALIVE),
    _verb("visit", "visitar", "country city place person", "with"),
    _verb("love", "amar", "country city person animal place name", stative=True),
    _verb(
        "like",
        "gostar",
        "country city person animal thing place food drink name pronoun",
        preposition=GOVERNED_DE,
        stative=True,
    ),
    _verb(
        "need",
        "precisar",
        "person thing drink name pronoun",
        preposition=GOVERNED_DE,
        stative=True,
    ),
    _verb(
        "think thought",
        "pensar",
        "country city person animal thing place name pronoun",
        preposition=ABOUT,
    ),
    _verb("dream", "sonhar", "country city person animal thing name pronoun", preposition=OF),
    _verb("call", "ligar", "person name pronoun", "place", preposition=GOVERNED_PARA),
    _verb("live", "morar", "country city", "with", preposition=IN),
    _verb("travel", "viajar", "country city", "with", preposition=TO),
    _verb("study", "estudar", "language", "place country with"),
    _verb("speak spoke", "falar", "language", "place country with"),
    _verb("sleep slept", "dormir", "", "place", subjects=_ALIVE),
    _verb("sing sang", "cantar", "", "place country with for"),
    _verb("dance", "dançar", "", "place country with"),
    _verb("swim swam swimming", "nadar", "", "with", subjects=_ALIVE),
    _verb("run ran running", "correr", "", "place path with", subjects=_ALIVE),
    _verb("walk", "caminhar", "", "place path with", subjects=_ALIVE),
    _verb("work", "trabalhar", "", "place country with for"),
    _verb("give gave", "dar", "thing food", gives=True),
    _verb("send sent", "enviar", "thing text", gives=True),
    _verb("show", "mostrar", "thing animal text", gives=True),
)


# Adverbs and phrases of time


class Adverb(NamedTuple):
    """Stands before the verb in both languages."""

    english: Words
    portuguese: Words
    links: Links


ADVERBS = (
    Adverb(("always",), ("sempre",), ((0,),)),
    Adverb(("never",), ("nunca",), ((0,),)),
    Adverb(("sometimes",), ("às", "vezes"), ((0,), (0,))),
)


@dataclass(frozen=True, eq=False)
class Time:
    """A phrase of time. `fronted`: Portuguese begins with it, wherever English has it."""

    english: Words
    portuguese: Words
    links: Links
    fronted: bool
    tenses: frozenset[Tense]


def _times(fronted: bool, tenses: Iterable[Tense], *table: tuple[str, str, Links]) -> list[Time]:
    return [
        Time(tuple(english.split()), tuple(portuguese.split()), links, fronted, frozenset(tenses))
        for english, portuguese, links in table
    ]


_MONTHS = """January janeiro February fevereiro March março April abril May maio June junho
July julho August agosto September setembro October outubro November novembro December dezembro"""
_DAYS = """Monday segunda-feira Tuesday terça-feira Wednesday quarta-feira Thursday quinta-feira
Friday sexta-feira Saturday sábado Sunday domingo"""
_SEASONS = "spring primavera summer verão autumn outono winter inverno"


def _pairs(table: str) -> Iterable[tuple[str, str]]:
    words = table.split()
    return zip(words[::2], words[1::2], strict=True)


_PAST = (Tense.PAST, Tense.PAST_PROGRESSIVE)
_FIRST, _SECOND = (0,), (1,)
_LAST: Links = (_SECOND, _SECOND, _FIRST)
_NEXT: Links = (_SECOND, _FIRST, _SECOND)
TIMES = (
    *_times(False, Tense, *((f"in {en}", f"em {pt}", ((0,), (1,))) for en, pt in _pairs(_MONTHS))),
    *_times(
        False,
        (Tense.PRESENT, Tense.PAST, Tense.FUTURE),
        *(
            (f"in the {en}", f"{'na' if pt.endswith('a') else 'no'} {pt}", ((0, 1), (2,)))
            for en, pt in _pairs(_SEASONS)
        ),
    ),
    *_times(
        False,
        (Tense.PRESENT,),
        ("every day", "todos os dias", ((0,), (1,), (1,))),
        ("every week", "toda semana", (_FIRST, _SECOND)),
        ("every month", "todo mês", (_FIRST, _SECOND)),
    ),
    *_times(
        False,
        (Tense.PRESENT, Tense.PAST, Tense.PAST_PROGRESSIVE),
        ("in the morning", "de manhã", ((0, 1), (2,))),
        ("at night", "à noite", ((0, 1), (1,))),
    ),
    *_times(False, (Tense.PROGRESSIVE,), ("now", "agora", (_FIRST,))),
    *_times(
        True,
        (Tense.PAST, Tense.FUTURE),
        *(
            (f"on {en}", f"{'na' if pt.endswith('a') else 'no'} {pt}", ((0, 1), (1,)))
            for en, pt in _pairs(_DAYS)
        ),
    ),
    *_times(True, (Tense.PROGRESSIVE, Tense.FUTURE), ("today", "hoje", (_FIRST,))),
    *_times(
        True,
        _PAST,
        ("yesterday", "ontem", (_FIRST,)),
        ("last week", "na semana passada", _LAST),
        ("last month", "no mês passado", _LAST),
        ("last year", "no ano passado", _LAST),
    ),
    *_times(
        True,
        (Tense.FUTURE,),
        ("tomorrow", "amanhã", (_FIRST,)),
        ("next week", "na próxima semana", _NEXT),
        ("next month", "no próximo mês", _NEXT),
        ("next year", "no próximo ano", _NEXT),
    ),
)
