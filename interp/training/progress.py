"""A progress bar for a training run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor

# To read the loss waits for a GPU, so it is shown seldom.
_STEPS_BETWEEN_UPDATES = 10


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

        def advance(step: int, loss: Tensor) -> None:
            if step % _STEPS_BETWEEN_UPDATES == 0 or step == steps:
                bar.update(task, completed=step, loss=f"{loss.mean().item():.4g}")

        yield advance
