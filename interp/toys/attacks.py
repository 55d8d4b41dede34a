"""Inputs near to given ones that toys reconstruct worst: attacks of a given length.

Elhage et al. (2022), Toy Models of Superposition, “The Relationship to Adversarial Robustness”: an
output of a toy in superposition reads many inputs a little, so that a small change of each of them
adds up to a large one of the output.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import require, require_whole
from interp.toys.batch import Batch
from interp.toys.draws import Stream, normal
from interp.toys.loss import ReconstructionLoss
from interp.toys.model import ToyModel

_HALVINGS = 100  # of the interval that the multiplier is in: below fp64's rounding


@dataclass(frozen=True)
class Attack:
    """Changes of inputs, all of one length.

    Attributes:
        delta: What is added to each input.
        loss: Of the model on the changed inputs, beside the targets of the unchanged ones, of each
            example: the mean over features of I_i (x'_i - y_i)².
        clean: The same without the change.
    """

    delta: Float[Tensor, "instance batch feature"]
    loss: Float[Tensor, "instance batch"]
    clean: Float[Tensor, "instance batch"]

    @property
    def increase(self) -> Float[Tensor, "instance batch"]:
        """By how much the attack raises the loss."""
        return self.loss - self.clean


@dataclass(frozen=True)
class LinearAttack:
    """The best attack on a model that stays in the linear piece that the input is in.

    Attributes:
        delta: What is added to each input.
        linear_loss: What the loss would be if no unit switched.
        bound: What no attack of this length exceeds if no unit switches; equal to `linear_loss`,
            found another way.
    """

    delta: Float[Tensor, "instance batch feature"]
    linear_loss: Float[Tensor, "instance batch"]
    bound: Float[Tensor, "instance batch"]


@torch.no_grad()
def linear_attack(
    models: ToyModel,
    batch: Batch,
    loss: ReconstructionLoss,
    radius: Float[Tensor, "instance"],
) -> LinearAttack:
    """The change of length `radius` with the highest loss, were the model linear about each input.

    Within its piece the model is x' + J δ, and the loss ‖√I (x' - y + J δ)‖². Its maximum over a
    ball is that of a quadratic form, which has a closed form but for one number (Moré and Sorensen
    1983, Computing a Trust Region Step, turned round): (λ - JᵀIJ) δ = JᵀI (x' - y) with the one
    λ, not below the largest eigenvalue, that gives δ its length. It is looked for by halving.

    A unit that is at zero exactly counts as off. A δ whose sign makes no difference to the linear
    model has the sign that makes the greater loss in the model as it is.

    Args:
        models: The toys; fp64 is advised.
        batch: Inputs and what their outputs should be.
        loss: With power 2.
        radius: The length of δ, for each instance.

    Raises:
        InputError: If the loss's power is not 2 or a radius is not positive.
    """
    _check(models, loss, radius)
    J, output = _reduced_jacobian(models, batch.x)
    weight = (loss.importance / models.n_features).sqrt()[:, None]
    error = (output - batch.target) * weight
    J_weighted = J.matrix * weight[..., None]
    eigenvalues, axes = torch.linalg.eigh(J_weighted.mT @ J_weighted)
    linear = J_weighted.mT @ error[..., None]  # [instance batch k 1]
    along = (axes.mT @ linear).squeeze(-1)
    z, multiplier = _largest_in_ball(eigenvalues, along, radius[:, None])
    y = (axes @ z[..., None]).squeeze(-1)
    delta = y @ J.basis
    moved = error + (J_weighted @ y[..., None]).squeeze(-1)
    opposite = error - (J_weighted @ y[..., None]).squeeze(-1)
    linear_loss = moved.square().sum(-1)
    is_even = torch.isclose(linear_loss, opposite.square().sum(-1), rtol=1e-12, atol=0.0)
    flipped = losses_under(models, batch, loss, -delta) > losses_under(models, batch, loss, delta)
    delta = torch.where((is_even & flipped)[..., None], -delta, delta)
    gap = multiplier[..., None] - eigenvalues
    inverse = torch.where(along == 0, 0.0, along.square() / gap.clamp_min(_tiny(gap)))
    bound = error.square().sum(-1) + multiplier * radius[:, None].square() + inverse.sum(-1)
    return LinearAttack(delta, linear_loss, bound)


@torch.no_grad()
def strongest_attack(
    models: ToyModel,
    batch: Batch,
    loss: ReconstructionLoss,
    radius: Float[Tensor, "instance"],
    *,
    starts: int = 4,
    steps: int = 20,
    seed: int = 0,
) -> Attack:
    """The worst change of length `radius` that was found in the model as it is, units switching.

    The optimal attack of the linear piece is followed by steps of δ ← radius ∇/‖∇‖, the loss's
    gradient at x + δ: the generalised power iteration, which never lowers a convex function. The
    loss is one but where an output that is below its target switches off; with an activation on
    the hidden layer it is not convex at all, and there a step may leave a hill behind. So random
    directions are followed by half such steps, δ + radius ∇/‖∇‖ brought to its length. Of all that
    was visited the worst is kept. What it finds is a lower bound of what the best attack does: it
    misses the more, the more pieces there are about an input, and the fewer `starts`.

    Args:
        models: The toys; fp64 is advised.
        batch: Inputs and what their outputs should be.
        loss: With power 2.
        radius: The length of δ, for each instance.
        starts: Random directions besides.
        steps: Of each.
        seed: Of the random directions.

    Raises:
        InputError: As for `linear_attack`, or if `starts` or `steps` is not a whole number.
    """
    _check(models, loss, radius)
    require_whole("starts", starts, 0)
    require_whole("steps", steps, 0)
    seeds = torch.full((models.n_instances,), seed, device=batch.x.device)
    best = torch.zeros_like(batch.x)
    clean = losses_under(models, batch, loss, best)
    highest = torch.full_like(clean, -torch.inf)
    for start in range(starts + 1):
        if start == 0:
            delta = linear_attack(models, batch, loss, radius).delta
        else:
            # Seeds are of the directions alone; the same ones for every instance.
            drawn = normal(seeds, start, Stream.WEIGHTS, batch.x.shape[1:], batch.x.dtype)
            delta = _of_length(drawn, radius, drawn)
        for _ in range(steps):
            found, gradient = _loss_and_gradient(models, batch, loss, delta)
            better = found > highest
            highest = torch.where(better, found, highest)
            best = torch.where(better[..., None], delta, best)
            step = _of_length(gradient, radius, delta)
            delta = step if start == 0 else _of_length(delta + step, radius, step)
        found = losses_under(models, batch, loss, delta)
        better = found > highest
        highest = torch.where(better, found, highest)
        best = torch.where(better[..., None], delta, best)
    return Attack(best, highest, clean)


@dataclass(frozen=True)
class _Jacobian:
    """∂x'/∂x = matrix · basis, with orthonormal rows of `basis`: without what W does not see."""

    matrix: Float[Tensor, "instance batch out k"]
    basis: Float[Tensor, "instance k feature"]


def _reduced_jacobian(models: ToyModel, x: Tensor) -> tuple[_Jacobian, Tensor]:
    left, singular, basis = torch.linalg.svd(models.W, full_matrices=False)
    way_in = left * singular[:, None]  # [instance d_hidden k]
    back = models.W.mT if models.W_out is None else models.W_out  # [instance out d_hidden]
    pre_hidden = x @ models.W.mT
    hidden, by_hidden = _activated(pre_hidden, models.hidden_leak)
    pre_output = hidden @ back.mT + models.b[:, None]
    output, by_output = _activated(pre_output, models.output_leak)
    matrix = (back[:, None] * by_hidden[:, :, None]) @ way_in[:, None]
    return _Jacobian(matrix * by_output[..., None], basis), output


def _activated(pre: Tensor, leak: Tensor) -> tuple[Tensor, Tensor]:
    slope = torch.where(pre > 0, 1.0, leak[:, None, None].to(pre.dtype))
    return pre * slope, slope


def _loss_and_gradient(
    models: ToyModel, batch: Batch, loss: ReconstructionLoss, delta: Tensor
) -> tuple[Tensor, Tensor]:
    """Losses at x + δ, and their gradients but for a factor."""
    back = models.W.mT if models.W_out is None else models.W_out
    hidden, by_hidden = _activated((batch.x + delta) @ models.W.mT, models.hidden_leak)
    output, by_output = _activated(hidden @ back.mT + models.b[:, None], models.output_leak)
    error = output - batch.target
    weighted = error * loss.importance[:, None] / models.n_features
    gradient = (((weighted * by_output) @ back) * by_hidden) @ models.W
    return (weighted * error).sum(-1), gradient


@torch.no_grad()
def losses_under(
    models: ToyModel,
    batch: Batch,
    loss: ReconstructionLoss,
    delta: Float[Tensor, "instance batch feature"],
) -> Float[Tensor, "instance batch"]:
    """The loss of each example whose input is changed by `delta`, beside its own target."""
    error = models(batch.x + delta) - batch.target
    return (error.square() * loss.importance[:, None]).mean(-1)


def _of_length(direction: Tensor, radius: Tensor, otherwise: Tensor) -> Tensor:
    """The direction at this length; where it is zero, what is given otherwise."""
    length = direction.norm(dim=-1, keepdim=True)
    is_zero = length == 0
    scaled = direction * (radius[:, None, None] / torch.where(is_zero, 1.0, length))
    return torch.where(is_zero, otherwise, scaled)


def _largest_in_ball(
    eigenvalues: Float[Tensor, "instance batch k"],
    along: Float[Tensor, "instance batch k"],
    radius: Float[Tensor, "instance 1"],
) -> tuple[Float[Tensor, "instance batch k"], Float[Tensor, "instance batch"]]:
    """The z of length `radius` with the largest Σ λ_j z_j² + 2 c_j z_j, and its multiplier.

    Args:
        eigenvalues: λ, rising.
        along: c.
        radius: Of the ball.
    """
    below = eigenvalues[..., -1:] - eigenvalues  # [instance batch k], 0 for the last
    # With t = multiplier less the largest eigenvalue: |c_last| / t <= ‖z‖ <= ‖c‖ / t.
    low = along[..., -1].abs() / radius
    high = along.norm(dim=-1) / radius
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        is_long = _components(along, below, middle).norm(dim=-1) > radius
        low, high = torch.where(is_long, middle, low), torch.where(is_long, high, middle)
    z = _components(along, below, high)
    # The last one makes the length exact; where c does not touch it ("the hard case") it is all
    # that is left of the length, of either sign.
    rest = (radius.square() - z[..., :-1].square().sum(-1)).clamp_min(0.0).sqrt()
    last = torch.where(along[..., -1] < 0, -rest, rest)
    z = torch.cat([z[..., :-1], last[..., None]], -1)
    return z, eigenvalues[..., -1] + high


def _components(along: Tensor, below: Tensor, t: Tensor) -> Tensor:
    gap = below + t[..., None]
    return torch.where(along == 0, 0.0, along / gap.clamp_min(_tiny(gap)))


def _tiny(like: Tensor) -> float:
    return torch.finfo(like.dtype).tiny


def _check(models: ToyModel, loss: ReconstructionLoss, radius: Tensor) -> None:
    require(
        bool((loss.power == 2).all()),
        f"an attack needs a loss of power 2. Received {loss.power.tolist()}",
    )
    require(
        radius.shape == (models.n_instances,) and bool((radius > 0).all()),
        f"radius must be positive, one for each of {models.n_instances} instances. "
        f"Received {radius.tolist()}",
    )
