"""Which tokens become rows, beside loops that say the same token by token."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from interp.harvest.corpus import TokenBlock
from interp.harvest.selection import chosen_rows
from interp.harvest.settings import HarvestSettings


def _block(real: Tensor | None, shape: tuple[int, int], special: Tensor | None = None) -> Any:
    tokens = torch.zeros(shape, dtype=torch.long)
    document = torch.zeros(shape, dtype=torch.long)
    for mask in (None if real is None else ~real, special):
        if mask is not None:
            document[mask] = -1
    return TokenBlock(tokens, real, document, document)


def _by_token(real: Tensor, positions: Any) -> list[list[bool]]:
    found = []
    for row in real.tolist():
        places = [i for i, is_real in enumerate(row) if is_real]
        if positions == "all":
            kept = places
        elif positions == "last":
            kept = places[-1:]
        elif isinstance(positions, str):
            kept = eval(f"places[{positions}]")
        else:
            kept = [places[p] for p in positions if -len(places) <= p < len(places)]
        found.append([i in kept for i in range(len(row))])
    return found


masks = st.integers(1, 9).flatmap(
    lambda n: st.lists(st.lists(st.booleans(), min_size=n, max_size=n), min_size=1, max_size=6)
)
places = st.sampled_from(
    ["all", "last", "1:", ":-1", "-3:", "::2", "1:9:3", "7:2", f"-{10**30}:{10**30}"]
) | st.lists(st.integers(-9, 9), min_size=1, max_size=4, unique=True)


@given(real=masks, positions=places)
def test_positions_count_real_tokens(real: list[list[bool]], positions: Any) -> None:
    mask = torch.tensor(real)
    settings = HarvestSettings.make("x", positions=positions)
    found = chosen_rows(_block(mask, tuple(mask.shape)), 0, settings)
    assert found.tolist() == _by_token(mask, positions)


def test_without_padding_all_tokens_are_real() -> None:
    settings = HarvestSettings.make("x", positions=[0, -1])
    assert chosen_rows(_block(None, (2, 3)), 0, settings).tolist() == [[True, False, True]] * 2


def test_special_tokens_can_be_left_out() -> None:
    special = torch.tensor([[True, False, False], [True, False, True]])
    block = _block(None, (2, 3), special)
    assert chosen_rows(block, 0, HarvestSettings.make("x")).all()
    found = chosen_rows(block, 0, HarvestSettings.make("x", skip_special=True))
    assert torch.equal(found, ~special)


@pytest.mark.parametrize("sample", [0.3, 4])
def test_a_sample_depends_on_the_sequence_alone(sample: float | int) -> None:
    settings = HarvestSettings.make("x", sample=sample, seed=7)
    whole = chosen_rows(_block(None, (12, 20)), 100, settings)
    parts = [chosen_rows(_block(None, (3, 20)), 100 + start, settings) for start in (0, 3, 6, 9)]
    assert torch.equal(whole, torch.cat(parts))
    assert not torch.equal(whole[:-1], whole[1:])  # each sequence has its own
    other = HarvestSettings.make("x", sample=sample, seed=8)
    assert not torch.equal(whole, chosen_rows(_block(None, (12, 20)), 100, other))
    torch.manual_seed(3)  # nor on anybody else's randomness
    assert torch.equal(whole, chosen_rows(_block(None, (12, 20)), 100, settings))


def test_a_number_of_rows_is_drawn_without_replacement_and_evenly() -> None:
    real = torch.ones(4000, 6, dtype=torch.bool)
    real[0, 2:] = False
    found = chosen_rows(_block(real, (4000, 6)), 0, HarvestSettings.make("x", sample=3))
    assert found.sum(1).tolist() == [2] + [3] * 3999
    # Each place is kept in half of 4,000 sequences: 2,000 ± 5 standard deviations of 31.6.
    assert ((found.sum(0) - 2000).abs() < 160).all()


def test_a_fraction_keeps_each_row_by_itself() -> None:
    chosen = chosen_rows(_block(None, (500, 40)), 0, HarvestSettings.make("x", sample=0.25))
    # 5,000 of 20,000 expected, with a standard deviation of 61; and 50 more or less of them in
    # neighbouring pairs (1/16 of 19,500: 1,219 ± 40).
    assert abs(int(chosen.sum()) - 5000) < 310
    assert abs(int((chosen[:, 1:] & chosen[:, :-1]).sum()) - 1219) < 200
    assert chosen_rows(_block(None, (3, 4)), 0, HarvestSettings.make("x", sample=1.0)).all()


def test_a_sample_is_of_the_positions_wanted() -> None:
    settings = HarvestSettings.make("x", positions="10:", sample=2)
    found = chosen_rows(_block(None, (30, 20)), 0, settings)
    assert not found[:, :10].any() and (found.sum(1) == 2).all()
