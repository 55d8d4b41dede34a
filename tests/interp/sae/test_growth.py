"""Growing dictionaries: when they stop, and what a larger one begins with."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from interp import InputError
from interp.sae import (
    SAEScores,
    SAESettings,
    copy_units_,
    grow,
    make_sae,
    train_sae,
    until_explained,
    until_plateau,
    until_spare,
)


def source(step: int, generator: torch.Generator) -> Tensor:
    return torch.randn(12, 5, generator=generator, dtype=torch.float64)


SETTINGS = SAESettings(steps=8, lr=0.02, centre="mean")


def scores(fve: float = 0.0, dead: int = 0, duplicates: int = 0) -> SAEScores:
    return SAEScores(10, 1.0, fve, 2.0, dead, duplicates, 10 - dead, torch.zeros(10))


def test_criteria() -> None:
    assert until_explained(0.9)([scores(0.2), scores(0.9)])
    assert not until_explained(0.9)([scores(0.95), scores(0.89)])
    plateau = until_plateau(0.1)
    assert not plateau([scores(0.99)])
    assert not plateau([scores(0.5), scores(0.6)])  # a fifth of what was left
    assert plateau([scores(0.5), scores(0.54)])
    assert plateau([scores(0.5), scores(0.4)])
    assert plateau([scores(0.2), scores(0.5), scores(0.52)])
    assert until_spare(0.2)([scores(dead=1, duplicates=1)])
    assert not until_spare(0.2)([scores(dead=5), scores(duplicates=1)])
    for make in (until_explained, until_plateau, until_spare):
        with pytest.raises(InputError, match="must be a number and positive"):
            make(0.0)
        with pytest.raises(InputError, match=r"must be at most 1\. Received 1\.5"):
            make(1.5)


def test_it_stops_where_it_is_enough(make_config: Any, inputs: Any) -> None:
    sizes, seen = [3, 5, 8, 9], []

    def until(given: Any) -> bool:
        seen.append(tuple(each.fve for each in given))
        return len(given) == 3

    found = grow(make_config("relu"), sizes, source, inputs(50), SETTINGS, until, start="anew")
    assert [each.d_sae for each in found] == [3, 5, 8]
    assert [each.is_enough for each in found] == [False, False, True]
    assert seen[2] == tuple(each.scores.fve for each in found) and len(seen[0]) == 1
    for each in found:  # each as if it were alone
        cfg = dataclasses.replace(make_config("relu"), d_sae=each.d_sae)
        alone, _ = train_sae(cfg, source, SETTINGS)
        assert torch.equal(each.sae.W_dec, alone.W_dec)
        assert len(each.scores.fires) == each.d_sae
    never = grow(make_config("relu"), sizes[:2], source, inputs(50), SETTINGS, lambda given: False)
    assert [each.is_enough for each in never] == [False, False]


@pytest.mark.parametrize("kind", ["relu", "gated", "topk"])
def test_from_the_last_one(kind: str, make_config: Any, inputs: Any, assert_close: Any) -> None:
    sizes = [4, 7]
    small, large = grow(make_config(kind), sizes, source, inputs(50), SETTINGS, lambda given: False)
    cfg = dataclasses.replace(make_config(kind), d_sae=7)
    by_hand = make_sae(cfg)
    with torch.no_grad():
        for name, axis in by_hand.UNIT_AXES.items():
            old, new = small.sae.get_parameter(name), by_hand.get_parameter(name)
            new.copy_(torch.cat([old, new.narrow(axis, 4, 3)], axis))
        by_hand.b_dec.copy_(small.sae.b_dec)
    train_sae(by_hand, source, dataclasses.replace(SETTINGS, centre="given"))
    for name, weight in large.sae.state_dict().items():
        assert torch.equal(weight, by_hand.state_dict()[name]), name


def test_auxk_is_that_of_every_size(make_config: Any, inputs: Any) -> None:
    config = make_config("topk", d_in=16, d_sae=4, aux_k=None)
    x = inputs(50, 16)
    found = grow(config, [4, 30], x, x, SETTINGS, lambda given: False, batch_size=8)
    assert [each.sae.cfg.aux_k for each in found] == [8, 8]


def test_bad_input(make_config: Any, random_sae: Any, inputs: Any) -> None:
    def start(sizes: list[Any], **options: Any) -> None:
        grow(make_config("relu"), sizes, source, inputs(), SETTINGS, until_spare(0.5), **options)

    for sizes in ([], [4, 4], [8, 4]):
        with pytest.raises(InputError, match="sizes must be ascending"):
            start(sizes)
    with pytest.raises(InputError, match="a size must be a whole number"):
        start([2.5])
    with pytest.raises(InputError, match="start must be one of"):
        start([4], start="first")
    with pytest.raises(InputError, match="same kind and d_in with as many units or more"):
        copy_units_(random_sae("relu", d_sae=9), random_sae("relu", d_sae=8))
    with pytest.raises(InputError, match="Received relu, 5, 9 and gated, 5, 9"):
        copy_units_(random_sae("relu"), random_sae("gated"))
