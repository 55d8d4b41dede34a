"""How merges build the tokens of a word, and those that a tokenizer makes of a text.

Nothing here comes from a tokenizers library. Only `trace_tokenizer` uses one: it reads the merges
out of a Hugging Face tokenizer, and holds the tokens it finds against that tokenizer's own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from interp.errors import InputError, require
from interp.tokenization.symbols import Pair, Symbols, columns, line_of, pairs_of


@dataclass(frozen=True)
class WordStep:
    """One merge that was applied to a word, wherever the word has this pair.

    Attributes:
        pair: The two symbols that became one.
        rank: The merge's place in the order of learning, from 0.
        symbols: The word's symbols afterwards.
    """

    pair: Pair
    rank: int
    symbols: Symbols


@dataclass(frozen=True)
class WordTrace:
    """How merges build the tokens of one word; `str` gives a line per merge.

    Attributes:
        word: The word, as its symbols are written.
        start: Its symbols before the first merge.
        steps: The merges, in the order they apply.
    """

    word: str
    start: Symbols
    steps: tuple[WordStep, ...]

    @property
    def tokens(self) -> Symbols:
        """The symbols when no merge applies any more."""
        return self.steps[-1].symbols if self.steps else self.start

    def __str__(self) -> str:
        lines = [line_of([self.start]), *(line_of([step.symbols]) for step in self.steps)]
        notes = ["", *(f"({' '.join(step.pair)}: rank {step.rank})" for step in self.steps)]
        return columns(lines, notes)


@dataclass(frozen=True)
class TextTrace:
    """How a tokenizer builds the tokens of a text.

    Attributes:
        text: The text.
        words: What the tokenizer first splits it into. An added token (`</s>`) is one by itself.
    """

    text: str
    words: tuple[WordTrace, ...]

    @property
    def tokens(self) -> Symbols:
        """All tokens, as the vocabulary writes them."""
        return tuple(token for word in self.words for token in word.tokens)

    def __str__(self) -> str:
        return "\n\n".join(map(str, self.words))


def apply_merges(word: str | Sequence[str], merges: Iterable[Pair]) -> WordTrace:
    """Build the tokens of a word: of the merges that apply, the one learned first goes first.

    Args:
        word: A word, or the symbols it begins as.
        merges: Pairs in the order they were learned, such as `MergeTrace.merges`.

    Raises:
        InputError: if a merge is not a pair of symbols.
    """
    ranks: dict[Pair, int] = {}
    for rank, pair in enumerate(merges):
        require(
            not isinstance(pair, str) and len(pair) == 2,
            f"a merge must be a pair of symbols. Received {pair!r:.80}",
        )
        ranks.setdefault((pair[0], pair[1]), rank)
    return _apply(tuple(word), ranks)


def _apply(start: Symbols, ranks: Mapping[Pair, int], prefix: str = "") -> WordTrace:
    """One place is merged at a time, as a merge can bring about an earlier one beside it.

    Args:
        start: The symbols to begin with.
        ranks: The place of each pair in the order of learning.
        prefix: What a symbol inside a word begins with, and loses when it is merged.
    """
    symbols = start
    steps: list[WordStep] = []
    while applicable := [
        (ranks[pair], place) for place, pair in enumerate(pairs_of(symbols)) if pair in ranks
    ]:
        rank, i = min(applicable)
        left, right = symbols[i : i + 2]
        symbols = (*symbols[:i], left + right[len(prefix) :], *symbols[i + 2 :])
        if steps and steps[-1].rank == rank:
            steps.pop()  # the same merge, at a further place
        steps.append(WordStep((left, right), rank, symbols))
    word = "".join([*start[:1], *(symbol[len(prefix) :] for symbol in start[1:])])
    return WordTrace(word, start, tuple(steps))


def trace_tokenizer(tokenizer: Any, text: str) -> TextTrace:
    """Show how a Hugging Face tokenizer builds a text's tokens (without those that it adds).

    The tokens are written as in the vocabulary: GPT-2's `Ġ` is a space.

    Raises:
        InputError: if it is not a fast tokenizer with a byte-pair encoding, or if its merges do not
            explain its tokens (with dropout, for instance).
    """
    require(isinstance(text, str), f"text must be a string. Received {text!r:.80}")
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    require(backend is not None, f"only a fast tokenizer has merges to show, not {tokenizer!r:.80}")
    model = json.loads(backend.to_str())["model"]
    require(
        model["type"] == "BPE",
        f"the tokenizer must be a byte-pair encoding. Received a {model['type']} model",
    )
    ranks = {(left, right): rank for rank, (left, right) in enumerate(model["merges"])}
    prefix = model["continuing_subword_prefix"] or ""
    encoding = backend.encode(text, add_special_tokens=False)
    words: list[WordTrace] = []
    for piece, is_added in _pieces(backend, encoding, text):
        if is_added:
            words.append(WordTrace(piece, (piece,), ()))
            continue
        for word in _pre_tokens(backend, piece):
            whole = model.get("ignore_merges") and word in model["vocab"]
            trace = _apply((word,) if whole else _characters(model, word), ranks, prefix)
            words.append(WordTrace(word, trace.start, trace.steps))
    found = TextTrace(text, tuple(words))
    if list(found.tokens) != encoding.tokens:
        raise InputError(
            f"the tokens of a tokenizer must follow from its merges. For {text!r:.80} these give "
            f"{list(found.tokens)!r:.200}, the tokenizer {encoding.tokens!r:.200}."
        )
    return found


def _pieces(backend: Any, encoding: Any, text: str) -> Iterator[tuple[str, bool]]:
    """The text, split where it spells out an added token; and whether a piece is such a token."""
    added = {token.content for token in backend.get_added_tokens_decoder().values()}
    done = 0
    for token, (begin, end) in zip(encoding.tokens, encoding.offsets, strict=True):
        # "<unk>" can also stand for an unknown character, and is a word's own symbol then.
        if token in added and text[begin:end].strip() == token.strip():
            if done < begin:
                yield text[done:begin], False
            yield token, True
            done = end
    if done < len(text):
        yield text[done:], False


def _pre_tokens(backend: Any, piece: str) -> list[str]:
    if backend.normalizer is not None:
        piece = backend.normalizer.normalize_str(piece)
    if backend.pre_tokenizer is None:
        return [piece] if piece else []
    return [word for word, _ in backend.pre_tokenizer.pre_tokenize_str(piece)]


def _characters(model: Mapping[str, Any], word: str) -> Symbols:
    """What the tokenizer has a word begin as: known characters, bytes, or the unknown token."""
    prefix, suffix = model["continuing_subword_prefix"] or "", model["end_of_word_suffix"] or ""
    symbols: list[str] = []
    after_unknown = False
    for i, character in enumerate(word):
        written = (prefix if i else "") + character + (suffix if i == len(word) - 1 else "")
        in_bytes = [f"<0x{byte:02X}>" for byte in written.encode()]
        if written in model["vocab"]:
            symbols.append(written)
        elif model["byte_fallback"] and all(byte in model["vocab"] for byte in in_bytes):
            symbols += in_bytes
        else:
            if model["unk_token"] is not None and not (after_unknown and model["fuse_unk"]):
                symbols.append(model["unk_token"])
            after_unknown = True
            continue
        after_unknown = False
    return tuple(symbols)
