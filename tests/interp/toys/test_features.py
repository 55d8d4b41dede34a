"""Features: densities, correlations and values by their moments; the same data however stacked."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.errors import InputError
from interp.toys import SparseFeatures

MANY = 40_000


def drawn(density: Any, **more: Any) -> torch.Tensor:
    data = SparseFeatures.of(1, 4, density, dtype=torch.float64, **more)
    return data.batch(0, MANY).x[0]


def near(found: torch.Tensor, expected: torch.Tensor | float, spread: float) -> None:
    """Within 4.5 standard errors; the draws never change, so this holds or it does not."""
    assert float((found - expected).abs().max()) < 4.5 * spread / math.sqrt(MANY)


def test_a_feature_is_present_as_often_as_its_density() -> None:
    density = torch.tensor([1.0, 0.5, 0.01, 0.0])
    x = drawn(density)
    near((x > 0).double().mean(0), density.double(), 0.5)
    assert bool((x[:, 0] > 0).all()) and not bool(x[:, 3].any())
    present = x[:, 1][x[:, 1] > 0]
    near(present.mean(), 0.5, math.sqrt(2 / 12))
    near(present.var(), 1 / 12, math.sqrt(2 / 180))
    assert float(x.max()) <= 1


def test_presence_and_value_of_independent_features_are_independent() -> None:
    x = drawn(0.3)
    joint = torch.corrcoef(torch.cat([(x > 0).double(), x], 1).T)
    off = joint[:4, :4] - torch.eye(4)
    near(off, 0.0, 1.0)
    near(joint[4:, 4:] - torch.eye(4), 0.0, 1.0)


@pytest.mark.parametrize("correlation", [1.0, 0.4, 0.0])
def test_correlation_is_that_of_presence_within_a_group_and_nothing_else(
    correlation: float,
) -> None:
    x = drawn(0.2, correlation=correlation, group_size=2)
    present = (x > 0).double()
    near(present.mean(0), 0.2, 0.4)
    found = torch.corrcoef(present.T)
    expected = torch.eye(4)
    expected[0, 1] = expected[1, 0] = expected[2, 3] = expected[3, 2] = correlation
    near(found - expected, 0.0, 1.3)
    if correlation == 1:
        assert torch.equal(present[:, 0], present[:, 1])
    both = (x[:, 0] > 0) & (x[:, 1] > 0)
    values = torch.corrcoef(x[both][:, :2].T)[0, 1]
    assert abs(float(values)) < 4 / math.sqrt(int(both.sum()))
    assert abs(float(x[both].mean(0)[0]) - 0.5) < 4 * 0.29 / math.sqrt(int(both.sum()))


def test_features_that_exclude_one_another() -> None:
    x = drawn(torch.tensor([0.5, 0.25, 0.4, 0.6]), correlation=-1.0, group_size=2)
    present = x > 0
    near(present.double().mean(0), torch.tensor([0.5, 0.25, 0.4, 0.6]), 0.5)
    assert not bool((present[:, 0] & present[:, 1]).any())
    assert bool((present[:, 2] ^ present[:, 3]).all())  # their densities sum to 1
    # Halfway: together P(both) = (1 - c) p q.
    half = drawn(0.4, correlation=-0.5, group_size=2) > 0
    near((half[:, 0] & half[:, 1]).double().mean(), 0.5 * 0.16, 0.3)


def test_values_signs_lengths_and_targets() -> None:
    assert set(drawn(0.3, values="binary").unique().tolist()) == {0.0, 1.0}
    signed = drawn(0.5, values="signed")
    near((signed != 0).double().mean(), 0.5, 0.5)
    near(signed.mean(), 0.0, math.sqrt(1 / 6))
    assert float(signed.min()) < -0.999
    unit = drawn(0.3, unit_norm=True)
    lengths = unit.norm(dim=1)
    absent = (drawn(0.3) == 0).all(1)
    assert torch.equal(lengths == 0, absent)
    assert float((lengths[~absent] - 1).abs().max()) < 1e-12
    data = SparseFeatures.of(1, 4, 0.5, values="signed", target="absolute")
    batch = data.batch(0, 10)
    assert torch.equal(batch.target, batch.x.abs())


@settings(max_examples=25)
@given(
    n_instances=st.integers(1, 4),
    groups=st.integers(1, 3),
    group_size=st.integers(1, 3),
    batch_size=st.integers(1, 5),
    step=st.integers(0, 10_000),
    seed=st.integers(0, 1000),
    values=st.sampled_from(["uniform", "signed", "binary"]),
    unit_norm=st.booleans(),
)
def test_an_instance_is_the_same_alone_and_in_each_dtype(
    n_instances: int,
    groups: int,
    group_size: int,
    batch_size: int,
    step: int,
    seed: int,
    values: Any,
    unit_norm: bool,
) -> None:
    n_features = groups * group_size
    torch.manual_seed(seed)
    made: dict[str, Any] = {
        "density": torch.rand(n_instances, n_features) / group_size,
        "correlation": torch.linspace(-1, 1, n_instances) if group_size > 1 else 0.0,
        "group_size": group_size,
        "values": values,
        "unit_norm": unit_norm,
        "seeds": seed,
    }
    data = SparseFeatures.of(n_instances, n_features, dtype=torch.float64, **made)
    whole = data.batch(step, batch_size)
    assert whole.x.shape == (n_instances, batch_size, n_features)
    assert whole.weight is None
    for i in range(n_instances):
        part = data.select(torch.tensor([i])).batch(torch.tensor(step), batch_size)
        assert torch.equal(part.x[0], whole.x[i])
    coarse = SparseFeatures.of(n_instances, n_features, **made).batch(step, batch_size).x
    assert coarse.dtype == torch.float32
    assert torch.equal(coarse != 0, whole.x != 0) or values == "signed"
    assert float((coarse - whole.x).abs().max()) < 1e-6


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"density": 1.2}, "density must lie"),
        ({"density": float("nan")}, "density must be finite"),
        ({"density": torch.ones(3)}, "density must broadcast to"),
        ({"correlation": 2.0, "group_size": 2}, "correlation must lie"),
        ({"correlation": 0.5}, "group_size of at least 2"),
        ({"group_size": 3}, "multiple of group_size"),
        ({"correlation": -1.0, "group_size": 2, "density": 0.6}, "sum to at most 1"),
        ({"values": "gaussian"}, "values must be one of"),
        ({"target": "sign"}, "target must be one of"),
        ({"dtype": torch.float16}, "dtype must be one of"),
        ({"dtype": torch.int64}, "dtype must be one of"),
    ],
)
def test_bad_settings_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SparseFeatures.of(2, 4, **given)


def test_an_endless_batch_is_refused() -> None:
    with pytest.raises(InputError, match="give a batch_size"):
        SparseFeatures.of(1, 2).batch(0, None)
