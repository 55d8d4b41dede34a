"""Byte-pair encoding step by step: how merges are learned, and how they build the tokens of a word.

Nothing here comes from a tokenizers library. Only `trace_tokenizer` uses one: it reads the merges
out of a Hugging Face tokenizer, and holds the tokens it finds against that tokenizer's own.
"""

from __future__ import annotations

import heapq
import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from interp.errors import InputError, require, require_whole

Pair = tuple[str, str]
Symbols = tuple[str, ...]

_WORDS_SHOWN = 6


@dataclass(frozen=True)
class MergeStep:
    """One merge that was learned.

    Attributes:
        pair: The two symbols that became one.
        count: How often they were neighbours just before.
        changed: The words that had this pair, and their symbols afterwards.
    """

    pair: Pair
    count: int
    changed: Mapping[str, Symbols]


@dataclass(frozen=True)
class MergeTrace:
    """How a byte-pair encoding was learned; `str` gives a line per merge.

    Attributes:
        counts: How often each word occurs.
        start: The symbols of each word before the first merge.
        steps: The merges, in the order they were learned.
    """

    counts: Mapping[str, int]
    start: Mapping[str, Symbols]
    steps: tuple[MergeStep, ...]

    @property
    def merges(self) -> list[Pair]:
        """The pairs that were merged, in order."""
        return [step.pair for step in self.steps]

    def words(self, n_merges: int | None = None) -> dict[str, Symbols]:
        """Every word's symbols after the first `n_merges` merges (None: after all).

        Raises:
            InputError: if there are not so many.
        """
        words = dict(self.start)
        for step in self.steps[: self._checked(n_merges)]:
            words.update(step.changed)
        return words

    def pair_counts(self, n_merges: int | None = None) -> Counter[Pair]:
        """How often each two symbols are neighbours after the first `n_merges` merges.

        The next merge is of the most frequent of these.

        Raises:
            InputError: if there are not so many merges.
        """
        counts: Counter[Pair] = Counter()
        for word, symbols in self.words(n_merges).items():
            for pair in _pairs(symbols):
                counts[pair] += self.counts[word]
        return counts

    def _checked(self, n_merges: int | None) -> int:
        if n_merges is None:
            return len(self.steps)
        require_whole("n_merges", n_merges, 0)
        require(
            n_merges <= len(self.steps),
            f"n_merges must be at most the {len(self.steps)} merges made. Received {n_merges}",
        )
        return n_merges

    def __str__(self) -> str:
        shown = dict(list(self.start.items())[:_WORDS_SHOWN])
        more = len(self.start) - len(shown)
        end = f" | … {more} more" if more else ""
        lines, notes = [_line(shown.values(), end)], [""]
        for step in self.steps:
            shown.update({word: step.changed[word] for word in shown if word in step.changed})
            lines.append(_line(shown.values(), end))
            notes.append(f"({' '.join(step.pair)}: {step.count})")
        return _columns(lines, notes)


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
        lines = [_line([self.start]), *(_line([step.symbols]) for step in self.steps)]
        notes = ["", *(f"({' '.join(step.pair)}: rank {step.rank})" for step in self.steps)]
        return _columns(lines, notes)


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


# --- learning ------------------------------------------------------------------------------------


def learn_merges(
    words: Mapping[str, int] | Sequence[str] | str, n_merges: int, *, end_of_word: str = ""
) -> MergeTrace:
    """Learn a byte-pair encoding, as Sennrich et al. (2016) do.

    Every word begins as its characters. Each step merges, in all words, the two neighbours that
    occur together most often. Among equally frequent pairs the greatest in the order of strings
    wins (first symbol first), as in the paper's code: in "banana", `n a` goes before `a n`. The
    `tokenizers` library breaks ties in another way.

    Args:
        words: How often each word occurs; or words; or a text, split at white space.
        n_merges: How many merges to learn. There are fewer if all words are whole before.
        end_of_word: A symbol to put behind every word, `</w>` in the paper.

    Raises:
        InputError: if there is no word, or a count is not a positive whole number.
    """
    require_whole("n_merges", n_merges, 0)
    counts = dict(words if isinstance(words, Mapping) else Counter(_split(words)))
    require(bool(counts), f"words must hold a word. Received {words!r:.80}")
    require("" not in counts, "words must not be empty. Received ''")
    for word, count in counts.items():
        require_whole(f"the count of {word!r}", count, 1)
    end = (end_of_word,) if end_of_word else ()
    start = {word: (*word, *end) for word in counts}
    return MergeTrace(counts, start, tuple(_learn(counts, start, n_merges)))


