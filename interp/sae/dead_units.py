"""Units that have stopped firing: how they are noticed, and how they begin anew."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from interp.errors import require
from interp.sae.sae import SparseAutoencoder

ENCODER_SHARE = 0.2
"""Of the mean encoder norm of living units: how large a resampled unit's is (Bricken et al.)."""


class FiringTracker(nn.Module):
    """For how many samples each unit has been silent.

    Attributes:
        silent_for: Samples since the unit last fired, `[d_sae]`; a batch in which it fires counts
            as 0 samples. A buffer, so that it is in a run's checkpoints.
        resampled: How many units were resampled so far.
    """

    silent_for: Int[Tensor, "d_sae"]
    resampled: Int[Tensor, ""]

    def __init__(self, d_sae: int, device: torch.device) -> None:
        super().__init__()
        silent_for = torch.zeros(d_sae, dtype=torch.int64, device=device)
        self.register_buffer("silent_for", silent_for)
        self.register_buffer("resampled", silent_for.new_zeros(()))

    @torch.no_grad()
    def update(self, activations: Float[Tensor, "batch d_sae"]) -> None:
        """Take a batch into account."""
        fired = (activations > 0).any(0)
        self.silent_for.add_(len(activations)).masked_fill_(fired, 0)

    def dead(self, after: int | Int[Tensor, ""]) -> Bool[Tensor, "d_sae"]:
        """Units that were silent for at least so many samples."""
        return self.silent_for >= after


@torch.no_grad()
def resample_(
    sae: SparseAutoencoder,
    units: Bool[Tensor, "d_sae"],
    x: Float[Tensor, "sample d_in"],
    generator: torch.Generator,
    optimizer: torch.optim.Optimizer | None = None,
) -> None:
    """Point units at inputs that the SAE tells badly (Bricken et al. 2023, "Neuron resampling").

    Inputs are drawn with probabilities ∝ (loss of the input)², without replacement while there are
    as many as units. A unit's row of `W_dec` becomes the drawn input, less `b_dec`, at unit length
    (or stays, if the input is `b_dec`); its column of `W_enc` the same times a fifth of the mean
    norm of the columns of all other units (of 1, where there are no others); its biases become 0,
    and the optimiser forgets what it knew of them. The paper leaves `b_dec` in the
    drawn input; it is taken away here because both the encoder's input and what the decoder has to
    make are relative to it.

    Args:
        sae: Changed in place.
        units: Which to resample.
        x: Inputs to draw from.
        generator: A CPU generator.
        optimizer: The one that trains the SAE, if there is one.

    Raises:
        InputError: if units are to be drawn from no inputs.
    """
    n_units = int(units.sum())
    if not n_units:
        return
    require(len(x) > 0, "there must be inputs to resample units from. Received none")
    chance = _squared_loss(sae, x).cpu()
    drawn = torch.multinomial(chance, n_units, replacement=n_units > len(x), generator=generator)
    directions = x[drawn.to(x.device)] - sae.b_dec
    size = torch.linalg.vector_norm(directions, dim=-1, keepdim=True)
    directions = torch.where(size > 0, directions / size, sae.W_dec[units])
    others = torch.linalg.vector_norm(sae.W_enc, dim=0)[~units]
    norm = others.mean() if len(others) else others.new_ones(())
    sae.W_dec[units] = directions
    sae.W_enc[:, units] = (directions * (ENCODER_SHARE * norm)).T
    sae.init_units_(units)
    if optimizer is not None:
        _forget(sae, units, optimizer)


def _squared_loss(
    sae: SparseAutoencoder, x: Float[Tensor, "sample d_in"]
) -> Float[Tensor, "sample"]:
    """The chance of each input, in fp64, scaled to be at most 1."""
    found = sae.loss(x)
    each = (found.reconstruction + found.sparsity).double().square()
    largest = each.max()
    # Inputs that are all told without a loss are as good as one another.
    return torch.where(largest > 0, each / largest, torch.ones_like(each)).clamp_min(1e-12)


def _forget(
    sae: SparseAutoencoder, units: Bool[Tensor, "d_sae"], optimizer: torch.optim.Optimizer
) -> None:
    """Zero Adam's moments of these units' weights; its count of steps is of whole tensors."""
    for name, axis in sae.UNIT_AXES.items():
        state = optimizer.state.get(sae.get_parameter(name), {})
        for moment in ("exp_avg", "exp_avg_sq"):
            if moment in state:
                state[moment].transpose(0, axis)[units] = 0.0
