"""Which source words a decoder looks at while it writes each target word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import InputError

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

_SPACE = "▁"


def words_of_tokens(tokenizer: Any, text: str, words: Sequence[str]) -> list[int]:
    """For every token of a text, the place of the word that it is a part of.

    Args:
        tokenizer: A byte-pair tokenizer that marks spaces with `▁`.
        text: As it is written.
        words: The same word by word, punctuation apart; capitals may differ.

    Raises:
        InputError: if the words do not spell the text.
    """
    tokens = tokenizer.tokenize(text)
    if sum(map(len, words)) != sum(len(t.replace(_SPACE, "")) for t in tokens):
        raise InputError(f"words must spell the text {text!r}. Received {list(words)}.")
    by_letter = [i for i, word in enumerate(words) for _ in word]
    places, letter = [], 0
    for token in tokens:
        places.append(by_letter[min(letter, len(by_letter) - 1)])
        letter += len(token.replace(_SPACE, ""))
    return places


@torch.no_grad()
def align(
    model: HookedTransformer, source: str, target: str
) -> Float[Tensor, "layer head target_token source_token"]:
    """The cross-attention patterns where each token of the target is predicted.

    Row t is the pattern where token t - 1 is read; the last column is the source's EOS.
    """
    target_tokens = model.tokenize(target, target=True)[0]
    names = [f"decoder.blocks.{i}.cross_attn.hook_pattern" for i in range(model.cfg.n_layers)]
    _, cache = model.run_with_cache(
        source, decoder_input=target_tokens, return_type=None, names_filter=names
    )
    return torch.stack([cache[name][0] for name in names])[:, :, :-1]


def is_right(
    pattern: Float[Tensor, "target_token source_token"],
    source_words: Sequence[int],
    target_words: Sequence[int],
    alignment: Sequence[Sequence[int]],
) -> list[bool]:
    """For every target word, whether the pattern of its first token is highest on a gold word."""
    found = []
    for word, gold in enumerate(alignment):
        place = int(pattern[target_words.index(word)].argmax())
        found.append(place < len(source_words) and source_words[place] in gold)
    return found
