"""Settings are checked before a training begins."""

from __future__ import annotations

from typing import Any

import pytest

from interp.errors import InputError
from interp.toys import ToySettings


def test_logged_steps_hold_the_first_and_the_last() -> None:
    assert ToySettings(steps=10, log_every=4).logged == [0, 4, 8, 9]
    assert ToySettings(steps=9, log_every=4).logged == [0, 4, 8]
    assert ToySettings(steps=1).logged == [0]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"steps": 0}, "steps must be a whole number"),
        ({"batch_size": 0}, "batch_size must be a whole number"),
        ({"lr": 0.0}, "lr must be a number and positive"),
        ({"lr": float("nan")}, "lr must be"),
        ({"warmup_steps": 10}, r"less than steps \(10\)"),
        ({"decay": "step"}, "decay must be one of"),
        ({"weight_decay": -1}, "weight_decay must be"),
        ({"betas": (0.9, 1.0)}, "betas must be"),
        ({"eps": 0.0}, "eps must be"),
        ({"log_every": 0}, "log_every must be"),
        ({"snapshots": (11,)}, r"at most steps \(10\). Received 11"),
        ({"snapshots": (3, 3)}, "snapshots must rise"),
        ({"snapshots": (4, 3)}, "snapshots must rise"),
    ],
)
def test_bad_settings_are_refused(bad: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ToySettings(**{"steps": 10, **bad})
