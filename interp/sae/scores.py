"""How well a sparse autoencoder tells its inputs, and how sparsely; with the truth, how rightly."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.errors import require, require_whole
from interp.sae.dictionaries import duplicates
from interp.sae.sae import SparseAutoencoder


def l0(activations: Float[Tensor, "... d_sae"]) -> Float[Tensor, ""]:
    """How many units fire (are above 0) for an input, on average."""
    return (activations > 0).double().sum(-1).mean()


def dead_units(activations: Float[Tensor, "... d_sae"]) -> Bool[Tensor, "d_sae"]:
    """Units that fire for none of these inputs."""
    return ~(activations > 0).flatten(0, -2).any(0)


def explained_variance(
    x: Float[Tensor, "... d_in"], reconstructed: Float[Tensor, "... d_in"]
) -> Float[Tensor, ""]:
    """Fraction of variance explained: 1 − Σ‖x − x̂‖² / Σ‖x − x̄‖², over all samples, in fp64.

    x̄ is the samples' mean, so x̂ = x̄ explains 0; worse is negative. Inputs without variance give
    −∞, or NaN where they are told exactly.
    """
    x, reconstructed = x.double().flatten(0, -2), reconstructed.double().flatten(0, -2)
    spread = (x - x.mean(0)).square().sum()
    return 1 - (x - reconstructed).square().sum() / spread


def geometric_median(
    x: Float[Tensor, "sample d_in"], steps: int = 100, tolerance: float = 1e-6
) -> Float[Tensor, "d_in"]:
    """The point with the least sum of distances to the samples.

    Weiszfeld's iteration from the mean, as Vardi & Zhang 2000 mend it where it meets a sample
    (which would hold it fast), until a step is below `tolerance` times the samples' mean distance,
    or `steps` are done. Samples nearer than 10⁻¹² of that are met.
    """
    median = x.double().mean(0)
    for _ in range(steps):
        away = x.double() - median
        distance = torch.linalg.vector_norm(away, dim=-1)
        scale = distance.mean()
        if not scale:
            break
        is_met = distance <= 1e-12 * scale
        weight = torch.where(is_met, 0.0, distance.reciprocal())
        pull = (weight[:, None] * away).sum(0)
        # The samples that are met hold with a force of 1 each, the others pull.
        held = (is_met.sum() / torch.linalg.vector_norm(pull)).nan_to_num(0.0).clamp_max(1.0)
        step = (1 - held) * pull / weight.sum()
        median = median + step
        if torch.linalg.vector_norm(step) <= tolerance * scale:
            break
    return median.to(x.dtype)


@dataclass(frozen=True)
class SAEScores:
    """How an SAE does on held-out inputs.

    Attributes:
        samples: How many inputs there were.
        reconstruction: Mean ‖x − x̂‖², summed over `d_in`.
        fve: Fraction of variance explained.
        l0: Mean number of units that fire for an input.
        dead: Units that fired for none of the inputs.
        duplicates: Living units with a cosine above 0.9 to an earlier living one.
        living: Units that fired.
        fires: How often each unit fired, as a fraction of the inputs, `[d_sae]`.
    """

    samples: int
    reconstruction: float
    fve: float
    l0: float
    dead: int
    duplicates: int
    living: int
    fires: Float[Tensor, "d_sae"]

    @property
    def spare(self) -> float:
        """The fraction of the dictionary that is dead or another unit's duplicate."""
        return (self.dead + self.duplicates) / len(self.fires)


@torch.no_grad()
def score_sae(
    sae: SparseAutoencoder, x: Float[Tensor, "sample d_in"], *, batch_size: int = 8192
) -> SAEScores:
    """Score an SAE on inputs, a batch at a time.

    Args:
        sae: The SAE.
        x: Inputs, on its device and of its dtype; at least two.
        batch_size: How many are read at once. What is returned does not depend on it, but for
            rounding.

    Raises:
        InputError: for inputs of another shape or dtype.
    """
    require(
        isinstance(x, Tensor) and x.ndim == 2 and len(x) > 1,
        "inputs must be a tensor [sample, d_in] with at least two samples. Received "
        + (f"{tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__),
    )
    require_whole("batch_size", batch_size, 1)
    mean = x.double().mean(0)
    error = torch.zeros((), dtype=torch.float64, device=x.device)
    spread = torch.zeros_like(error)
    fired = torch.zeros(sae.cfg.d_sae, dtype=torch.int64, device=x.device)
    for part in x.split(batch_size):
        activations = sae.encode(part)
        error += (part.double() - sae.decode(activations).double()).square().sum()
        spread += (part.double() - mean).square().sum()
        fired += (activations > 0).sum(0)
    is_living = fired > 0
    living = int(is_living.sum())
    return SAEScores(
        samples=len(x),
        reconstruction=float(error / len(x)),
        fve=float(1 - error / spread),
        l0=float(fired.sum() / len(x)),
        dead=len(fired) - living,
        duplicates=int(duplicates(sae.W_dec[is_living]).sum()),
        living=living,
        fires=fired.double() / len(x),
    )


@dataclass(frozen=True)
class Detection:
    """How well units say whether features are there, one unit for each feature.

    Attributes:
        precision: Of the samples for which the unit fires, the fraction with the feature; NaN for a
            unit that never fires.
        recall: Of the samples with the feature, the fraction for which the unit fires; NaN for a
            feature that is never there.
    """

    precision: Float[Tensor, "feature"]
    recall: Float[Tensor, "feature"]

    @property
    def f1(self) -> Float[Tensor, "feature"]:
        """Harmonic mean of both; 0 where both are 0."""
        product, total = 2 * self.precision * self.recall, self.precision + self.recall
        return torch.where(total == 0, torch.zeros_like(total), product / total)


def detection(
    fires: Bool[Tensor, "sample d_sae"],
    present: Bool[Tensor, "sample feature"],
    unit_of_feature: Int[Tensor, "feature"],
) -> Detection:
    """Precision and recall of the unit that stands for each feature.

    Args:
        fires: Where units fire: `sae.encode(x) > 0`.
        present: Where features are there.
        unit_of_feature: Which unit stands for each feature (`match_units`, or the most similar).

    Raises:
        InputError: if the shapes do not fit, or a unit does not exist.
    """
    require(
        fires.ndim == present.ndim == 2
        and len(fires) == len(present)
        and unit_of_feature.shape == present.shape[1:],
        "fires must be [sample, d_sae], present [sample, feature] and unit_of_feature [feature]. "
        f"Received {tuple(fires.shape)}, {tuple(present.shape)}, {tuple(unit_of_feature.shape)}",
    )
    require(
        bool(((unit_of_feature >= 0) & (unit_of_feature < fires.shape[1])).all()),
        f"a unit of unit_of_feature must be one of {fires.shape[1]}. "
        f"Received {unit_of_feature.tolist()}",
    )
    said = fires.bool()[:, unit_of_feature]
    both = (said & present.bool()).sum(0).double()
    return Detection(both / said.sum(0), both / present.bool().sum(0))
