"""How far a long piece of work has come, told to whoever listens.

Loops that may take minutes call `report`; who waits for them wraps the call in `listening`. Nothing
is passed down in between, and where nobody listens a report costs one look-up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from interp.errors import require

Listener = Callable[[float, str], object]
"""Called with the part that is done, 0 to 1, and a line for a reader.

An error that it raises ends the work: so who waits can stop it.
"""

_listener: ContextVar[Listener | None] = ContextVar("who hears of progress", default=None)


def is_heard() -> bool:
    """Whether anybody listens: ask before making a line that costs something."""
    return _listener.get() is not None


def report(done: float, line: str = "") -> None:
    """Tell whoever listens.

    Args:
        done: The part that is done, 0 to 1.
        line: What is being done, in a few words.
    """
    listener = _listener.get()
    if listener is not None:
        listener(done, line)


@contextmanager
def listening(listener: Listener | None) -> Iterator[None]:
    """Hear the reports of what is called inside; None: nobody hears them."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


@contextmanager
def stage(number: int, count: int, line: str) -> Iterator[None]:
    """One of several equal parts: reports from inside fill its share of the whole.

    Args:
        number: Of this part, from 0.
        count: How many parts there are.
        line: What this part does; put in front of the lines from inside.

    Raises:
        InputError: If there is no such part.
    """
    require(0 <= number < count, f"number must lie in 0 … {count - 1}. Received {number}")
    outer = _listener.get()
    if outer is None:
        yield
        return

    def share(done: float, inner: str) -> None:
        outer((number + done) / count, f"{line}: {inner}" if inner else line)

    share(0.0, "")
    with listening(share):
        yield
