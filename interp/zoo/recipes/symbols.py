"""An alphabet of single symbols, and a tokenizer for it."""

from __future__ import annotations

import string
from typing import Any

from interp.errors import require_extra

BOS = "<bos>"
# With the full stop and BOS there are 64 tokens.
SYMBOLS = (*string.ascii_letters, *string.digits, ".")
VOCABULARY = (BOS, *SYMBOLS)
BOS_ID = 0


def make_tokenizer() -> Any:
    """A Hugging Face tokenizer: one token for each symbol, white space ignored.

    `"q f B 7"` and `"qfB7"` are the same four tokens. There is no token for the unknown: a text
    with another symbol is an error. Padding is done with BOS.

    Raises:
        MissingExtraError: if transformers or tokenizers is not installed.
    """
    require_extra("tokenizers", "hf")
    require_extra("transformers", "hf")
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({text: i for i, text in enumerate(VOCABULARY)}))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex("."), "isolated")]
    )
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=BOS, pad_token=BOS)
