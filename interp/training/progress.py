"""A progress bar for a training run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor

# To read the loss waits for a GPU, so it is shown seldom.
_SECONDS_BETWEEN_UPDATES = 0.1


@contextmanager
def progress_bar(steps: int, start: int, shown: bool) -> Iterator[Callable[[int, Tensor], None]]:
    """Give a function to be called with each step and its loss, or its losses, of which the mean is
    shown; it does nothing unless `shown`."""
    if not shown:
        yield lambda step, loss: None
        return
    from rich import progress

    columns = (
        progress.MofNCompleteColumn(),
        progress.BarColumn(),
        progress.TextColumn("loss {task.fields[loss]}"),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns) as bar:
        task = bar.add_task("train", total=steps, completed=start, loss="")
        due = time.monotonic()

        def advance(step: int, loss: Tensor) -> None:
            nonlocal due
            if time.monotonic() >= due or step == steps:
                bar.update(task, completed=step, loss=f"{loss.mean().item():.4g}")
                due = time.monotonic() + _SECONDS_BETWEEN_UPDATES

        yield advance
