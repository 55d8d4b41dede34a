"""The progress of a training run: a bar, and reports to whoever listens."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from jaxtyping import Float
from torch import Tensor

from interp.progress import is_heard, report

# To read the loss waits for a GPU, so it is shown seldom.
_SECONDS_BETWEEN_UPDATES = 0.1


@contextmanager
def progress_bar(
    steps: int, start: int, shown: bool
) -> Iterator[Callable[[int, Float[Tensor, "*instance"]], None]]:
    """Give a function to be called with each step and its loss, or its losses, of which the mean is
    shown; it does nothing unless `shown`, or somebody listens (`interp.progress.listening`)."""
    heard = is_heard()
    if not shown and not heard:
        yield lambda step, loss: None
        return
    with ExitStack() as stack:
        draw = stack.enter_context(_bar(steps, start)) if shown else None
        due = time.monotonic()

        def advance(step: int, loss: Tensor) -> None:
            nonlocal due
            if time.monotonic() >= due or step == steps:
                told = f"{loss.mean().item():.4g}"
                if draw is not None:
                    draw(step, told)
                if heard:
                    report(step / max(steps, 1), f"step {step:,} of {steps:,}, loss {told}")
                due = time.monotonic() + _SECONDS_BETWEEN_UPDATES

        yield advance


@contextmanager
def _bar(steps: int, start: int) -> Iterator[Callable[[int, str], None]]:
    from rich import progress

    columns = (
        progress.MofNCompleteColumn(),
        progress.BarColumn(),
        progress.TextColumn("loss {task.fields[loss]}"),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns) as bar:
        task = bar.add_task("train", total=steps, completed=start, loss="")
        yield lambda step, loss: bar.update(task, completed=step, loss=loss)
