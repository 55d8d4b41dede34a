"""Translations checked by hand, and what holds of every sentence that is drawn."""

from collections import Counter

import pytest
import torch

from interp.zoo.recipes.parallel_clauses import as_text, render
from interp.zoo.recipes.parallel_grammar import (
    MAX_ENGLISH_WORDS,
    MAX_PORTUGUESE_WORDS,
    english_vocabulary,
    example_sentences,
    held_out_sentences,
    is_held_out,
    parse,
    portuguese_vocabulary,
    sample,
    training_sentences,
    unknown_words,
    words_of,
)
from interp.zoo.recipes.parallel_lexicon import (
    ADJECTIVES,
    NAMES,
    NOUNS,
    PLACES,
    portuguese_plural,
)
from interp.zoo.recipes.parallel_parser import _clauses
from interp.zoo.recipes.parallel_verbs import TIMES, VERBS
from tests.covering import EXHAUSTIVE

N = 50_000 if EXHAUSTIVE else 10_000  # sentences

# Each Portuguese word with the English words it comes from; @1 is the second such word.
TRANSLATIONS = {
    # order of time phrases, articles of countries, contractions
    "Lucas is visiting Chile in January.": (
        "Lucas=Lucas está=is visitando=visiting o=Chile Chile=Chile em=in janeiro=January .=."
    ),
    "In January, Lucas is visiting Chile.": (
        "Lucas=Lucas está=is visitando=visiting o=Chile Chile=Chile em=in janeiro=January .=."
    ),
    "Lucas visited France on Monday.": (
        "na=on+Monday segunda-feira=Monday ,=. Lucas=Lucas visitou=visited a=France França=France"
        " .=."
    ),
    "On Saturday, Lucas will visit Portugal.": (
        "no=on+Saturday sábado=Saturday ,=, Lucas=Lucas vai=will visitar=visit Portugal=Portugal"
        " .=."
    ),
    "They lived in the United States last year.": (
        "no=year ano=year passado=last ,=. eles=they moraram=lived nos=in+the Estados=States"
        " Unidos=United .=."
    ),
    "Do you travel to South Africa every day?": (
        "você=you viaja=do+travel para=to a=Africa África=Africa do=South Sul=South todos=every"
        " os=day dias=day ?=?"
    ),
    "Next week, my aunt will study Portuguese in New York.": (
        "na=week próxima=next semana=week ,=, minha=my tia=aunt vai=will estudar=study"
        " português=Portuguese em=in Nova=New York=York .=."
    ),
    "Did Ana call him yesterday?": ("Ana=Ana ligou=did+call para=call ele=him ontem=yesterday ?=?"),
    # adjectives and their agreement
    "We saw the red house.": ("nós=we vimos=saw a=the casa=house vermelha=red .=."),
    "Two small dogs ate a cake.": (
        "dois=two cachorros=dogs pequenos=small comeram=ate um=a bolo=cake .=."
    ),
    "Two small turtles see many blue birds.": (
        "duas=two tartarugas=turtles pequenas=small veem=see muitos=many pássaros=birds"
        " azuis=blue .=."
    ),
    "A very old man was drawing an intelligent lion.": (
        "um=a homem=man muito=very velho=old estava=was desenhando=drawing um=an leão=lion"
        " inteligente=intelligent .=."
    ),
    "Some Spanish women sell expensive pencils.": (
        "algumas=some mulheres=women espanholas=Spanish vendem=sell lápis=pencils caros=expensive"
        " .=."
    ),
    "The tired child did not sleep.": (
        "a=the criança=child cansada=tired não=not dormiu=did+sleep .=."
    ),
    "The French poems were beautiful.": (
        "os=the poemas=poems franceses=French eram=were bonitos=beautiful .=."
    ),
    "Ana and Helena are not sick now.": (
        "Ana=Ana e=and Helena=Helena não=not estão=are doentes=sick agora=now .=."
    ),
    "Are Ana and Paulo very tired?": (
        "Ana=Ana e=and Paulo=Paulo estão=are muito=very cansados=tired ?=?"
    ),
    # possessives
    "His old friend works with her two sisters.": (
        "o=friend amigo=friend velho=old dele=his trabalha=works com=with as=sisters duas=two"
        " irmãs=sisters dela=her .=."
    ),
    "Maria's daughter is dancing in my garden.": (
        "a=daughter filha=daughter de='s Maria=Maria está=is dançando=dancing no=in+garden meu=my"
        " jardim=garden .=."
    ),
    "Our letters are under their table.": (
        "nossas=our cartas=letters estão=are embaixo=under da=under+table mesa=table deles=their"
        " .=."
    ),
    # what a verb governs, and words that come from two or none
    "I do not like this coffee.": ("eu=I não=not gosto=do+like deste=like+this café=coffee .=."),
    "She needs the key.": ("ela=she precisa=needs da=needs+the chave=key .=."),
    "Bruno never thinks about those museums.": (
        "Bruno=Bruno nunca=never pensa=thinks naqueles=about+those museus=museums .=."
    ),
    "The cats sometimes look for birds near the church.": (
        "os=the gatos=cats às=sometimes vezes=sometimes procuram=look+for pássaros=birds"
        " perto=near da=near+the@1 igreja=church .=."
    ),
    "Clara dreamed of me at night.": (
        "Clara=Clara sonhou=dreamed comigo=of+me à=at+night noite=night .=."
    ),
    "I carried the guitar through the park.": (
        "eu=I carreguei=carried o=the violão=guitar pelo=through+the@1 parque=park .=."
    ),
    "The nurse waits for Pedro in front of the hotel.": (
        "a=the enfermeira=nurse espera=waits+for Pedro=Pedro na=in+front frente=front do=of+the@1"
        " hotel=hotel .=."
    ),
    "The teacher gave Ana a red book.": (
        "o=the professor=teacher deu=gave um=a livro=book vermelho=red para=gave Ana=Ana .=."
    ),
    "You are showing the flowers to us.": (
        "você=you está=are mostrando=showing as=the flores=flowers para=to nós=us .=."
    ),
    "They read books in the spring.": (
        "eles=they leem=read livros=books na=in+the primavera=spring .=."
    ),
}


