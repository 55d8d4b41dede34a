"""Which item is done next, and which have cost workers their life."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable

from interp.engines.base import EngineError

MOST_DEATHS = 3  # of workers, before an item is held to be the cause


class HandingOut:
    """The items that are still to be done.

    A worker may have several items in hand when it dies. Each of them may be the cause, so each is
    handed out again alone, to a worker that has nothing else in hand: then there is no doubt.

    Args:
        items: In the order in which they are handed out.
    """

    def __init__(self, items: Iterable[int]) -> None:
        self._fresh = deque(items)
        self._suspects: deque[int] = deque()
        self._deaths: Counter[int] = Counter()
        self._in_hand = 0

    @property
    def finished(self) -> bool:
        """Whether nothing is left, and nothing in hand."""
        return not (self._fresh or self._suspects or self._in_hand)

    def next(self, has: Iterable[int]) -> int | None:
        """An item for a worker that has these in hand; None: none for now."""
        held = list(has)
        if any(self._deaths[item] for item in held):
            return None  # it is tried alone
        if self._suspects and not held:
            item = self._suspects.popleft()
        elif self._fresh:
            item = self._fresh.popleft()
        else:
            return None
        self._in_hand += 1
        return item

    def done(self, item: int) -> None:
        """Note that an item is done."""
        self._in_hand -= 1

    def died(self, held: Iterable[int], why: str) -> None:
        """Note that a worker died with these items in hand.

        Raises:
            EngineError: If one of them has cost as many workers as are granted to it.
        """
        for item in held:
            self._in_hand -= 1
            self._deaths[item] += 1
            self._suspects.append(item)
            if self._deaths[item] >= MOST_DEATHS:
                raise EngineError(
                    f"{MOST_DEATHS} workers died while they had item {item} in hand; the last one "
                    f"said: {why}"
                )
