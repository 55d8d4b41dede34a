"""Settings that conditions are named by."""

from __future__ import annotations

import pytest

from analyses.superposition.absolute import AbsoluteParams
from analyses.superposition.fractions import fractions


def test_they_come_from_the_least() -> None:
    assert fractions("densities", [1.0, 0.001, 0.3]) == [0.001, 0.3, 1.0]


@pytest.mark.parametrize(
    "values", [[0.0], [-0.1, 1.0], [1.1], [float("nan")], [0.5, 0.5], [0.1, 0.10000001]]
)
def test_others_are_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="ratios must be different numbers above 0"):
        fractions("ratios", values)


def test_from_the_densest_a_setting_is_refused_by_its_own_name() -> None:
    assert AbsoluteParams(few_densities=[0.1, 0.3]).few_densities == [0.3, 0.1]
    with pytest.raises(ValueError, match="few_densities must be different numbers above 0"):
        AbsoluteParams(few_densities=[0.5, 0.5])
