"""Byte-pair encoding: train a tokenizer, and see which merges make its tokens."""

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
