"""An English sentence's translation, and where cross-attention looked while it was written.

For models of `interp.zoo.recipes.translation`, whose grammar knows what each word comes from.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

import interp
from interp import InputError, zoo
from interp.errors import require
from interp.zoo.entry import ENTRY
from interp.zoo.recipes.alignment import align, words_of_tokens
from interp.zoo.recipes.parallel_grammar import (
    ParallelSentence,
    example_sentences,
    parse,
    unknown_words,
    words_of,
)
from interp.zoo.recipes.translation import translate

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

MAX_MENTIONED = 3  # of the words that one looks at, if they have
LEAST_SHARE = 0.1  # of its attention

_HEAD = re.compile(r"L(\d+)(?:C(\d+)| mean)|mean")


@dataclass(frozen=True)
class Question:
    """A sentence to translate.

    Attributes:
        english: As the model reads it.
        known: The grammar's own reading and translation; None for a sentence outside it.
    """

    english: str
    known: ParallelSentence | None


def ask(text: str) -> Question:
    """Read a sentence.

    Raises:
        InputError: if it holds no word, or words that the grammar does not have.
    """
    english = " ".join(text.replace("’", "'").split())
    such = " and ".join(repr(example) for example in example_sentences()[:2])
    require(bool(english), f"a sentence must have words. It can be one like {such}")
    if strange := unknown_words(english):
        raise InputError(
            f"every word must be one that the grammar has. It lacks "
            f"{', '.join(map(repr, strange))}; it has sentences like {such}."
        )
    known = parse(english)
    return Question(english if known is None else known.english, known)


@dataclass(frozen=True)
class Translator:
    """A model that translates.

    Attributes:
        name: As it was asked for.
        head: Whose cross-attention aligns the languages: `L1C0`, or the mean of all heads or of
            those of a layer: `mean`, `L1 mean`.
    """

    name: str
    model: HookedTransformer
    head: str


def open_translator(name: str) -> Translator:
    """Load an encoder–decoder and the head that its entry names.

    A model that has no entry is read by the mean of its heads.

    Raises:
        InputError: if it is no such model, or as `load_model`.
    """
    entry = zoo.entries().get(name)
    if entry is None and (Path(name) / ENTRY).is_file():
        entry = zoo.read_entry(name)
    model = interp.load_model(name) if entry is None else entry.load()
    shape = model.cfg.architecture
    require(shape == "encoder-decoder", f"a translator is an encoder–decoder. {name} is: {shape}")
    require(model.tokenizer is not None, f"a translator needs a tokenizer. {name} has none")
    head = "mean" if entry is None else str(entry.metrics.get("alignment_head", "mean"))
    return Translator(name, model, head)


def head_of(patterns: Float[Tensor, "layer head *axes"], name: str) -> Float[Tensor, "*axes"]:
    """The pattern of `L1C0`, or the mean of the heads: `L1 mean`, `mean`.

    Raises:
        InputError: if there is no such head.
    """
    found = _HEAD.fullmatch(name)
    if found is None:
        raise InputError(f"a head must be named like L1C0, 'L1 mean' or mean. Received {name!r}.")
    layer, head = (None if part is None else int(part) for part in found.group(1, 2))
    n_layers, n_heads = patterns.shape[:2]
    if (layer or 0) >= n_layers or (head or 0) >= n_heads:
        raise InputError(f"there are {n_layers} layers of {n_heads} heads. Received {name!r}.")
    if layer is None:
        return patterns.mean((0, 1))
    return patterns[layer].mean(0) if head is None else patterns[layer, head]


@dataclass(frozen=True)
class Translation:
    """A translation with the attention of one head.

    Attributes:
        question: What was translated.
        portuguese: What the model wrote.
        portuguese_words: The same word by word.
        english_words: What the model read, and the end of the sentence.
        source_tokens, target_tokens: As the vocabulary writes them, the source's with its end.
        attention: What was looked at where each token of the target was predicted.
        word_attention: The same between words, each row a distribution: a source word has what
            its tokens have together; of a target word it is where its first token was predicted.
    """

    question: Question
    portuguese: str
    portuguese_words: tuple[str, ...]
    english_words: tuple[str, ...]
    source_tokens: list[str]
    target_tokens: list[str]
    attention: Float[Tensor, "target_token source_token"]
    word_attention: Float[Tensor, "target_word source_word"]

    @property
    def as_known(self) -> bool | None:
        """Whether it is the grammar's own translation; None outside the grammar."""
        known = self.question.known
        return None if known is None else known.portuguese == self.portuguese

    def looks_at(self, word: int) -> list[tuple[str, float]]:
        """The English words that a Portuguese one looks at, with their shares, the largest first.

        The first is given whatever its share.
        """
        shares = self.word_attention[word]
        order = shares.argsort(descending=True).tolist()[:MAX_MENTIONED]
        found = [(self.english_words[i], shares[i].item()) for i in order]
        return [pair for i, pair in enumerate(found) if i == 0 or pair[1] >= LEAST_SHARE]

    def comes_from(self, word: int) -> list[str] | None:
        """The English words that it comes from by the grammar; None unless that wrote the same."""
        known = self.question.known
        if known is None or not self.as_known:
            return None
        return [known.english_words[i] for i in known.alignment[word]]


def answer(translator: Translator, question: Question, beams: int) -> Translation:
    """Translate by beam search.

    Raises:
        InputError: if the sentence is longer than the model reads.
    """
    model, english = translator.model, question.english
    portuguese = translate(model, [english], beams)[0].strip()
    english_words, portuguese_words = words_of(english), words_of(portuguese)
    source = words_of_tokens(model.tokenizer, english, english_words)
    target = words_of_tokens(model.tokenizer, portuguese, portuguese_words)
    attention = head_of(align(model, english, portuguese), translator.head).cpu()
    end = len(english_words)
    to_words = (torch.tensor([*source, end])[:, None] == torch.arange(end + 1)).to(attention)
    firsts = [target.index(word) for word in range(len(portuguese_words))]
    end_token = str(model.tokenizer.eos_token)
    return Translation(
        question,
        portuguese,
        portuguese_words,
        (*english_words, end_token),
        [*model.tokenizer.tokenize(english), end_token],
        model.tokenizer.tokenize(portuguese),
        attention,
        attention[firsts] @ to_words,
    )