def _split(words: Sequence[str] | str) -> Sequence[str]:
    return words.split() if isinstance(words, str) else words


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A pair as the heap sees it: the smallest is the one to merge."""

    count: int
    pair: Pair

    def __lt__(self, other: _Candidate) -> bool:
        return (self.count, self.pair) > (other.count, other.pair)


def _learn(
    counts: Mapping[str, int], start: Mapping[str, Symbols], n_merges: int
) -> Iterator[MergeStep]:
    """The merges. Only words that have the pair are counted again."""
    words = dict(start)
    pair_counts: Counter[Pair] = Counter()
    homes: defaultdict[Pair, set[str]] = defaultdict(set)  # words that have, or had, the pair
    for word, symbols in words.items():
        for pair in _pairs(symbols):
            pair_counts[pair] += counts[word]
            homes[pair].add(word)
    # A pair whose count changes is put in once more; what it was put in with before is skipped.
    heap = [_Candidate(count, pair) for pair, count in pair_counts.items()]
    heapq.heapify(heap)
    for _ in range(n_merges):
        while heap and pair_counts[heap[0].pair] != heap[0].count:
            heapq.heappop(heap)
        if not heap:
            return
        best = heapq.heappop(heap)
        changed: dict[str, Symbols] = {}
        differences: Counter[Pair] = Counter()
        for word in homes.pop(best.pair):
            merged = _merge(words[word], best.pair)
            if merged == words[word]:
                continue
            for pair in _pairs(words[word]):
                differences[pair] -= counts[word]
            for pair in _pairs(merged):
                differences[pair] += counts[word]
                homes[pair].add(word)
            words[word] = changed[word] = merged
        for pair, difference in differences.items():
            if difference:
                pair_counts[pair] += difference
                if pair_counts[pair]:
                    heapq.heappush(heap, _Candidate(pair_counts[pair], pair))
                else:
                    del pair_counts[pair]
        yield MergeStep(best.pair, best.count, changed)


def _pairs(symbols: Sequence[str]) -> Iterable[Pair]:
    return itertools.pairwise(symbols)


def _merge(symbols: Symbols, pair: Pair) -> Symbols:
    """The symbols with every such pair made one, from the left."""
    merged, i = [], 0
    while i < len(symbols):
        here = symbols[i : i + 2] == pair
        merged.append(pair[0] + pair[1] if here else symbols[i])
        i += 2 if here else 1
    return tuple(merged)


# --- applying ------------------------------------------------------------------------------------


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
        (ranks[pair], place) for place, pair in enumerate(_pairs(symbols)) if pair in ranks
    ]:
        rank, i = min(applicable)
        left, right = symbols[i : i + 2]
        symbols = (*symbols[:i], left + right[len(prefix) :], *symbols[i + 2 :])
        if steps and steps[-1].rank == rank:
            steps.pop()  # the same merge, at a further place
        steps.append(WordStep((left, right), rank, symbols))
    word = "".join([*start[:1], *(symbol[len(prefix) :] for symbol in start[1:])])
    return WordTrace(word, start, tuple(steps))


# --- a tokenizer's own ---------------------------------------------------------------------------


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


# --- showing -------------------------------------------------------------------------------------


def _line(words: Iterable[Symbols], end: str = "") -> str:
    return " | ".join(" ".join(symbols) for symbols in words) + end


def _columns(lines: list[str], notes: list[str]) -> str:
    width = max(map(len, lines))
    return "\n".join(
        f"{line:<{width}}   {note}".rstrip() for line, note in zip(lines, notes, strict=True)
    )
