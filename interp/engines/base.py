"""What does pieces of work, and what has them done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from interp.errors import InterpError, require, require_whole

Made = TypeVar("Made")
Done_co = TypeVar("Done_co", covariant=True)


class EngineError(InterpError):
    """Work could not go on for a reason outside of it: no room, no progress, workers that die."""


class Worker(Protocol[Made, Done_co]):
    """Does one piece of work after another, in two steps that may overlap.

    `make` of an item may run in one thread while `finish` of an earlier one runs in another; two
    `make`s never run at once, nor two `finish`es. An item may be done again, by this worker or
    another, after one that was at it has died.
    """

    def make(self, item: int) -> Made:
        """Compute."""
        ...

    def finish(self, made: Made) -> Done_co:
        """Write down what was made; gives what the caller is told of it, which is small."""
        ...


OpenWorker = Callable[[], Worker[Any, Any]]
"""Opens a worker, such as loading its model, in the process where it works.

For `RayEngine` it must be one that pickle takes: an instance, with plain fields, of a class that
stands at the top of a module.
"""

Tell = Callable[[int, Any], object]
"""Called as `done(item, result)` in the caller's thread, once for an item, in any order."""


class Engine(Protocol):
    """Has pieces of work done."""

    def run(self, open_worker: OpenWorker, items: Sequence[int], done: Tell) -> None:
        """Have every item done, and tell of each.

        An error ends the work. It is raised after all that was finished has been told.

        Args:
            open_worker: Opens a worker. Nothing is opened where there are no items.
            items: The numbers of the pieces of work, each once.
            done: Called for each item with what its worker's `finish` gave.

        Raises:
            InputError: If an item is no whole number of at least 0, or occurs twice.
            EngineError: If the work cannot go on for a reason outside of it.
            Exception: The first that a worker or `done` raised.
        """
        ...


def checked_items(items: Sequence[int]) -> list[int]:
    """The items as a list.

    Raises:
        InputError: If one is no whole number of at least 0, or occurs twice.
    """
    found = list(items)
    for item in found:
        require_whole("an item", item, 0)
    require(len(set(found)) == len(found), f"each item must occur once. Received {found}")
    return found
