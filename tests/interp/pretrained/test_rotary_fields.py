"""Rotary positions from every way in which they have been written down."""

from __future__ import annotations

from typing import Any

import pytest

from interp import InputError
from interp.pretrained.rotary_fields import rotary_dim, rotary_fields
from interp.rotary_scaling import RotaryScaling

LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}


def _fields(**config: Any) -> tuple[float, RotaryScaling | None]:
    fields = rotary_fields({"max_position_embeddings": 64, **config})
    return fields["rotary_base"], fields["rotary_scaling"]


@pytest.mark.parametrize(
    ("config", "base"),
    [
        ({}, 10_000.0),
        ({"rope_theta": 500}, 500.0),
        ({"rope_theta": 500, "rope_scaling": None}, 500.0),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 7.0}}, 7.0),
        ({"rope_theta": 500, "rope_scaling": {"rope_type": "default"}}, 500.0),
    ],
)
def test_base(config: dict[str, Any], base: float) -> None:
    assert _fields(**config) == (base, None)


@pytest.mark.parametrize("key", ["rope_type", "type"])
@pytest.mark.parametrize("field", ["rope_parameters", "rope_scaling"])
def test_both_spellings(field: str, key: str) -> None:
    linear = RotaryScaling(kind="linear", factor=2.0, original_n_ctx=64)
    assert _fields(rope_theta=5.0, **{field: {key: "linear", "factor": 2.0}}) == (5.0, linear)


@pytest.mark.parametrize(
    ("given", "more", "expected"),
    [
        ({"type": "dynamic", "factor": 2.0, "original_max_position_embeddings": 9}, {}, (2.0, 64)),
        ({"type": "llama3", "factor": 8.0, **LLAMA3}, {}, (8.0, 64)),
        (
            {"type": "llama3", "factor": 8.0, "original_max_position_embeddings": 16, **LLAMA3},
            {},
            (8.0, 16),
        ),
        ({"type": "yarn", "original_max_position_embeddings": 16}, {}, (4.0, 16)),
        ({"type": "yarn", "factor": None}, {"original_max_position_embeddings": 8}, (8.0, 8)),
    ],
)
def test_original_length(
    given: dict[str, Any], more: dict[str, Any], expected: tuple[float, int]
) -> None:
    scaling = _fields(rope_scaling=given, **more)[1]
    assert scaling is not None
    assert (scaling.factor, scaling.original_n_ctx) == expected


def test_yarns_numbers() -> None:
    scaling = _fields(rope_scaling={"type": "yarn", "factor": 4.0, "beta_fast": None})[1]
    assert scaling is not None
    assert (scaling.beta_fast, scaling.beta_slow, scaling.truncate) == (32.0, 1.0, True)
    assert scaling.multiplier == pytest.approx(1.138629, abs=1e-6)
    given = {"type": "yarn", "factor": 4.0, "mscale": 1.0, "mscale_all_dim": 1.0}
    scaling = _fields(rope_scaling=given)[1]
    assert scaling is not None
    assert scaling.multiplier == 1.0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"type": "linear"}, "must give factor"),
        ({"type": "dynamic", "factor": None}, "must give factor"),
        ({"type": "llama3", "factor": 8.0, "low_freq_factor": 1.0}, "must give high_freq_factor"),
        ({"type": "longrope", "factor": 8.0}, "'longrope', which is not supported"),
        ({"rope_type": "proportional"}, "'proportional', which is not supported"),
        ({"type": "linear", "factor": -2.0}, "factor must be a number and positive"),
    ],
)
def test_refusals(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        _fields(rope_scaling=given)


def test_part_that_turns() -> None:
    assert rotary_dim({}, 8) == 8
    assert rotary_dim({}, 8, 0.25) == 2
    assert rotary_dim({"partial_rotary_factor": 0.5}, 8, 0.25) == 4
    assert rotary_dim({"rope_parameters": {"partial_rotary_factor": 0.5}}, 8) == 4
