"""The toy models of the paper, many at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.errors import require, require_number, require_one_of, require_whole
from interp.toys.batch import require_dtype
from interp.toys.choice import selected
from interp.toys.draws import Stream, as_seeds, normal

Activation = Literal["relu", "linear"]
Activations = Activation | Sequence[Activation]


class ToyModel(nn.Module):
    """x' = out(Wᵀ hidden(W x) + b), or with weights of their own for the way back.

    Elhage et al. (2022), Toy Models of Superposition: linear and ReLU output (“Demonstrating
    Superposition”), ReLU on the hidden layer (“Superposition in a Privileged Basis”), untied
    (“Computation in Superposition”). Every parameter has an instance axis, and instances share
    nothing. An instance may have fewer hidden dimensions than the widest: its other rows are zero
    and stay zero, as no gradient reaches them.

    Attributes:
        W: Column i is the direction of feature i in the hidden layer.
        W_out: The way back, of an untied model; None if it is Wᵀ.
        b: Of the output; zeros that are not trained if the model has none.
        d_hidden: Hidden dimensions of each instance.
    """

    W: Float[Tensor, "instance d_hidden feature"]
    W_out: Float[Tensor, "instance feature d_hidden"] | None
    b: Float[Tensor, "instance feature"]
    d_hidden: Int[Tensor, "instance"]
    hidden_leak: Float[Tensor, "instance"]
    output_leak: Float[Tensor, "instance"]

    def __init__(
        self,
        n_instances: int,
        n_features: int,
        d_hidden: int | Sequence[int],
        *,
        hidden: Activations = "linear",
        output: Activations = "relu",
        tied: bool = True,
        bias: bool = True,
        init_scale: float = 1.0,
        seeds: int | Sequence[int] | Int[Tensor, "instance"] = 0,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        """Make the models, with normal weights of variance 2 / (n_features + d_hidden) (Xavier).

        Args:
            n_instances: How many models.
            n_features: Inputs and outputs of each.
            d_hidden: Hidden dimensions of all, or of each.
            hidden: The activation on the hidden layer, of all or of each: `linear` is none.
            output: The activation on the output.
            tied: Whether the way back is the transpose of the way in.
            bias: Whether the output has a trained bias, from zero.
            init_scale: Times which the weights are at first.
            seeds: Of the weights: one for each, or the first of so many numbers in a row.
            dtype: Of the parameters: `float32` or `float64`.
            device: Of the parameters.

        Raises:
            InputError: If a value breaks its rule.
        """
        super().__init__()
        require_whole("n_instances", n_instances, 1)
        require_whole("n_features", n_features, 1)
        require_number("init_scale", init_scale, zero=True)
        require_dtype(dtype)
        widths = [d_hidden] * n_instances if isinstance(d_hidden, int) else list(d_hidden)
        require(
            len(widths) == n_instances,
            f"d_hidden must be one number or {n_instances}. Received {len(widths)}",
        )
        for each in widths:
            require_whole("d_hidden", each, 1)
        device = torch.device(device)
        width = torch.tensor(widths, device=device)
        self.register_buffer("d_hidden", width)
        self.register_buffer("hidden_leak", _leaks("hidden", hidden, n_instances, dtype, device))
        self.register_buffer("output_leak", _leaks("output", output, n_instances, dtype, device))
        # Known without asking a GPU.
        self._hidden_kinds, self._output_kinds = _kinds(hidden), _kinds(output)
        shape = (max(widths), n_features)
        std = init_scale * (2 / (n_features + width).to(dtype)).sqrt()[:, None, None]
        drawn = _drawn(as_seeds(seeds, n_instances, device), 0, width, shape, dtype) * std
        self.W = nn.Parameter(drawn)
        if tied:
            self.register_parameter("W_out", None)
        else:
            back = _drawn(as_seeds(seeds, n_instances, device), 1, width, shape, dtype) * std
            self.W_out = nn.Parameter(back.transpose(1, 2).contiguous())
        zeros = torch.zeros(n_instances, n_features, dtype=dtype, device=device)
        if bias:
            self.b = nn.Parameter(zeros)
        else:
            self.register_buffer("b", zeros)

    @property
    def n_instances(self) -> int:
        """How many models."""
        return self.W.shape[0]

    @property
    def n_features(self) -> int:
        """Inputs of each."""
        return self.W.shape[2]

    def hidden(
        self, x: Float[Tensor, "instance batch feature"]
    ) -> Float[Tensor, "instance batch d_hidden"]:
        """The hidden layer, after its activation."""
        pre = torch.bmm(x, self.W.transpose(1, 2))
        return _activated(pre, self.hidden_leak, self._hidden_kinds)

    def output(
        self, hidden: Float[Tensor, "instance batch d_hidden"]
    ) -> Float[Tensor, "instance batch feature"]:
        """What a hidden layer is read as."""
        back = self.W if self.W_out is None else self.W_out.transpose(1, 2)
        pre = torch.baddbmm(self.b[:, None], hidden, back)
        return _activated(pre, self.output_leak, self._output_kinds)

    def forward(
        self, x: Float[Tensor, "instance batch feature"]
    ) -> Float[Tensor, "instance batch feature"]:
        """The features as they come back."""
        return self.output(self.hidden(x))

    def select(self, instances: Int[Tensor, "chosen"]) -> Self:
        """A copy of some instances alone."""
        return selected(self, instances)


def _kinds(given: Activations) -> frozenset[str]:
    return frozenset([given] if isinstance(given, str) else given)


def _activated(pre: Tensor, leak: Float[Tensor, "instance"], kinds: frozenset[str]) -> Tensor:
    if kinds == {"linear"}:
        return pre
    if kinds == {"relu"}:
        return pre.relu()
    # No mask is kept for the backward pass: masks of bytes are slow in compiled CPU code. The
    # linear part is a term of its own, so that its gradient at 0 is 1.
    slope = leak[:, None, None]
    return slope * pre + (1 - slope) * pre.relu()


def _leaks(
    name: str, given: Activations, n_instances: int, dtype: torch.dtype, device: torch.device
) -> Float[Tensor, "instance"]:
    each = [given] * n_instances if isinstance(given, str) else list(given)
    require(
        len(each) == n_instances,
        f"{name} must be one activation or {n_instances}. Received {len(each)}",
    )
    for one in each:
        require_one_of(name, one, get_args(Activation))
    return torch.tensor([float(one == "linear") for one in each], dtype=dtype, device=device)


def _drawn(
    seeds: Int[Tensor, "instance"],
    which: int,
    width: Int[Tensor, "instance"],
    shape: tuple[int, int],
    dtype: torch.dtype,
) -> Float[Tensor, "instance d_hidden feature"]:
    # Each row has its own numbers, whatever the width of the widest instance.
    rows = [
        normal(seeds, 2 * row + which, Stream.WEIGHTS, (shape[1],), dtype)
        for row in range(shape[0])
    ]
    return (
        torch.stack(rows, 1)
        * (torch.arange(shape[0], device=seeds.device) < width[:, None])[..., None]
    )
