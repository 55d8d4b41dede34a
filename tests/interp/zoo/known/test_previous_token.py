import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp import InputError
from interp.zoo import known


@torch.no_grad()
@settings(max_examples=25, deadline=None)
@given(
    sharpness=st.floats(0.1, 45), strength=st.floats(0.1, 50), length=st.integers(3, 12),
    spare=st.integers(1, 5), seed=st.integers(0, 99),
)  # fmt: skip
def test_every_position_copies_the_one_before(sharpness, strength, length, spare, seed):
    truth = known.previous_token(
        sharpness, strength, length, length + spare, length + 1, 2, seed, device="cpu"
    )
    logits = truth.model(truth.clean)
    for pos in range(1, length):
        weight = math.exp(sharpness) / (math.exp(sharpness) + pos)
        for row, tokens in enumerate(truth.clean.tolist()):
            found = float(logits[row, pos, tokens[pos - 1]])
            assert found == pytest.approx(strength * weight, rel=1e-10)
            assert float(logits[row, pos].sum()) == pytest.approx(strength, rel=1e-10)
    assert float(truth.clean_value[0]) == pytest.approx(
        strength * math.exp(sharpness) / (math.exp(sharpness) + length - 1), rel=1e-12
    )


@pytest.mark.parametrize(
    ("given_", "rule"),
    [
        ({"sharpness": 0.0}, "sharpness must be a number and positive"),
        ({"strength": -1.0}, "strength"),
        ({"length": 2}, "length must be a whole number of at least 3"),
        ({"d_vocab": 8}, "d_vocab must be a whole number of at least 9"),
        ({"n_ctx": 7}, "n_ctx must be a whole number of at least 8"),
        ({"n_prompts": 0}, "n_prompts"),
        ({"dtype": "int8"}, "dtype"),
    ],
)
def test_what_breaks_a_rule_is_refused(given_, rule):
    with pytest.raises(InputError, match=rule):
        known.previous_token(**given_)
