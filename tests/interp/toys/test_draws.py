"""Draws: published vectors, independence of stacking, and the moments of what is drawn."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.errors import InputError
from interp.toys.draws import Stream, as_seeds, normal, philox, uniform, words

ALL = 0xFFFFFFFF

# The vectors of philox4x32 with 10 rounds in Random123's known-answer file.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ALL,) * 4, (ALL,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_published_vectors(counter: tuple, key: tuple, expected: tuple) -> None:
    found = philox(tuple(map(torch.tensor, counter)), tuple(map(torch.tensor, key)))
    assert tuple(map(int, found)) == expected


@settings(max_examples=25)
@given(
    seeds=st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=5),
    step=st.integers(0, 2**32 - 1),
    shape=st.lists(st.integers(1, 7), min_size=1, max_size=3),
)
def test_an_instance_draws_the_same_alone(seeds: list[int], step: int, shape: list[int]) -> None:
    together = words(torch.tensor(seeds), step, Stream.FEATURES, shape)
    alone = [
        words(torch.tensor([seed]), torch.tensor(step), Stream.FEATURES, shape) for seed in seeds
    ]
    assert together.shape == (len(seeds), *shape)
    assert torch.equal(together, torch.cat(alone))
    assert int(together.min()) >= 0 and int(together.max()) <= ALL


def test_seeds_steps_and_streams_share_no_numbers() -> None:
    seeds = torch.tensor([0, 1, 1 << 32])  # the last differs in its high word alone
    drawn = [words(seeds, step, stream, (64,)) for step in (0, 1) for stream in Stream]
    rows = torch.stack(drawn).flatten(0, 1)
    assert len(torch.unique(rows, dim=0)) == len(rows)
    # 1,920 draws of 2³² numbers: 0.0004 expected to meet.
    assert len(torch.unique(rows)) >= rows.numel() - 1


def test_uniform_is_in_the_half_open_interval_and_flat() -> None:
    found = uniform(torch.arange(4), 3, Stream.FEATURES, (50_000,), torch.float64)
    assert float(found.min()) > 0 and float(found.max()) <= 1
    n = found.numel()
    counts = torch.histc(found, 20, 0, 1)
    chi_squared = float(((counts - n / 20) ** 2 / (n / 20)).sum())
    assert chi_squared < 43.8  # 19 degrees of freedom, p = 0.001; the draws never change
    pairs = found[:, :-1] - 0.5, found[:, 1:] - 0.5
    assert abs(float((pairs[0] * pairs[1]).mean())) < 4 / 12 / math.sqrt(n)


def test_normal_has_the_moments_of_a_normal() -> None:
    found = normal(torch.arange(2), 0, Stream.WEIGHTS, (100_000,), torch.float64).flatten()
    n = found.numel()
    for power, moment in ((1, 0), (2, 1), (3, 0), (4, 3), (6, 15)):
        spread = math.sqrt((math.prod(range(1, 2 * power, 2)) - moment**2) / n)
        assert abs(float((found**power).mean()) - moment) < 4 * spread


def test_dtypes_draw_the_same_numbers() -> None:
    for draw in (uniform, normal):
        fine = draw(torch.arange(3), 5, Stream.WEIGHTS, (9,), torch.float64)
        coarse = draw(torch.arange(3), 5, Stream.WEIGHTS, (9,), torch.float32)
        assert torch.equal(fine.float(), coarse)


def test_seeds_are_made_and_checked() -> None:
    cpu = torch.device("cpu")
    assert as_seeds(7, 3, cpu).tolist() == [7, 8, 9]
    assert as_seeds([4, 4, 0], 3, cpu).tolist() == [4, 4, 0]
    for bad in (-1, [1, 2], [0, 1, -2], [0.5, 1.0, 2.0], 1 << 63):
        with pytest.raises(InputError, match="seed"):
            as_seeds(bad, 3, cpu)
