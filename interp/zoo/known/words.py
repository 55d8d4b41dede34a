"""Words for the tokens of models by construction, and a tokenizer that knows them."""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any

from interp.errors import require_extra


def symbols(n: int) -> tuple[str, ...]:
    """So many different words: `a` … `z`, `A` … `Z`, then `t52`, `t53` …"""
    return tuple([*string.ascii_letters, *(f"t{i}" for i in range(52, n))][:n])


def make_tokenizer(words: Sequence[str]) -> Any:
    """A Hugging Face tokenizer with one token for each of these words, between white space.

    There is no token for the unknown: a text with another word is an error. It adds no special
    tokens.

    Raises:
        MissingExtraError: if transformers or tokenizers is not installed.
    """
    require_extra("tokenizers", "hf")
    require_extra("transformers", "hf")
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    # A tokenizer has to name a token for padding; not one that it would look for within words.
    padding = AddedToken(words[0], single_word=True)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=padding)
