import math

import pytest

from interp import InputError
from interp.training import TrainSettings, learning_rate


def test_warmup_is_a_line_up_to_the_highest_rate():
    settings = TrainSettings(steps=20, lr=0.5, warmup_steps=4, decay="constant")
    assert [learning_rate(s, settings) for s in range(6)] == [0.125, 0.25, 0.375, 0.5, 0.5, 0.5]


def test_cosine_goes_from_the_highest_rate_to_the_final_one():
    settings = TrainSettings(steps=110, lr=2.0, warmup_steps=10, final_lr_fraction=0.1)
    assert learning_rate(10, settings) == 2.0
    assert learning_rate(60, settings) == pytest.approx(1.1)  # half way between 2 and 0.2
    quarter = 0.2 + 1.8 * (1 + math.cos(math.pi / 4)) / 2
    assert learning_rate(35, settings) == pytest.approx(quarter)
    assert learning_rate(110, settings) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"steps": 0}, "steps must be a whole number of at least 1. Received 0"),
        ({"steps": 2.5}, "steps must be a whole number"),
        ({"seed": -1}, "seed must be a whole number of at least 0"),
        ({"log_every": 0}, "log_every must be"),
        ({"checkpoint_every": 0}, "checkpoint_every must be"),
        ({"warmup_steps": 10}, r"warmup_steps must be less than steps \(10\). Received 10"),
        ({"decay": "linear"}, "decay must be 'constant' or 'cosine'. Received 'linear'"),
        ({"lr": 0.0}, "lr must be positive"),
        ({"lr": math.nan}, "lr must be positive"),
        ({"final_lr_fraction": 1.5}, "final_lr_fraction must lie in"),
        ({"weight_decay": -0.1}, "weight_decay must not be negative"),
        ({"betas": (0.9, 1.0)}, "betas must be"),
        ({"max_grad_norm": 0.0}, "max_grad_norm must be positive, or None"),
    ],
)
def test_values_out_of_bounds_are_refused(change, rule):
    with pytest.raises(InputError, match=rule):
        TrainSettings(**{"steps": 10, **change})
