"""The statistics of a shard's hooks as one safetensors file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from jaxtyping import Shaped
from safetensors import SafetensorError, safe_open
from torch import Tensor

from interp.errors import InputError, require
from interp.harvest.statistics.hook import HookStatistics


def statistics_tensors(by_hook: Mapping[str, HookStatistics]) -> dict[str, Shaped[Tensor, "..."]]:
    """What the statistics file of a shard holds: `<hook>/<statistic>.<field>`.

    Args:
        by_hook: Hook name → `HookStatistics.measure(rows, names)` of all rows of the shard.
    """
    return {
        f"{hook}/{name}": tensor
        for hook, found in by_hook.items()
        for name, tensor in found.to_tensors().items()
    }


def read_statistics(
    path: Path, hook: str, names: Sequence[str], row_shape: tuple[int, ...], n_rows: int
) -> HookStatistics:
    """The statistics of one hook of a shard.

    Args:
        path: A safetensors file of `statistics_tensors`; it is not trusted.
        hook: Its name.
        names: The statistics that it must have.
        row_shape: The axes of a row.
        n_rows: How many rows the shard has.

    Raises:
        InputError: if the file is missing or damaged, or holds something else.
    """
    require(path.is_file(), f"{path} must be a file with statistics. There is none")
    try:
        with safe_open(path, framework="pt") as file:
            of_hook = [name for name in file.keys() if name.startswith(f"{hook}/")]  # noqa: SIM118
            tensors = {name.removeprefix(f"{hook}/"): file.get_tensor(name) for name in of_hook}
            found = HookStatistics.from_tensors(tensors, names, row_shape)
        require(found.n_rows == n_rows, f"n_rows must be {n_rows}. Received {found.n_rows}")
        return found
    except SafetensorError as fault:
        raise InputError(f"{path} is damaged: {fault}") from fault
    except InputError as fault:
        raise InputError(f"{path} is damaged: {hook}: {fault}") from fault
