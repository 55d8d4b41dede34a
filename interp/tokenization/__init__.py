"""Text and tokens, and byte-pair encoding: its training, and which merges make its tokens.

`text` holds the methods of a model, such as `to_tokens` and `to_str_tokens`. `train_bpe` trains a
tokenizer; `learn_merges` and `trace_tokenizer` show step by step how one is learned, and applied.
"""

from interp.tokenization.bpe import SPECIAL_TOKENS, Template, train_bpe
from interp.tokenization.merges import MergeStep, MergeTrace, learn_merges
from interp.tokenization.symbols import Pair
from interp.tokenization.trace import (
    TextTrace,
    WordStep,
    WordTrace,
    apply_merges,
    trace_tokenizer,
)

__all__ = [
    "SPECIAL_TOKENS",
    "MergeStep",
    "MergeTrace",
    "Pair",
    "Template",
    "TextTrace",
    "WordStep",
    "WordTrace",
    "apply_merges",
    "learn_merges",
    "trace_tokenizer",
    "train_bpe",
]
