"""Nouns and the words around them in the English–Portuguese grammar, with their inflection.

Portuguese is Brazilian. Forms that agree stand in the order masculine, feminine, masculine plural,
feminine plural. Verbs and phrases of time are in `parallel_verbs`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

Words = tuple[str, ...]
Links = tuple[tuple[int, ...], ...]
"""For every Portuguese word, the places of the English words it comes from."""


def portuguese_plural(word: str) -> str:
    """The regular plural, ões for ão and none for a word in an unstressed s."""
    for end, plural in (("ão", "ões"), ("al", "ais"), ("el", "éis"), ("ol", "óis"), ("ul", "uis")):
        if word.endswith(end):
            return word[:-2] + plural
    if word.endswith("m"):
        return word[:-1] + "ns"
    if word.endswith("ês"):
        return word[:-2] + "eses"
    if word.endswith("is"):
        return word
    return word + ("es" if word[-1] in "rz" else "s")


def english_s(word: str) -> str:
    """A noun's plural, a verb's third person."""
    if word.endswith("y") and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    return word + ("es" if word.endswith(("s", "sh", "ch", "x")) else "s")


# Nouns and adjectives


@dataclass(frozen=True, eq=False)
class Noun:
    """A common noun. `english` and `portuguese` hold singular and plural, alike for mass nouns."""

    english: tuple[str, str]
    portuguese: tuple[str, str]
    feminine: bool
    kinds: frozenset[str]

    @property
    def mass(self) -> bool:
        """Whether it has no plural."""
        return bool(self.kinds & {"mass", "language"})


def _nouns(table: str) -> tuple[Noun, ...]:
    """One noun a line: English, Portuguese (each with /plural if irregular), gender, kinds."""
    nouns = []
    for line in table.strip().splitlines():
        english, portuguese, gender, *kinds = line.split()
        singular, _, plural = english.partition("/")
        singular_pt, _, plural_pt = portuguese.partition("/")
        forms = (singular, plural or english_s(singular))
        forms_pt = (singular_pt, plural_pt or portuguese_plural(singular_pt))
        if {"mass", "language"} & set(kinds):
            forms, forms_pt = (singular, singular), (singular_pt, singular_pt)
        nouns.append(Noun(forms, forms_pt, gender == "f", frozenset(kinds)))
    return tuple(nouns)


NOUNS = _nouns("""
boy             menino          m  person
girl            menina          f  person
man/men         homem           m  person
woman/women     mulher          f  person
child/children  criança         f  person
teacher         professor       m  person
doctor          médico          m  person
nurse           enfermeira      f  person
friend          amigo           m  person kin
brother         irmão/irmãos    m  person kin
sister          irmã            f  person kin
son             filho           m  person kin
daughter        filha           f  person kin
aunt            tia             f  person kin
student         aluno           m  person
neighbor        vizinho         m  person kin
dog             cachorro        m  animal
cat             gato            m  animal
horse           cavalo          m  animal
bird            pássaro         m  animal
cow             vaca            f  animal
turtle          tartaruga       f  animal
lion            leão            m  animal
book            livro           m  thing text opening
letter          carta           f  thing text
newspaper       jornal          m  thing text
poem            poema           m  text
map             mapa            m  thing text
car             carro           m  thing opening
bicycle         bicicleta       f  thing
table           mesa            f  thing surface
chair           cadeira         f  thing surface
door            porta           f  thing opening
window          janela          f  thing opening
key             chave           f  thing
shirt           camisa          f  thing
hat             chapéu          m  thing
shoe            sapato          m  thing
flower          flor            f  thing
pencil          lápis           m  thing
bag             bolsa           f  thing opening
clock           relógio         m  thing
guitar          violão          m  thing
box             caixa           f  thing opening
apple           maçã            f  food
orange          laranja         f  food
cake            bolo            m  food
bread           pão             m  food mass
cheese          queijo          m  food mass
soup            sopa            f  food mass
coffee          café            m  drink mass
water           água            f  drink mass
milk            leite           m  drink mass
juice           suco            m  drink mass
house           casa            f  place inside
school          escola          f  place inside
museum          museu           m  place inside
park            parque          m  place inside path
hospital        hospital        m  place inside
church          igreja          f  place inside
garden          jardim          m  place inside path
library         biblioteca      f  place inside
market          mercado         m  place inside path
hotel           hotel           m  place inside
city            cidade          f  place inside path
forest          floresta        f  place inside path
station         estação         f  place inside
beach           praia           f  place ground
island          ilha            f  place ground
bridge          ponte           f  place ground shelter
tree            árvore          f  shelter
Portuguese      português       m  language
English         inglês          m  language
French          francês         m  language
Spanish         espanhol        m  language
Italian         italiano        m  language
""")


@dataclass(frozen=True, eq=False)
class Adjective:
    """An adjective. `estar`: as a predicate it takes estar (a state), not ser."""

    english: str
    portuguese: tuple[str, str, str, str]
    estar: bool
    gradable: bool
    kinds: frozenset[str]


def _adjectives(table: str) -> tuple[Adjective, ...]:
    """One a line: English, Portuguese, `estar` or `ser` (with - if not gradable), kinds."""
    adjectives = []
    for line in table.strip().splitlines():
        english, masculine, copula, *kinds = line.split()
        feminine = masculine
        if masculine.endswith("o"):
            feminine = masculine[:-1] + "a"
        elif masculine.endswith("ês"):
            feminine = masculine[:-2] + "esa"
        elif masculine == "espanhol":
            feminine = "espanhola"
        forms = masculine, feminine, portuguese_plural(masculine), portuguese_plural(feminine)
        state = copula.startswith("estar")
        adjectives.append(
            Adjective(english, forms, state, not copula.endswith("-"), frozenset(kinds))
        )
    return tuple(adjectives)


ADJECTIVES = _adjectives("""
red          vermelho     ser-   thing place
white        branco       ser-   thing place animal
black        preto        ser-   thing animal
yellow       amarelo      ser-   thing place
green        verde        ser-   thing place
blue         azul         ser-   thing place
big          grande       ser    thing place animal shelter food
small        pequeno      ser    thing place animal shelter food
old          velho        ser    thing place animal person shelter
new          novo         ser    thing place
beautiful    bonito       ser    thing place animal person shelter text
expensive    caro         ser    thing food drink
cheap        barato       ser    thing food drink
tall         alto         ser    person shelter
young        jovem        ser    person animal
intelligent  inteligente  ser    person animal
famous       famoso       ser    person place text
strong       forte        ser    person animal
rich         rico         ser    person
happy        feliz        estar  person animal
sad          triste       estar  person animal
tired        cansado      estar  person animal
sick         doente       estar  person animal
dirty        sujo         estar  thing place
cold         frio         estar  drink food
hot          quente       estar  drink food
Brazilian    brasileiro   ser-   person text food
Portuguese   português    ser-   person text food
French       francês      ser-   person text food
Spanish      espanhol     ser-   person text food
Italian      italiano     ser-   person text food
""")


# Names, countries and cities


@dataclass(frozen=True, eq=False)
class Proper:
    """A name of a person, a country or a city. `article` is the one Portuguese puts before it."""

    english: Words
    portuguese: Words
    links: Links
    article: str
    kind: str
    feminine: bool = False


def _propers(kind: str, article: str, *names: str, feminine: bool = False) -> tuple[Proper, ...]:
    """Names of one word in both languages, `English=Portuguese` where they differ."""
    pairs = (name.partition("=") for name in names)
    return tuple(
        Proper((en,), (pt or en,), ((0,),), article, kind, feminine) for en, _, pt in pairs
    )


NAMES = (
    *_propers("name", "", "Lucas", "Pedro", "Bruno", "Paulo", "Daniel"),
    *_propers("name", "", "Ana", "Maria", "Clara", "Helena", "Beatriz", feminine=True),
)
PLACES = (
    *_propers("country", "o", "Brazil=Brasil", "Chile", "Peru", "Mexico=México", "Canada=Canadá"),
    *_propers("country", "o", "Japan=Japão"),
    *_propers("country", "a", "France=França", "Italy=Itália", "Spain=Espanha", "China"),
    *_propers("country", "a", "Germany=Alemanha", "Argentina", "England=Inglaterra"),
    *_propers("country", "", "Portugal", "Cuba", "Angola"),
    Proper(("the", "United", "States"), ("Estados", "Unidos"), ((2,), (1,)), "os", "country"),
    Proper(("South", "Africa"), ("África", "do", "Sul"), ((1,), (0,), (0,)), "a", "country"),
    *_propers("city", "", "Lisbon=Lisboa", "London=Londres", "Rome=Roma", "Paris"),
    Proper(("New", "York"), ("Nova", "York"), ((0,), (1,)), "", "city"),
)


@dataclass(frozen=True, eq=False)
class Pronoun:
    """A personal pronoun, as subject and after a preposition.

    `person` counts the Portuguese verb forms, `english_person` those of "to be": am, is, are.
    """

    english: tuple[str, str]
    portuguese: tuple[str, str]
    person: int
    english_person: int
    feminine: bool = False


PRONOUNS = (
    Pronoun(("I", "me"), ("eu", "mim"), 0, 0),
    Pronoun(("you", "you"), ("você", "você"), 1, 2),
    Pronoun(("he", "him"), ("ele", "ele"), 1, 1),
    Pronoun(("she", "her"), ("ela", "ela"), 1, 1, feminine=True),
    Pronoun(("we", "us"), ("nós", "nós"), 2, 2),
    Pronoun(("they", "them"), ("eles", "eles"), 3, 2),
)

# What stands before a noun

ARTICLES = ("o", "a", "os", "as")


@dataclass(frozen=True, eq=False)
class Determiner:
    """What begins a noun phrase.

    Attributes:
        english: Before a singular and before a plural; None where it cannot stand.
        portuguese: The forms that agree. Empty if there are none.
        after: What Portuguese puts after the noun instead, with an article before: a casa dele.
        links: Of `after`, counted from the determiner's first English word.
        possessive: Has an article after a preposition that contracts: na minha casa.
        counted: Whether a numeral can follow.
    """

    english: tuple[Words | None, Words | None]
    portuguese: Words = ()
    after: Words = ()
    links: Links = ()
    possessive: bool = False
    counted: bool = True


def _owner(english: Words, after: Words, links: Links) -> Determiner:
    return Determiner((english, english), (), after, links)


def _possessive(english: str, *portuguese: str) -> Determiner:
    return Determiner(((english,), (english,)), portuguese, possessive=True)


BARE = Determiner((None, ()))
BARE_MASS = Determiner(((), None))
THE = Determiner((("the",), ("the",)), ARTICLES)
A = Determiner((("a",), None), ("um", "uma", "", ""))  # "an" where the next word asks for it
DETERMINERS = (
    THE,
    A,
    Determiner((("this",), ("these",)), ("este", "esta", "estes", "estas")),
    Determiner((("that",), ("those",)), ("aquele", "aquela", "aqueles", "aquelas")),
    Determiner((None, ("some",)), ("", "", "alguns", "algumas"), counted=False),
    Determiner((None, ("many",)), ("", "", "muitos", "muitas"), counted=False),
    _possessive("my", "meu", "minha", "meus", "minhas"),
    _possessive("your", "seu", "sua", "seus", "suas"),
    _possessive("our", "nosso", "nossa", "nossos", "nossas"),
    _owner(("his",), ("dele",), ((0,),)),
    _owner(("her",), ("dela",), ((0,),)),
    _owner(("their",), ("deles",), ((0,),)),
)
OWNERS = tuple(
    _owner((*name.english, "'s"), ("de", *name.portuguese), ((1,), (0,))) for name in NAMES
)


class Count(NamedTuple):
    """A numeral, with its masculine and feminine."""

    english: str
    portuguese: tuple[str, str]


COUNTS = (
    Count("two", ("dois", "duas")),
    Count("three", ("três", "três")),
    Count("four", ("quatro", "quatro")),
    Count("five", ("cinco", "cinco")),
    Count("six", ("seis", "seis")),
)


class Preposition(NamedTuple):
    """A preposition. A link to −1 means the word before: the verb that governs it."""

    english: Words
    portuguese: Words
    links: Links

    @property
    def contracts(self) -> bool:
        """Whether it merges with an article."""
        return bool(self.portuguese) and self.portuguese[-1] in ("em", "de", "por")


NONE = Preposition((), (), ())
IN = Preposition(("in",), ("em",), ((0,),))
ON = Preposition(("on",), ("em",), ((0,),))
NEAR = Preposition(("near",), ("perto", "de"), ((0,), (0,)))
BEHIND = Preposition(("behind",), ("atrás", "de"), ((0,), (0,)))
UNDER = Preposition(("under",), ("embaixo", "de"), ((0,), (0,)))
FRONT = Preposition(("in", "front", "of"), ("na", "frente", "de"), ((0, 1), (1,), (2,)))
THROUGH = Preposition(("through",), ("por",), ((0,),))
WITH = Preposition(("with",), ("com",), ((0,),))
FOR = Preposition(("for",), ("para",), ((0,),))
TO = Preposition(("to",), ("para",), ((0,),))
ABOUT = Preposition(("about",), ("em",), ((0,),))
OF = Preposition(("of",), ("com",), ((0,),))
GOVERNED_DE = Preposition((), ("de",), ((-1,),))
GOVERNED_PARA = Preposition((), ("para",), ((-1,),))
ADJUNCTS = (FRONT, IN, ON, NEAR, BEHIND, UNDER, THROUGH, WITH, FOR, TO)

CONTRACTIONS = {
    (preposition, word): start + word
    for preposition, start, followers in (
        ("em", "n", "o a os as este esta estes estas aquele aquela aqueles aquelas ele ela eles"),
        ("de", "d", "o a os as este esta estes estas aquele aquela aqueles aquelas ele ela eles"),
        ("por", "pel", "o a os as"),
    )
    for word in followers.split()
} | {("com", "mim"): "comigo", ("com", "nós"): "conosco"}
