"""How the merges of a byte-pair encoding are learned, step by step, without a library."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from interp.errors import require, require_whole
from interp.tokenization.symbols import Pair, Symbols, columns, line_of, pairs_of

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
            for pair in pairs_of(symbols):
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
        lines, notes = [line_of(shown.values(), end)], [""]
        for step in self.steps:
            shown.update({word: step.changed[word] for word in shown if word in step.changed})
            lines.append(line_of(shown.values(), end))
            notes.append(f"({' '.join(step.pair)}: {step.count})")
        return columns(lines, notes)


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
        for pair in pairs_of(symbols):
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
            for pair in pairs_of(words[word]):
                differences[pair] -= counts[word]
            for pair in pairs_of(merged):
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


def _merge(symbols: Symbols, pair: Pair) -> Symbols:
    """The symbols with every such pair made one, from the left."""
    merged, i = [], 0
    while i < len(symbols):
        here = symbols[i : i + 2] == pair
        merged.append(pair[0] + pair[1] if here else symbols[i])
        i += 2 if here else 1
    return tuple(merged)
