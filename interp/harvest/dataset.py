"""A harvested dataset: activations by row, read from memory-mapped files."""

from __future__ import annotations

import difflib
import fnmatch
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxtyping import Shaped
from torch import Tensor
from torch.utils.data import Dataset

from interp.display.dataset import dataset_html, dataset_text
from interp.errors import InputError, require, unknown
from interp.harvest.gather import gather, gather_one
from interp.harvest.indexing import RowsInput, one_row, row_numbers
from interp.harvest.made_on import promises_same_bits
from interp.harvest.manifest import HookSpec, Manifest
from interp.harvest.open_shards import OpenShards
from interp.harvest.shuffle import RowOrder
from interp.harvest.statistics import HookStatistics, read_statistics

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from interp.harvest.corpus import TokenStore
    from interp.harvest.rows import RowIndex


class ActivationDataset(Dataset[Any]):
    """Activations that a harvest wrote: a row for every token kept, with one tensor a hook.

    `data[3]` is a row, `data[3:9]`, `data[[5, 1, 5]]` and `data[mask]` are several, in one tensor:
    of a dataset of one hook a tensor, of several a dict from hook name to tensor. Rows are those of
    shard 0, then of shard 1, and so on. What is handed out are copies.

    It is a data set of torch, for `DataLoader`, `Subset` and `random_split`, and `data.only(hook)`
    a source of `interp.sae.train_sae`. Pickled it is its path: another process maps the files anew.
    Nothing is read before it is asked for, and no file is held open.

    ```python
    data = ActivationDataset("activations").only("blocks.2.hook_resid_post")
    for batch in data.batches(1024, seed=0, epoch=3, window=131_072):
        ...  # [1024, d_model]
    DataLoader(data, sampler=data.order(1024), batch_size=None, num_workers=4)  # likewise
    ```

    Attributes:
        hooks: The names of the hooks that are read, in the order of the module tree.

    Args:
        directory: Where the harvest wrote it.
        hooks: Names or globs of the hooks to read. None: all.
        partial: Read the finished shards of a dataset that has others missing. Row numbers are
            then those of the finished ones and change when it is opened with more.
        verify: Compare every file with its checksum first.

    Raises:
        InputError: for a directory without a dataset, hooks that it does not have, missing shards
            (unless `partial`), or damaged files, naming the file.
    """

    hooks: tuple[str, ...]

    def __init__(
        self,
        directory: str | os.PathLike[str],
        hooks: str | Iterable[str] | None = None,
        *,
        partial: bool = False,
        verify: bool = False,
    ) -> None:
        self._open(Path(os.path.abspath(directory)), None, partial)
        if hooks is not None:
            self.hooks = _matching(hooks, self.hooks)
        if verify:
            damaged = self.verify()
            require(
                not damaged,
                f"{self.directory} is damaged: the shards {damaged} are not as they were written. "
                "Run the harvest again with verify=True to make them anew",
            )

    def _open(self, directory: Path, numbers: Sequence[int] | None, partial: bool) -> None:
        self._shards = OpenShards(directory, numbers, partial)
        self.hooks = tuple(self._shards.manifest.hooks)

    def __getstate__(self) -> dict[str, Any]:
        return {
            "directory": str(self.directory),
            "hooks": self.hooks,
            "shards": None if self.is_complete else self._shards.numbers,
        }

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self._open(Path(state["directory"]), state["shards"], partial=False)
        self.hooks = state["hooks"]

    @property
    def directory(self) -> Path:
        """Where it lies."""
        return self._shards.directory

    @property
    def manifest(self) -> Manifest:
        """What it is made of: settings, model, tokens."""
        return self._shards.manifest

    @property
    def is_complete(self) -> bool:
        """Whether no shard is missing."""
        return self._shards.is_complete

    @property
    def shards(self) -> OpenShards:
        """Its files."""
        return self._shards

    @property
    def specs(self) -> dict[str, HookSpec]:
        """The shape of one row and the dtype of each hook."""
        return {hook: self.manifest.hooks[hook] for hook in self.hooks}

    def only(self, hooks: str | Iterable[str]) -> ActivationDataset:
        """The same rows of some of its hooks; the maps are shared.

        Args:
            hooks: Names or globs.

        Raises:
            InputError: for a name or glob that fits none of its hooks.
        """
        view: ActivationDataset = object.__new__(type(self))  # the same maps
        view._shards = self._shards
        view.hooks = _matching(hooks, self.hooks)
        return view

    def __len__(self) -> int:
        """How many rows there are."""
        return self._shards.starts[-1]

    def __repr__(self) -> str:
        return dataset_text(self)

    def _repr_html_(self) -> str:
        return dataset_html(self)

    def __getitem__(self, index: int | RowsInput) -> Any:
        """One row, or several in one tensor; of several hooks a dict of them.

        Raises:
            RowOutOfRange: (an IndexError) for a row that there is not.
            InputError: for anything that does not say rows.
        """
        row = one_row(index, len(self))
        return self._given(
            self.read(index)  # type: ignore[arg-type]
            if row is None
            else gather_one(self._shards, self.hooks, row)
        )

    def __getitems__(self, rows: list[int]) -> list[Any]:
        """Several rows, each by itself: what torch's `DataLoader` collates."""
        found = self.read(rows)
        if len(self.hooks) == 1:
            return list(found[self.hooks[0]].unbind())
        each = zip(*(x.unbind() for x in found.values()), strict=True)
        return [dict(zip(self.hooks, row, strict=True)) for row in each]

    def read(self, rows: RowsInput) -> dict[str, Shaped[Tensor, "row ..."]]:
        """Several rows, in the order asked for: hook name → tensor.

        Raises:
            RowOutOfRange: for a row that there is not.
            InputError: for anything that does not say rows.
        """
        return gather(self._shards, self.hooks, row_numbers(rows, len(self)))

    def stacked(self, rows: RowsInput) -> Shaped[Tensor, "row ..."]:
        """`read`, of a dataset of one hook: what SAEs are trained on.

        Raises:
            InputError: as `read`, and for several hooks.
        """
        require(
            len(self.hooks) == 1,
            "a single tensor must be of one hook, which `only(hook)` picks. Received "
            f"{', '.join(self.hooks):.200}",
        )
        return self.read(rows)[self.hooks[0]]

    def order(
        self,
        batch_size: int,
        *,
        shuffle: bool = True,
        seed: int = 0,
        epoch: int = 0,
        window: int | None = None,
        drop_last: bool = False,
    ) -> RowOrder:
        """The row numbers of the batches that `batches` reads; see `RowOrder`."""
        return RowOrder(
            n_rows=len(self), batch_size=batch_size, shuffle=shuffle, seed=seed, epoch=epoch,
            window=window, drop_last=drop_last,
        )  # fmt: skip

    def batches(
        self,
        batch_size: int,
        *,
        shuffle: bool = True,
        seed: int = 0,
        epoch: int = 0,
        window: int | None = None,
        drop_last: bool = False,
        first: int = 0,
    ) -> Iterator[Any]:
        """Batches of rows, every row once, in an order that is the same for a seed and epoch.

        Args:
            batch_size, shuffle, seed, epoch, window, drop_last: As for `RowOrder`. Without a
                window rows are read one by one, from everywhere: fast where the files are in memory
                or on a disk made for that. With one, it is read in long runs and held in memory.
            first: The batch to begin with.

        Raises:
            InputError: as `RowOrder`.
        """
        order = self.order(
            batch_size, shuffle=shuffle, seed=seed, epoch=epoch, window=window, drop_last=drop_last
        )
        return map(self._given, self._ordered(order, first))

    def _given(self, found: dict[str, Tensor]) -> Any:
        return found if len(self.hooks) > 1 else found[self.hooks[0]]

    def _ordered(self, order: RowOrder, first: int) -> Iterator[dict[str, Tensor]]:
        if order.window is None:
            yield from map(self.read, order.batches(first))
            return
        for rows, places in order.windows(first):
            held = self.read(rows)
            for some in places.split(order.batch_size):
                yield {hook: x.index_select(0, some) for hook, x in held.items()}

    @cached_property
    def rows(self) -> RowIndex:
        """Where each row comes from: document, sequence, position, token; and back."""
        from interp.harvest.rows import RowIndex

        return RowIndex(self._shards)

    @property
    def tokens(self) -> TokenStore:
        """The corpus, as the model read it."""
        return self.rows.tokens

    @property
    def documents(self) -> pd.DataFrame:
        """A row for each document of the corpus: its file, its place there, its `n_tokens`."""
        return self.tokens.documents

    def statistics(self, hook: str | None = None) -> HookStatistics:
        """What was summed up of a hook's rows while they were harvested.

        Parts are merged in the order of shards, so the result does not depend on who made them.

        Args:
            hook: Its name. None: of a dataset of one hook, that.

        Raises:
            InputError: for another hook, a harvest that was asked for no statistics, or damaged
                files.
        """
        if hook is None:
            require(
                len(self.hooks) == 1,
                f"hook must name one of {', '.join(self.hooks)}. Received None",
            )
            hook = self.hooks[0]
        if hook not in self.hooks:
            raise unknown("hook", hook, self.hooks)
        names = self.manifest.settings.statistics
        require(bool(names), f"{self.directory} was harvested without statistics. Ask for some")
        shape, n_shards = self.specs[hook].shape, len(self._shards.receipts)
        require(n_shards > 0, f"statistics need rows. No shard of {self.directory} is finished")
        parts = (
            read_statistics(self._shards.path(at, "statistics"), hook, names, shape, receipt.rows)
            for at, receipt in enumerate(self._shards.receipts)
        )
        return next(parts).merge(parts)

    def arrow_batches(self, batch_rows: int = 8192) -> Iterator[pa.RecordBatch]:
        """All rows in order as Arrow record batches: see `interp.harvest.arrow.arrow_batches`."""
        from interp.harvest.arrow import arrow_batches

        return arrow_batches(self, batch_rows)

    def to_arrow(self) -> pa.Table:
        """All rows as an Arrow table: see `interp.harvest.arrow.to_arrow`."""
        from interp.harvest.arrow import to_arrow

        return to_arrow(self)

    @property
    def makers(self) -> list[dict[str, Any]]:
        """The kinds of machine and software that made its shards, each once: see `made_on`."""
        kinds: list[dict[str, Any]] = []
        for receipt in self._shards.receipts:
            if receipt.made_on not in kinds:
                kinds.append(dict(receipt.made_on))
        return kinds

    @property
    def promises_same_bits(self) -> bool:
        """Whether the harvest made again on such a machine must give the same bits."""
        return promises_same_bits(self.makers)

    def verify(self) -> list[int]:
        """The numbers of shards with a file that is not as it was written, by its checksum.

        Raises:
            InputError: if the tokens are there, but not as they were written.
        """
        from interp.harvest.rows import TOKENS
        from interp.harvest.verify import damaged_shards, require_whole_tokens

        if (self.directory / TOKENS).exists():
            require_whole_tokens(self.tokens)
        return damaged_shards(self._shards)


def _matching(wanted: str | Iterable[str], hooks: Sequence[str]) -> tuple[str, ...]:
    """The hooks that names and globs mean, in the order of the dataset."""
    patterns = [wanted] if isinstance(wanted, str) else list(wanted)
    found: set[str] = set()
    for pattern in patterns:
        fits = [pattern] if pattern in hooks else fnmatch.filter(hooks, str(pattern))
        if not fits:
            close = difflib.get_close_matches(str(pattern), hooks, n=3)
            hint = f" Did you mean {', '.join(close)}?" if close else ""
            raise InputError(f"no hook of this dataset is called {pattern!r}.{hint}")
        found.update(fits)
    require(bool(found), "hooks must name at least one. Received none")
    return tuple(hook for hook in hooks if hook in found)
