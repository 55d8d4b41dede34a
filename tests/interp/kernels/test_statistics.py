from __future__ import annotations

import pytest
import torch

from interp.errors import InputError
from interp.kernels import STATISTICS, PatternStatistics


def test_a_field_that_was_not_asked_for() -> None:
    found = PatternStatistics(lse=torch.ones(1, 2, 3), top_share=torch.ones(1, 2, 3))
    assert tuple(found) == ("lse", "top_share")
    assert found.entropy is None
    with pytest.raises(InputError, match=r"entropy was not asked for.*lse, top_share"):
        found["entropy"]
    with pytest.raises(InputError, match="did you mean 'entropy'"):
        found["entropi"]


def test_stack_puts_layers_first() -> None:
    layers = [PatternStatistics(lse=torch.full((1, 2, 3), float(i))) for i in range(4)]
    stacked = PatternStatistics.stack(layers)
    assert tuple(stacked) == ("lse",)
    assert stacked["lse"].shape == (4, 1, 2, 3)
    assert stacked["lse"][:, 0, 0, 0].tolist() == [0.0, 1.0, 2.0, 3.0]


def test_names_are_the_fields() -> None:
    assert STATISTICS[0] == "lse" and len(STATISTICS) == 10
