from __future__ import annotations

import math
from collections.abc import Callable
from typing import get_args

import pytest
import torch

from interp.components.activations import ACTIVATIONS
from interp.config import ActivationFunction

X = torch.linspace(-6, 6, 97, dtype=torch.float64)


def _tanh(x: float, root: float) -> float:
    return x / 2 * (1 + math.tanh(root * (x + 0.044715 * x**3)))


BY_HAND: dict[str, Callable[[float], float]] = {
    "relu": lambda x: max(x, 0.0),
    "gelu": lambda x: x / 2 * (1 + math.erf(x / math.sqrt(2))),
    "gelu_new": lambda x: _tanh(x, math.sqrt(2 / math.pi)),
    "gelu_pytorch_tanh": lambda x: _tanh(x, math.sqrt(2 / math.pi)),
    "gelu_fast": lambda x: _tanh(x, 0.7978845608),
    "gelu_bloom": lambda x: _tanh(x, 0.79788456),
    "silu": lambda x: x / (1 + math.exp(-x)),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_by_hand(name: ActivationFunction) -> None:
    expected = torch.tensor([BY_HAND[name](x) for x in X.tolist()], dtype=torch.float64)
    assert (ACTIVATIONS[name](X) - expected).abs().max() < 1e-14


@pytest.mark.parametrize("name", ["solu", "solu_ln"])
def test_solu_is_over_the_neurons(name: ActivationFunction) -> None:
    x = torch.stack([X, X * 2]).unsqueeze(0)
    weights = [[math.exp(v) for v in row] for row in x[0].tolist()]
    expected = torch.tensor(
        [[v * w / sum(ws) for v, w in zip(row, ws, strict=True)]
         for row, ws in zip(x[0].tolist(), weights, strict=True)],
        dtype=torch.float64,
    )  # fmt: skip
    assert (ACTIVATIONS[name](x)[0] - expected).abs().max() < 1e-13


def test_every_name_has_one() -> None:
    assert set(ACTIVATIONS) == set(get_args(ActivationFunction))


def test_hugging_faces_names_mean_the_same() -> None:
    activations = pytest.importorskip("transformers.activations", reason="needs the extra 'hf'")
    from transformers.models.bloom.modeling_bloom import bloom_gelu_forward

    theirs = {**activations.ACT2FN, "gelu_bloom": bloom_gelu_forward}
    for name in BY_HAND:
        expected = theirs[name](X)
        assert (ACTIVATIONS[name](X) - expected).abs().max() < 1e-14, name  # type: ignore[index]