def located(words, alignment, english_words):
    """The notation of the table above."""
    seen: Counter[str] = Counter()
    names = []
    for word in english_words:
        names.append(f"{word}@{seen[word]}" if seen[word] else word)
        seen[word] += 1
    return [(w, "+".join(names[i] for i in link)) for w, link in zip(words, alignment, strict=True)]


@pytest.mark.parametrize("english", TRANSLATIONS)
def test_translations_checked_by_hand(english):
    pairs = [tuple(pair.split("=")) for pair in TRANSLATIONS[english].split()]
    sentence = parse(english)
    assert sentence.english == english
    assert sentence.portuguese == as_text([word for word, _ in pairs])
    assert located(sentence.portuguese_words, sentence.alignment, sentence.english_words) == pairs


@pytest.mark.parametrize(
    ("singular", "plural"),
    [
        ("canção", "canções"),
        ("animal", "animais"),
        ("papel", "papéis"),
        ("espanhol", "espanhóis"),
        ("azul", "azuis"),
        ("homem", "homens"),
        ("flor", "flores"),
        ("feliz", "felizes"),
        ("francês", "franceses"),
        ("lápis", "lápis"),
        ("mãe", "mães"),
    ],
)
def test_portuguese_plurals(singular, plural):
    assert portuguese_plural(singular) == plural


def test_verbs_are_conjugated():
    verbs = {verb.infinitive: verb for verb in VERBS}
    assert verbs["ver"].present == ("vejo", "vê", "vemos", "veem")
    assert verbs["morar"].present == ("moro", "mora", "moramos", "moram")
    assert verbs["vender"].past == ("vendi", "vendeu", "vendemos", "venderam")
    assert verbs["abrir"].past == ("abri", "abriu", "abrimos", "abriram")
    assert [verbs[v].past[0] for v in ("dançar", "ligar", "dar")] == ["dancei", "liguei", "dei"]
    assert verbs["ler"].gerund == "lendo"
    assert verbs["correr"].english == ("run", "runs", "ran", "running")
    assert verbs["estudar"].english == ("study", "studies", "studied", "studying")
    assert verbs["enviar"].english == ("send", "sends", "sent", "sending")


# Every sentence


@pytest.fixture(scope="module")
def drawn():
    return sample(torch.Generator().manual_seed(0), N)


@pytest.fixture(scope="module")
def trained():
    return training_sentences(torch.Generator().manual_seed(1), 2 * N)  # every word


@pytest.fixture(scope="module")
def held_out():
    return held_out_sentences(torch.Generator().manual_seed(2), 3000)


