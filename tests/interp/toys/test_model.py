"""Toy models: the paper's formulas written out, masks, and instances that share nothing."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.errors import InputError
from interp.toys import ToyModel

KINDS = ["relu", "linear"]


def restated(models: ToyModel, i: int, x: torch.Tensor, hidden: str, output: str) -> torch.Tensor:
    """One instance's output, a feature at a time."""
    width = int(models.d_hidden[i])
    W = models.W[i, :width]
    h = torch.stack([sum(x[:, j] * W[k, j] for j in range(x.shape[1])) for k in range(width)], 1)
    h = h.clamp(min=0) if hidden == "relu" else h
    back = W.T if models.W_out is None else models.W_out[i, :, :width]
    out = h @ back.T + models.b[i]
    return out.clamp(min=0) if output == "relu" else out


@settings(max_examples=25)
@given(
    n_features=st.integers(1, 5),
    widths=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    tied=st.booleans(),
    bias=st.booleans(),
    data=st.data(),
)
def test_outputs_are_those_of_the_formulas(
    n_features: int, widths: list[int], tied: bool, bias: bool, data: st.DataObject
) -> None:
    count = len(widths)
    each = st.lists(st.sampled_from(KINDS), min_size=count, max_size=count)
    hidden = data.draw(each)
    output = data.draw(st.one_of(st.just(["relu"] * count), each))
    models = ToyModel(
        count,
        n_features,
        widths,
        hidden=hidden,
        output=output,
        tied=tied,
        bias=bias,
        dtype=torch.float64,
    )
    with torch.no_grad():
        models.b += torch.randn_like(models.b)
    x = torch.randn(count, 3, n_features, dtype=torch.float64)
    found = models(x).detach()
    for i in range(count):
        expected = restated(models, i, x[i], hidden[i], output[i]).detach()
        assert float((found[i] - expected).abs().max()) < 1e-12
        alone = models.select(torch.tensor([i]))
        assert float((alone(x[i : i + 1])[0] - expected).abs().max()) < 1e-12


@settings(max_examples=25)
@given(widths=st.lists(st.integers(1, 4), min_size=1, max_size=3), tied=st.booleans())
def test_gradients_are_of_their_own_instance_and_none_reaches_a_masked_row(
    widths: list[int], tied: bool
) -> None:
    models = ToyModel(len(widths), 3, widths, tied=tied, hidden="relu", dtype=torch.float64)
    x = torch.randn(len(widths), 8, 3, dtype=torch.float64)
    (models(x) - x)[0].square().sum().backward()
    for value in models.parameters():
        assert value.grad is not None
        assert not bool(value.grad[1:].any())
    assert models.W.grad is not None
    assert not bool(models.W.grad[0, widths[0] :].any())
    assert not bool(models.W[0, widths[0] :].any())
    if models.W_out is not None:
        assert models.W_out.grad is not None
        assert not bool(models.W_out.grad[0, :, widths[0] :].any())


def test_the_gradient_of_a_mixed_stack_is_that_of_plain_ones() -> None:
    kinds = ["relu", "linear", "relu", "linear"]
    mixed = ToyModel(4, 6, 3, hidden=kinds[::-1], output=kinds, dtype=torch.float64)
    x = torch.randn(4, 20, 6, dtype=torch.float64)
    (mixed(x) ** 3).sum().backward()
    for i, kind in enumerate(kinds):
        plain = ToyModel(1, 6, 3, hidden=kinds[::-1][i], output=kind, seeds=i, dtype=torch.float64)
        (plain(x[i : i + 1]) ** 3).sum().backward()
        assert mixed.W.grad is not None and plain.W.grad is not None
        assert float((mixed.W.grad[i] - plain.W.grad[0]).abs().max()) < 1e-12


def test_a_linear_layer_has_a_gradient_at_zero_in_a_mixed_stack_too() -> None:
    mixed = ToyModel(2, 3, 2, output=["linear", "relu"])
    mixed(torch.zeros(2, 1, 3)).sum().backward()  # every output is exactly 0
    assert mixed.b.grad is not None
    assert mixed.b.grad.tolist() == [[1, 1, 1], [0, 0, 0]]


def test_not_a_number_is_not_hidden_by_an_activation() -> None:
    for kinds in (["relu"] * 2, ["linear"] * 2, ["relu", "linear"]):
        models = ToyModel(2, 3, 2, hidden=kinds, output=kinds)
        x = torch.full((2, 1, 3), torch.nan)
        assert bool(models(x).isnan().all())


def test_weights_are_xavier_normal_and_of_their_seed() -> None:
    models = ToyModel(3, 200, [20, 20, 5], seeds=[4, 5, 4], dtype=torch.float64)
    for i, width in enumerate([20, 20, 5]):
        weights = models.W.detach()[i, :width]
        std = math.sqrt(2 / (200 + width))
        n = weights.numel()
        assert abs(float(weights.mean())) < 4 * std / math.sqrt(n)
        assert abs(float(weights.std()) / std - 1) < 4 / math.sqrt(2 * n)
    # A row has its own numbers, whatever the width.
    scaled = models.W[0, :5] / math.sqrt(2 / 220) * math.sqrt(2 / 205)
    assert float((models.W[2, :5] - scaled).abs().max()) < 1e-15
    assert not torch.equal(models.W[0], models.W[1])
    assert torch.equal(ToyModel(3, 200, 20, seeds=4, dtype=torch.float64).W[1], models.W[1])
    twice = ToyModel(1, 200, 20, seeds=4, init_scale=2.0, dtype=torch.float64)
    assert float((twice.W[0] - 2 * models.W[0]).abs().max()) < 1e-15
    untied = ToyModel(1, 30, 30, tied=False)
    assert untied.W_out is not None
    assert not torch.equal(untied.W, untied.W_out)


def test_a_bias_that_is_not_there_is_not_trained() -> None:
    names = {name for name, _ in ToyModel(2, 3, 2, bias=False).named_parameters()}
    assert names == {"W"}
    assert set(dict(ToyModel(2, 3, 2, tied=False).named_parameters())) == {"W", "W_out", "b"}


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ({"d_hidden": [2]}, "d_hidden must be one number or 3"),
        ({"d_hidden": 0}, "d_hidden must be a whole number"),
        ({"hidden": "gelu"}, "hidden must be one of"),
        ({"output": ["relu", "linear"]}, "output must be one activation or 3"),
        ({"seeds": [1, 2]}, "seeds must be"),
        ({"init_scale": float("nan")}, "init_scale must be a number"),
        ({"dtype": torch.bfloat16}, "dtype must be one of"),
    ],
)
def test_bad_settings_are_refused(made: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ToyModel(3, 4, **{"d_hidden": 2, **made})
