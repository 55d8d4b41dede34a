"""Logits that are computed where they are read are the same numbers, and only those."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from interp.patching.lazy_logits import LazyLogits

WHOLE = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(0))
Read = Callable[[Any], Any]


def lazily(asked: list[tuple[int, ...]]) -> LazyLogits:
    def at(positions: tuple[int, ...]) -> Tensor:
        asked.append(positions)
        return WHOLE[:, list(positions)].clone()

    return LazyLogits.make(at, WHOLE.shape, WHOLE)


PARTS: list[tuple[Read, tuple[int, ...]]] = [
    (lambda x: x[:, -1], (4,)),
    (lambda x: x[:, -1, :], (4,)),
    (lambda x: x[..., 2, :], (2,)),
    (lambda x: x[:, 1:3, 2], (1, 2)),
    (lambda x: x[:, ::2], (0, 2, 4)),
    (lambda x: x[0, 2], (2,)),
    (lambda x: x[[0, 1, 2], [4, 1, 4]], (1, 4)),
    (lambda x: x[torch.arange(3), torch.tensor([4, -1, 0]), torch.tensor([1, 2, 3])], (0, 4)),
    (lambda x: x[range(3), -1, [1, 2, 3]], (4,)),
    (lambda x: x[:, x.shape[1] - 2].softmax(-1), (3,)),
    (lambda x: x[1:, [3]], (3,)),
]
WHOLES: list[Read] = [
    lambda x: x.log_softmax(-1)[:, 1],
    lambda x: F.cross_entropy(x.flatten(0, 1), torch.zeros(15).long()),
    lambda x: rearrange(x, "batch pos vocab -> pos batch vocab"),
    lambda x: x[x > 0],
    lambda x: x[None],
    lambda x: x[:, None],
    lambda x: x[1],
    lambda x: x[True],
    lambda x: x[torch.tensor([True, False, True])],
    lambda x: x.mT,
    lambda x: torch.stack([x, x]),
    lambda x: (x + 1)[:, 0],
    lambda x: torch.gather(x, 2, torch.zeros(3, 5, 1).long()),
    lambda x: torch.from_numpy(x.numpy()),
    lambda x: torch.tensor(x.tolist()),
    lambda x: x.to(torch.float64),
    lambda x: x[..., 0],
]


@pytest.mark.parametrize("number", range(len(PARTS)))
def test_an_index_of_positions_computes_these(number: int) -> None:
    read, positions = PARTS[number]
    asked: list[tuple[int, ...]] = []
    found = read(lazily(asked))
    assert type(found) is Tensor and torch.equal(found, read(WHOLE))
    assert asked == [positions]


@pytest.mark.parametrize("number", range(len(WHOLES)))
def test_everything_else_has_the_whole_tensor(number: int) -> None:
    asked: list[tuple[int, ...]] = []
    found = WHOLES[number](lazily(asked))
    assert type(found) is Tensor and torch.equal(found, WHOLES[number](WHOLE))
    assert all(positions == (0, 1, 2, 3, 4) for positions in asked) and len(asked) == 1


def test_what_it_is_costs_nothing() -> None:
    asked: list[tuple[int, ...]] = []
    x = lazily(asked)
    assert (x.shape, x.ndim, x.dtype, x.device) == (WHOLE.shape, 3, WHOLE.dtype, WHOLE.device)
    assert (x.size(1), len(x), x.dim(), x.numel()) == (5, 3, 3, 105)
    assert isinstance(x, Tensor) and asked == []


def test_what_is_written_is_read() -> None:
    x = lazily([])
    x[:, -1] = 0.0
    assert not x[:, -1].any() and torch.equal(x[:, 0], WHOLE[:, 0])


@pytest.mark.parametrize(
    "read", [lambda x: x[:, 5], lambda x: x[:, [0, 7]], lambda x: x[:, ::-1], lambda x: x[0, 1, 9]]
)
def test_a_wrong_index_is_refused_as_ever(read: Read) -> None:
    with pytest.raises((IndexError, ValueError)) as plain:
        read(WHOLE)
    with pytest.raises(plain.type):
        read(lazily([]))


def writes_and_reads(x: Tensor) -> Tensor:
    last = x[:, -1]
    last -= last.mean(-1, keepdim=True)
    x[:, 1:3].mul_(2.0)
    return torch.stack([x[:, -1, 0], x[:, 2, 0], x.sum((1, 2)), x[:, 1, 3]])


@pytest.mark.parametrize(
    "read",
    [
        writes_and_reads,
        lambda x: x[torch.tensor([1, 0, 1], dtype=torch.uint8), 1],
        lambda x: x[:, torch.tensor([1, 0, 1, 0, 0], dtype=torch.uint8)],
        lambda x: x[np.eye(3, 5) > 0, 2],
    ],
)
@pytest.mark.filterwarnings("ignore:indexing with dtype torch.uint8")
def test_as_a_tensor(read: Read) -> None:
    assert torch.equal(read(lazily([])), read(WHOLE.clone()))