def test_words_and_text_say_the_same(drawn):
    for s in drawn:
        assert as_text(s.english_words) == s.english
        assert as_text(s.portuguese_words) == s.portuguese
        assert s.english[-1] == s.portuguese[-1]
        assert s.english[-1] in ".?"
    for s in drawn[: N // 10]:
        assert words_of(s.english) == s.english_words
        assert words_of(s.portuguese) == s.portuguese_words


def test_lengths(drawn):
    assert max(len(s.english_words) for s in drawn) == MAX_ENGLISH_WORDS == 14
    assert max(len(s.portuguese_words) for s in drawn) <= MAX_PORTUGUESE_WORDS == 16


def test_every_portuguese_word_comes_from_english_words(drawn):
    for s in drawn:
        assert len(s.alignment) == len(s.portuguese_words)
        for link in s.alignment:
            assert link
            assert len(set(link)) == len(link)
            assert all(0 <= i < len(s.english_words) for i in link)


def test_only_the_comma_is_without_a_portuguese_word(drawn):
    for s in drawn:
        used = {i for link in s.alignment for i in link}
        missing = {word for i, word in enumerate(s.english_words) if i not in used}
        assert missing <= {","}


def dictionary():
    """For the content words: what each Portuguese form can come from."""
    meanings: dict[str, set[str]] = {}

    def enter(portuguese, english):
        for word in portuguese:
            meanings.setdefault(word, set()).update(english)

    for noun in NOUNS:
        enter(noun.portuguese, noun.english)
    for adjective in ADJECTIVES:
        enter(adjective.portuguese, [adjective.english])
    for verb in VERBS:
        enter((*verb.present, *verb.past, verb.infinitive, verb.gerund), verb.english)
    for proper in (*NAMES, *PLACES):
        for word, link in zip(proper.portuguese, proper.links, strict=True):
            if word[0].isupper():
                enter([word], [proper.english[i] for i in link])
    for when in TIMES:
        last = when.english[-1]
        if len(when.portuguese) <= 2 and last != "night":
            enter(when.portuguese[-1:], [last])
    return meanings


def test_content_words_come_from_what_they_mean(drawn):
    meanings = dictionary()
    checked = 0
    for s in drawn:
        for word, link in zip(s.portuguese_words, s.alignment, strict=True):
            if word in (".", ",", "?"):
                assert all(s.english_words[i] in (".", ",", "?") for i in link)
            elif word in meanings:
                assert any(s.english_words[i] in meanings[word] for i in link), (word, s)
                checked += 1
    assert checked > 3 * N


def test_the_same_seed_gives_the_same_sentences(drawn):
    assert sample(torch.Generator().manual_seed(0), 500) == drawn[:500]
    generator = torch.Generator().manual_seed(0)
    assert sample(generator, 500) == drawn[:500] != sample(generator, 500)


def test_a_sentence_has_one_translation(drawn, trained):
    translations: dict[str, tuple] = {}
    for s in drawn + trained:
        assert translations.setdefault(s.english, s) == s


def test_every_way_to_read_a_sentence_gives_that_translation(drawn):
    for s in drawn[: 3000 if EXHAUSTIVE else 1500]:
        readings = [render(clause) for clause in _clauses(s.english_words)]
        readings = [reading for reading in readings if reading.english_words == s.english_words]
        assert readings
        assert all(reading == s for reading in readings)


def test_there_are_more_than_a_million_sentences(drawn, trained):
    """Chao's lower bound from how many were drawn once and twice."""
    times = Counter(Counter(s.english for s in drawn).values())
    assert times[1] + times[1] ** 2 / (2 * times[2]) > 1e6


def test_all_words_are_drawn_and_no_others(drawn, trained):
    both = drawn + trained
    assert {word for s in both for word in s.english_words} == set(english_vocabulary())
    assert {word for s in both for word in s.portuguese_words} == set(portuguese_vocabulary())


def test_both_orders_of_time_occur(drawn):
    orders = Counter(
        ("," in s.english_words, "," in s.portuguese_words) for s in drawn if s.english[-1] == "."
    )
    assert min(orders[key] for key in ((True, True), (True, False), (False, True))) > N / 25


# The split


def test_held_out_combinations_are_never_trained_on(trained, held_out):
    assert not any(is_held_out(s) for s in trained)
    seen = {combination for s in trained for combination in s.combinations}
    assert len({s.english for s in held_out}) == len(held_out) == 3000
    for s in held_out:
        assert is_held_out(s)
        assert set(s.combinations) - seen
    assert not {s.english for s in held_out} & {s.english for s in trained}


def test_every_held_out_word_is_trained_on(trained, held_out):
    english = {word for s in trained for word in s.english_words}
    portuguese = {word for s in trained for word in s.portuguese_words}
    for s in held_out:
        assert set(s.english_words) <= english
        assert set(s.portuguese_words) <= portuguese


def test_held_out_is_a_property_of_the_sentence(drawn):
    share = sum(map(is_held_out, drawn)) / len(drawn)
    assert 0.1 < share < 0.2
    for s in drawn[: 2000 if EXHAUSTIVE else 1000]:
        assert is_held_out(parse(s.english)) == is_held_out(s)


# What is outside


def test_unknown_words_are_named():
    assert unknown_words("Lucas is visiting Chile in January.") == []
    assert unknown_words("Zelda is visiting the moon, the moon and Ana’s zebra!") == [
        "Zelda",
        "moon",
        "zebra",
        "!",
    ]
    assert unknown_words("") == []


@pytest.mark.parametrize(
    "english",
    [
        "",
        ".",
        "?",
        "Lucas is visiting Chile",
        "Lucas visit Chile.",
        "Visiting is Lucas Chile.",
        "I sees a apple.",
        "A apple is red.",
        "Coffees are hot.",
        "Ana gave her book.",
        "The is on.",
        "In January.",
        "Ana is reading.",  # it has an object
        "Ana waits for us.",  # a pronoun without a preposition would move in Portuguese
        "Ana read a book.",  # they read: now or then?
    ],
)
def test_what_the_grammar_lacks_has_no_translation(english):
    assert parse(english) is None


def test_examples_are_of_the_grammar():
    examples = example_sentences()
    assert "Lucas is visiting Chile in January." in examples
    for english in examples:
        assert parse(english).english == english
        assert len(parse(english).english_words) <= MAX_ENGLISH_WORDS
