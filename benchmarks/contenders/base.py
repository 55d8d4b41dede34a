"""What a contender is: a job to time, and how its result is compared with the others'."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

if TYPE_CHECKING:
    from benchmarks.given import Given

Reading = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Job:
    """One contender's way to do a task.

    Attributes:
        run: What is timed. What it returns is kept until the clock has stopped.
        read: The numbers in what `run` returned, by name. Contenders must agree on names that they
            share; this is not timed.
        note: What a reader must know to judge the comparison.
        recorded: The tensors that a recording consists of, logits included.
        compiles: Whether the first call compiles, which is no part of the others' time.
    """

    run: Callable[[], Any]
    read: Callable[[Any], Reading]
    note: str = ""
    recorded: Callable[[Any], Iterable[Tensor]] | None = None
    compiles: bool = False


class Contenders:
    """A package's jobs. Subclasses have a method for each task, named like it.

    Models are built when a task first needs them.

    Args:
        given: Weights and inputs.
        compiled_tasks: For which tasks compiled programs take part too.
    """

    package: ClassVar[str]

    def __init__(self, given: Given, compiled_tasks: Collection[str] = ()) -> None:
        self.given, self.compiled_tasks = given, compiled_tasks

    @classmethod
    def is_installed(cls) -> bool:
        """Whether the package can be imported."""
        return find_spec(cls.package) is not None

    def jobs(self, task: str) -> dict[str, Job]:
        """Contender → job. Empty where the package has nothing for the task."""
        name, _, detail = task.partition(":")
        method = getattr(self, name, None)
        if method is None:
            return {}
        found: dict[str, Job] = method(detail) if detail else method()
        return found


_OF_BLOCK = {
    "resid_post": "hook_resid_post",
    "attn_out": "hook_attn_out",
    "mlp_out": "hook_mlp_out",
    "pattern": "attn.hook_pattern",
}


def read_blocks(get: Callable[[str], Tensor], n_layers: int) -> Reading:
    """Of a cache with TransformerLens's names: what other packages record too."""
    return {
        f"{short}.{layer}": get(f"blocks.{layer}.{name}")
        for layer in range(n_layers)
        for short, name in _OF_BLOCK.items()
    }


def read_logits(logits: Tensor) -> Reading:
    """Of a job that returns logits alone."""
    return {"logits": logits}


def read_values(values: Tensor) -> Reading:
    """Of a job that returns one tensor of results."""
    return {"values": values}
