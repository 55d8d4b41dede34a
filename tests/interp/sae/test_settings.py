"""When what happens in a training."""

from __future__ import annotations

from typing import Any

import pytest

from interp import InputError
from interp.sae import SAESettings
from interp.sae.settings import l1_scale


def test_the_coefficient_rises_in_a_line() -> None:
    settings = SAESettings(steps=10, l1_warmup_steps=4)
    assert [l1_scale(step, settings) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    assert l1_scale(0, SAESettings(steps=10)) == 1


def test_the_intervals_of_bricken_et_al() -> None:
    paper = SAESettings(steps=200_000)
    wanted = {25_000, 50_000, 75_000, 100_000}
    assert paper.resampled_at("relu") == paper.resampled_at("gated") == wanted
    assert paper.resampled_at("topk") == set()
    assert paper.samples_until_dead(8192) == 12_500 * 8192
    assert SAESettings(steps=5).resampled_at("relu") == {1, 2}
    assert SAESettings(steps=5).samples_until_dead(8) == 8
    chosen = SAESettings(steps=50, resample_steps=(9, 3), dead_after=77)
    assert chosen.resampled_at("topk") == {3, 9} and chosen.samples_until_dead(8) == 77
    assert SAESettings(steps=50, resample_steps=()).resampled_at("relu") == set()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"steps": 0}, "steps"),
        ({"l1_warmup_steps": -1}, "l1_warmup_steps must be a whole number"),
        ({"l1_warmup_steps": 11}, r"l1_warmup_steps must be at most steps \(10\). Received 11"),
        ({"centre": "median"}, "centre must be one of"),
        ({"dead_after": 0}, "dead_after must be a whole number of at least 1"),
        ({"resample_batches": 0}, "resample_batches"),
        ({"resample_steps": (0,)}, "a step of resample_steps"),
        ({"resample_steps": (10,)}, r"must be less than steps \(10\). Received 10"),
    ],
)
def test_bad_settings_are_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        SAESettings(**{"steps": 10, **fields})
