"""The order in which a dataset's rows are read: as they lie, permuted, or shuffled in windows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from interp.errors import require, require_whole

PIECE = 256
"""How many rows that lie one after another a window takes together."""


@dataclass(frozen=True, kw_only=True)
class RowOrder:
    """Batches of row numbers, every row once.

    The order is a function of these fields alone, so it is the same in every process and however
    many workers read. As a `sampler` of torch's `DataLoader` (with `batch_size=None`) it has
    workers read the batches of `ActivationDataset.batches`.

    Shuffled without a `window`, every order of all rows is equally likely, and a batch reads rows
    from everywhere. With one, disks read longer runs: the rows are cut into pieces of `PIECE` rows
    that lie one after another; the pieces are permuted; as many as fill a window are taken at a
    time, and the rows of a window are permuted. So rows of one piece are always in one window, and
    rows of two pieces in one by chance; within a window every order is equally likely.

    Attributes:
        n_rows: How many rows there are.
        batch_size: Rows of a batch.
        shuffle: Whether rows are shuffled; False: as they lie.
        seed: Of the order.
        epoch: Every epoch has an order of its own.
        window: How many rows are mixed at once, rounded down to whole pieces. None: all.
        drop_last: Whether a last batch that is not full is left out.

    Raises:
        InputError: for numbers that are no whole numbers or too small, or a window, seed or epoch
            where nothing is shuffled.
    """

    n_rows: int
    batch_size: int
    shuffle: bool = True
    seed: int = 0
    epoch: int = 0
    window: int | None = None
    drop_last: bool = False

    def __post_init__(self) -> None:
        require_whole("n_rows", self.n_rows, 0)
        require_whole("batch_size", self.batch_size, 1)
        require_whole("seed", self.seed, 0)
        require_whole("epoch", self.epoch, 0)
        if self.window is not None:
            require_whole("window", self.window, PIECE)
        require(
            self.shuffle or (self.window is None and self.seed == self.epoch == 0),
            "seed, epoch and window belong to a shuffled order. Received "
            f"seed={self.seed}, epoch={self.epoch}, window={self.window} with shuffle=False",
        )

    def __len__(self) -> int:
        """How many batches there are."""
        full, rest = divmod(self.n_rows, self.batch_size)
        return full if self.drop_last or not rest else full + 1

    def __iter__(self) -> Iterator[Int[Tensor, "batch"]]:
        """The row numbers of each batch."""
        return self.batches()

    def batches(self, first: int = 0) -> Iterator[Int[Tensor, "batch"]]:
        """The row numbers of each batch, from batch `first` on: what an interrupted reader needs.

        Raises:
            InputError: for a `first` that is no whole number from 0 on.
        """
        require_whole("first", first, 0)
        if self.window is not None:
            for rows, places in self.windows(first):
                yield from rows[places].split(self.batch_size)
            return
        order = self._permutation(0, self.n_rows) if self.shuffle else None
        for batch in range(first, len(self)):
            start = batch * self.batch_size
            stop = min(start + self.batch_size, self.n_rows)
            yield torch.arange(start, stop) if order is None else order[start:stop]

    def windows(self, first: int = 0) -> Iterator[tuple[Int[Tensor, "row"], Int[Tensor, "row"]]]:
        """The same batches, those of a window at once, so that it can be read in long runs.

        Args:
            first: The batch to begin with.

        Yields:
            The rows of all these batches, ascending, and their places in that in the order of the
            batches: one batch after another.

        Raises:
            InputError: for an order without a window, or a `first` that is no whole number.
        """
        require_whole("first", first, 0)
        require(self.window is not None, "this order has no window: its batches read everywhere")
        assert self.window is not None
        skipped = first * self.batch_size
        taken = given = 0
        carried = torch.empty(0, dtype=torch.long)  # what was too little for a batch
        for number, rows in enumerate(self._pieces(self.window // PIECE)):
            pending = torch.cat([carried, rows[self._permutation(1 + number, len(rows))]])
            taken += len(rows)
            is_last = taken == self.n_rows and not self.drop_last
            n = len(pending) if is_last else len(pending) - len(pending) % self.batch_size
            wanted, carried = pending[:n][max(skipped - given, 0) :], pending[n:]
            given += n
            if wanted.numel():
                ascending, order = wanted.sort()
                yield ascending, order.argsort()

    def _pieces(self, at_once: int) -> Iterator[Int[Tensor, "row"]]:
        """The rows of each window, piece after piece."""
        pieces = self._permutation(0, -(-self.n_rows // PIECE))
        for some in pieces.split(at_once):
            rows = (some[:, None] * PIECE + torch.arange(PIECE)).flatten()
            yield rows[rows < self.n_rows]

    def _permutation(self, what: int, n: int) -> Int[Tensor, "n"]:
        """A permutation for each thing of an epoch that wants one of its own."""
        key = (self.seed, self.epoch, what)
        return torch.from_numpy(np.random.default_rng(key).permutation(n))
