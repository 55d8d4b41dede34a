"""The non-linearities of MLPs, by TransformerLens's names."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from interp.config import ActivationFunction


def gelu_tanh(x: Float[Tensor, "*axes"]) -> Float[Tensor, "*axes"]:
    """GELU's tanh approximation (Hendrycks & Gimpel 2016), as GPT-2 computes it."""
    return F.gelu(x, approximate="tanh")


def gelu_fast(x: Float[Tensor, "*axes"]) -> Float[Tensor, "*axes"]:
    """The same approximation, with √(2/π) rounded to 0.7978845608 as GPT-J's authors wrote it."""
    return 0.5 * x * (1.0 + torch.tanh(x * 0.7978845608 * (1.0 + 0.044715 * x * x)))


def gelu_bloom(x: Float[Tensor, "*axes"]) -> Float[Tensor, "*axes"]:
    """The same approximation, with √(2/π) rounded to 0.79788456 as BLOOM's authors wrote it."""
    return 0.5 * x * (1.0 + torch.tanh(x * 0.79788456 * (1.0 + 0.044715 * x * x)))


def solu(x: Float[Tensor, "*axes neuron"]) -> Float[Tensor, "*axes neuron"]:
    """x · softmax(x) over the neurons (Elhage et al. 2022, Softmax Linear Units)."""
    return x * F.softmax(x, dim=-1)


ACTIVATIONS: dict[ActivationFunction, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_new": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "gelu_fast": gelu_fast,
    "gelu_bloom": gelu_bloom,
    "silu": F.silu,
    "tanh": torch.tanh,
    "solu": solu,
    "solu_ln": solu,
}
