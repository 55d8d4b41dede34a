"""What the neurons of a toy with a ReLU hidden layer do, one feature at a time, and motifs of them.

Elhage et al. (2022), Toy Models of Superposition, “Superposition in a Privileged Basis” and
“Computation in Superposition”. A toy h = ReLU(W x), x' = ReLU(W_out h + b) that sees feature i
alone, at the value s in {+1, -1}, has its neuron k at ReLU(s W_ki), which adds
W_out_jk ReLU(s W_ki) to output j. As the hidden layer has no bias this scales with the feature's
size, so that these numbers say all that a model does with one feature at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.errors import require, require_number

POSITIVE, NEGATIVE = 0, 1  # places on the `sign` axis


def neuron_activations(
    W: Float[Tensor, "... neuron feature"], signed: bool = True
) -> Float[Tensor, "... sign neuron feature"]:
    """ReLU(s W_ki): each neuron on each feature alone, at 1 and, if `signed`, at -1.

    Raises:
        InputError: If W has no matrix.
    """
    require(W.ndim >= 2, f"W must be [… neuron, feature]. Received shape {list(W.shape)}")
    return torch.stack([W, -W] if signed else [W], dim=-3).clamp_min(0.0)


def self_contributions(
    W: Float[Tensor, "... neuron feature"],
    W_out: Float[Tensor, "... feature neuron"],
    signed: bool = True,
) -> Float[Tensor, "... sign neuron feature"]:
    """W_out_ik ReLU(s W_ki): what each neuron adds to a feature's own output.

    Summed over neurons it is the slope with which the feature comes back, near 1 for a feature that
    the model computes and near 0 for one that it ignores, but for the output's bias and ReLU.

    Raises:
        InputError: If the matrices do not fit.
    """
    _check(W, W_out)
    return neuron_activations(W, signed) * W_out.mT.unsqueeze(-3)


def features_served(
    W: Float[Tensor, "... neuron feature"],
    W_out: Float[Tensor, "... feature neuron"],
    signed: bool = True,
    threshold: float = 0.25,
) -> Bool[Tensor, "... neuron feature"]:
    """Whether a neuron has a part of at least `threshold` in a feature's own output.

    Both signs of a feature count as that feature. A neuron that serves one feature is monosemantic,
    one that serves several polysemantic, one that serves none idle.

    Raises:
        InputError: If the matrices do not fit, or the threshold is not positive.
    """
    require_number("threshold", threshold)
    return (self_contributions(W, W_out, signed) >= threshold).any(-3)


@dataclass(frozen=True)
class AsymmetricMotifs:
    """Neurons shared unequally by two features, and what keeps one from disturbing the other.

    One row for each neuron, sign and ordered pair of features that it is shared by.

    Attributes:
        instance: The model.
        neuron: The shared neuron.
        sign: 1 or -1: the value of the loud feature.
        loud: The feature that drives the neuron hard and reads little of it.
        quiet: The feature that drives it a little and reads much of it.
        input_ratio: |W_k loud| / |W_k quiet|.
        output_ratio: W_out_quiet k / W_out_loud k.
        interference: What the neuron adds to the quiet output when the loud feature is at `sign`.
        back: What it adds to the loud output when the quiet feature is at the value that drives it.
        inhibition: What all neurons with a negative weight to the quiet output add there then: at
            most 0.
        net: What all neurons together and the bias add there.
    """

    instance: Int[Tensor, "motif"]
    neuron: Int[Tensor, "motif"]
    sign: Int[Tensor, "motif"]
    loud: Int[Tensor, "motif"]
    quiet: Int[Tensor, "motif"]
    input_ratio: Float[Tensor, "motif"]
    output_ratio: Float[Tensor, "motif"]
    interference: Float[Tensor, "motif"]
    back: Float[Tensor, "motif"]
    inhibition: Float[Tensor, "motif"]
    net: Float[Tensor, "motif"]

    def __len__(self) -> int:
        return len(self.instance)


def asymmetric_motifs(
    W: Float[Tensor, "instance neuron feature"],
    W_out: Float[Tensor, "instance feature neuron"],
    b: Float[Tensor, "instance feature"],
    *,
    ratio: float = 2.0,
    threshold: float = 0.25,
) -> AsymmetricMotifs:
    """The asymmetric superposition motif in models of signed features.

    Elhage et al. (2022), “Computation in Superposition”: two features share a neuron with large
    input and small output weight for the one, small input and large output weight for the other.
    Both come back right, and the interference, which would be the same both ways with equal
    weights, is all in one direction. There another neuron that the loud feature drives, with a
    negative output weight, inhibits it.

    Args:
        W: Into the neurons.
        W_out: Out of them.
        b: Of the output.
        ratio: How many times the one input weight must be the other, and the other output weight
            the one.
        threshold: Part of a feature's own output that the neuron must have, of both features.

    Raises:
        InputError: If the tensors do not fit, the ratio is not above 1 or the threshold is not
            positive.
    """
    _check(W, W_out)
    require(
        W.ndim == 3 and b.shape == (W.shape[0], W.shape[2]),
        f"W must be [instance, neuron, feature] and b [instance, feature]. "
        f"Received shapes {list(W.shape)} and {list(b.shape)}",
    )
    require_number("ratio", ratio)
    require(ratio > 1, f"ratio must be above 1. Received {ratio}")
    require_number("threshold", threshold)
    served = self_contributions(W, W_out) >= threshold  # [instance sign neuron feature]
    size, back = W.abs(), W_out.mT  # both [instance neuron feature]
    # The sign is the loud feature's; the quiet one drives the neuron at one sign or the other.
    either = served.any(1)
    is_pair = (
        served[..., :, None]
        & either[:, None, :, None, :]
        & (size[..., :, None] >= ratio * size[..., None, :])[:, None]
        & (back[..., None, :] >= ratio * back[..., :, None])[:, None]
    )  # [instance sign neuron loud quiet]; a feature is no ratio above 1 of itself
    instance, sign, neuron, loud, quiet = is_pair.nonzero(as_tuple=True)
    active = neuron_activations(W)[instance, sign, :, loud]  # [motif neuron]
    added = active * W_out[instance, quiet]
    own_out, other_out = W_out[instance, loud, neuron], W_out[instance, quiet, neuron]
    loud_in, quiet_in = size[instance, neuron, loud], size[instance, neuron, quiet]
    return AsymmetricMotifs(
        instance=instance,
        neuron=neuron,
        sign=1 - 2 * sign,
        loud=loud,
        quiet=quiet,
        input_ratio=loud_in / quiet_in,
        output_ratio=other_out / own_out,
        interference=loud_in * other_out,
        back=quiet_in * own_out,
        inhibition=added.clamp_max(0.0).sum(-1),
        net=added.sum(-1) + b[instance, quiet],
    )


def _check(W: Tensor, W_out: Tensor) -> None:
    require(
        W.ndim >= 2 and W_out.shape == W.mT.shape,
        "W must be [… neuron, feature] and W_out [… feature, neuron]. "
        f"Received shapes {list(W.shape)} and {list(W_out.shape)}",
    )
