"""The finished shards of a dataset as memory maps, opened when they are first read.

What files say is checked before it is used: a file must have the name that its shard's number
gives, lie in the dataset's own directory, be as long as its receipt says, and hold the hooks,
shapes and dtypes of the manifest.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import accumulate
from pathlib import Path

import torch
from jaxtyping import Int
from safetensors import SafetensorError, safe_open
from torch import Tensor

from interp.errors import InputError, require
from interp.files import require_no_links_out
from interp.harvest.journal import read_journal
from interp.harvest.manifest import Manifest, read_manifest
from interp.harvest.shard_files import FileKind, Receipt, damage

MAPS = 16_384
"""How many shards are mapped at most. A map holds no file open, but systems limit maps, too (Linux
to 65,530 of a process)."""

_MOST_NAMED = 10


class OpenShards:
    """Finished shards, one after another in the order of their numbers.

    Attributes:
        directory: Of the dataset.
        manifest: What it is made of.
        receipts: Of each shard.
        starts: The first row of each shard, and how many rows there are.
        start_rows: The same as a tensor.

    Args:
        directory: Of the dataset.
        numbers: Which shards. None: all of the dataset.
        partial: Where `numbers` is None: take the finished ones if others are missing.

    Raises:
        InputError: for a directory without a manifest, damaged or foreign files, or shards that are
            missing.
    """

    def __init__(
        self, directory: Path, numbers: Sequence[int] | None = None, partial: bool = False
    ) -> None:
        self.directory = directory
        require(
            directory.is_dir(),
            f"a dataset must be a directory that a harvest wrote. Received {str(directory)!r}",
        )
        require_no_links_out(directory)
        self.manifest: Manifest = read_manifest(directory)
        found = read_journal(directory, self.manifest.n_shards)
        if numbers is None:
            numbers = tuple(found) if partial else range(self.manifest.n_shards)
        # A manifest can name more shards than memory holds numbers.
        missing = (number for number in numbers if number not in found)
        some = list(itertools.islice(missing, _MOST_NAMED + 1))
        if some:
            raise _incomplete(directory, some, len(found), self.manifest.n_shards)
        self.receipts: list[Receipt] = [found[number] for number in numbers]
        for receipt in self.receipts:
            self._check(receipt)
        self.starts: list[int] = [0, *accumulate(receipt.rows for receipt in self.receipts)]
        self.start_rows: Int[Tensor, "shards_and_end"] = torch.tensor(self.starts)
        self.tensors = lru_cache(MAPS)(self._map)  # each open dataset has a cache of its own

    @property
    def numbers(self) -> tuple[int, ...]:
        """The shards' numbers."""
        return tuple(receipt.shard for receipt in self.receipts)

    @property
    def is_complete(self) -> bool:
        """Whether these are all shards of the dataset."""
        return len(self.receipts) == self.manifest.n_shards

    def of_row(self, row: int) -> int:
        """Which of these shards a row is in."""
        return bisect_right(self.starts, row) - 1

    def path(self, at: int, kind: FileKind) -> Path:
        """One of a shard's files.

        Raises:
            InputError: if the shard has none of that kind.
        """
        receipt = self.receipts[at]
        if kind not in receipt.files:
            raise InputError(f"shard {receipt.shard} of {self.directory} has no file of {kind}.")
        return self.directory / receipt.files[kind].name

    def _check(self, receipt: Receipt) -> None:
        fault = damage(self.directory, receipt, checksums=False)
        if fault is not None:
            raise InputError(
                f"{self.directory} is damaged: {fault}. Run the harvest again with verify=True to "
                "make such shards anew."
            )
        # Before memory is taken for rows that the file cannot hold.
        plan, hooks = self.manifest.plan, self.manifest.hooks.values()
        size = receipt.rows * sum(math.prod(spec.shape) * spec.dtype.itemsize for spec in hooks)
        require(
            receipt.rows <= len(plan.sequences(receipt.shard)) * self.manifest.tokens["length"]
            and size <= receipt.files["data"].bytes,
            f"{self.directory} is damaged: shard {receipt.shard} cannot have {receipt.rows} rows",
        )

    def _map(self, at: int) -> Mapping[str, Tensor]:
        """The rows of a shard, by hook: tensors over a private map of the file.

        They must not be handed out: whoever wrote into them would change what is read here later
        (though never the file).
        """
        receipt = self.receipts[at]
        path = self.path(at, "data")
        try:
            size = path.lstat().st_size
            # Reading a map of a file that was cut off ends the process.
            require(
                size == receipt.files["data"].bytes,
                f"{path} must have {receipt.files['data'].bytes:,} bytes. It has {size:,}",
            )
            with safe_open(path, "pt") as file:
                names = set(file.keys())
                specs = self.manifest.hooks
                if names != set(specs):
                    raise _foreign(path, "the hooks", sorted(specs), sorted(names))
                found: dict[str, Tensor] = {name: file.get_tensor(name) for name in specs}
        except (SafetensorError, OSError, TypeError) as fault:
            raise InputError(f"{path} is damaged: {fault}") from fault
        for name, spec in specs.items():
            x, shape = found[name], (receipt.rows, *spec.shape)
            if (x.shape, x.dtype) != (shape, spec.dtype):
                wanted = f"{spec.dtype} {list(shape)}"
                raise _foreign(path, name, wanted, f"{x.dtype} {list(x.shape)}")
        return found


def _foreign(path: Path, what: str, wanted: object, found: object) -> InputError:
    return InputError(f"{path} must hold {what} as the manifest says, {wanted}. It holds {found}.")


def _incomplete(directory: Path, missing: list[int], n_found: int, n_shards: int) -> InputError:
    some = ", ".join(map(str, missing[:_MOST_NAMED])) + (", …" * (len(missing) > _MOST_NAMED))
    return InputError(
        f"a dataset must be complete. {directory} has {n_found:,} of {n_shards:,} shards; missing "
        f"are {some}. Run the same harvest again, which makes these alone, or read the finished "
        "ones with partial=True."
    )
