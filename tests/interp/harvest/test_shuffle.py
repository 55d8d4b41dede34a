"""Orders of rows: every row once, the same for a seed and epoch, resumed anywhere."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp import InputError
from interp.harvest.shuffle import PIECE, RowOrder

ORDERS = st.builds(
    RowOrder,
    n_rows=st.integers(0, 3000),
    batch_size=st.integers(1, 900),
    seed=st.integers(0, 3),
    epoch=st.integers(0, 3),
    window=st.sampled_from([None, PIECE, 2 * PIECE + 1, 5 * PIECE, 10**9]),
    drop_last=st.booleans(),
)


@settings(max_examples=80, deadline=None)
@given(order=ORDERS, first=st.integers(0, 20))
def test_every_row_once_and_resumed_anywhere(order: RowOrder, first: int) -> None:
    batches = list(order)
    assert len(batches) == len(order)
    full, rest = divmod(order.n_rows, order.batch_size)
    sizes = [order.batch_size] * full + ([rest] if rest and not order.drop_last else [])
    assert [len(batch) for batch in batches] == sizes
    rows = torch.cat([torch.empty(0, dtype=torch.long), *batches])
    assert len(rows.unique()) == len(rows)
    assert not len(rows) or (int(rows.min()) >= 0 and int(rows.max()) < order.n_rows)
    assert all(map(torch.equal, pickle.loads(pickle.dumps(order)), batches))  # another process
    resumed = list(order.batches(first))
    assert len(resumed) == max(len(order) - first, 0)
    assert all(map(torch.equal, resumed, batches[first:]))


@settings(max_examples=40, deadline=None)
@given(order=ORDERS.filter(lambda order: order.window is not None and order.n_rows > 0))
def test_windows_are_whole_pieces(order: RowOrder) -> None:
    """What a window reads lies together: a piece is in one window, but for what a batch carries."""
    n_windows = math.ceil(math.ceil(order.n_rows / PIECE) / (order.window // PIECE))
    windows = list(order.windows())
    assert len(windows) <= n_windows
    for rows, places in windows:
        assert bool((rows[1:] > rows[:-1]).all())
        assert sorted(places.tolist()) == list(range(len(rows)))
        n_pieces = len((rows // PIECE).unique())
        carried = math.ceil(order.batch_size / PIECE) * PIECE
        assert n_pieces <= order.window // PIECE + carried


def test_unshuffled_rows_come_as_they_lie() -> None:
    order = RowOrder(n_rows=10, batch_size=4, shuffle=False)
    assert [batch.tolist() for batch in order] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_epochs_and_seeds_differ() -> None:
    for window in (None, 2 * PIECE):
        found = {
            tuple(torch.cat(list(RowOrder(
                n_rows=2000, batch_size=64, seed=seed, epoch=epoch, window=window
            ))).tolist())
            for seed in range(3) for epoch in range(3)
        }  # fmt: skip
        assert len(found) == 9


@pytest.mark.parametrize("window", [None, 4 * PIECE])
def test_rows_are_mixed(window: int | None) -> None:
    """Where a row comes is uniform, and neighbours part: χ² and correlation over many epochs."""
    n, epochs = 16 * PIECE, 200
    places = np.empty((epochs, n), dtype=np.int64)
    for epoch in range(epochs):
        order = RowOrder(n_rows=n, batch_size=n, epoch=epoch, window=window)
        places[epoch, next(iter(order)).numpy()] = np.arange(n)
    # The first row's place falls into each of 8 eighths about equally often: χ² with 7 degrees of
    # freedom exceeds 29.9 with probability 1e-4.
    for row in (0, PIECE - 1, n - 1):
        counts = np.bincount(places[:, row] // (n // 8), minlength=8)
        assert ((counts - epochs / 8) ** 2 / (epochs / 8)).sum() < 29.9
    # Rows of different windows: in a window at most window rows lie between two rows of a piece.
    distance = np.abs(places[:, 0] - places[:, 1])
    assert distance.max() < (n if window is None else window)
    assert distance.mean() > (n if window is None else window) / 5  # a third of it is expected


def test_windows_need_one() -> None:
    with pytest.raises(InputError, match="has no window"):
        next(RowOrder(n_rows=3, batch_size=1).windows())


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"n_rows": -1}, "n_rows must be a whole number of at least 0. Received -1"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1"),
        ({"seed": 1.5}, "seed must be a whole number"),
        ({"epoch": -1}, "epoch must be"),
        ({"window": PIECE - 1}, f"window must be a whole number of at least {PIECE}"),
        ({"shuffle": False, "window": PIECE}, "belong to a shuffled order"),
        ({"shuffle": False, "seed": 1}, "belong to a shuffled order"),
        ({"shuffle": False, "epoch": 1}, "belong to a shuffled order"),
    ],
)
def test_refusals(fields: dict[str, object], rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        RowOrder(**{"n_rows": 10, "batch_size": 2, **fields})
    with pytest.raises(InputError, match="first must be"):
        list(RowOrder(n_rows=3, batch_size=1).batches(-1))
