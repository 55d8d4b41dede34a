"""What `superposition-recovery` runs: a toy, dictionaries of its hidden layer, and their scores."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from analyses.superposition.training import TrainedToys, device_of, train_toys
from interp.errors import require
from interp.sae import (
    Detection,
    Grown,
    Matching,
    SAEConfig,
    SAESettings,
    cosines,
    detection,
    grow,
    make_sae,
    match_units,
    until_plateau,
)
from interp.sae.config import Kind
from interp.toys import ReconstructionLoss, SparseFeatures, ToyModel
from interp.toys.measures import feature_norms

REPRESENTED = 0.5
"""The norm of a column from which a feature counts as represented; a trained toy's are near 0 or
1."""
FOUND = 0.9
"""The cosine to a unit from which a feature counts as found."""
HELD_OUT = 8192
DOUBLINGS = 3
_ROWS_AT_ONCE = 4096
# Batches of the data that neither training nor anything else of this analysis reaches.
_FIRST_BATCH = 1 << 30


class RecoveryParams(TrainedToys):
    """The toy, the dictionaries, and when they are large enough."""

    n_features: int = Field(200, ge=2, le=2000, description="Features of the toy.")
    d_hidden: int = Field(40, ge=1, le=500, description="Dimensions of its hidden layer.")
    density: float = Field(
        0.01, gt=0, le=1, description="How likely a feature is present (1 - sparsity)."
    )
    toy: Literal["trained", "random"] = Field(
        "trained",
        description="Whether features' directions are those of a trained toy, or random unit ones.",
    )
    steps: int = Field(400, ge=1, description="Updates of the toy.")
    batch_size: int = Field(256, ge=1, description="Examples of the toy at each update.")
    lr: float = Field(0.02, gt=0, description="The toy's learning rate, falling as a cosine.")
    kinds: list[Kind] = Field(
        ["relu", "topk", "gated"], min_length=1, description="Kinds of sparse autoencoder."
    )
    sizes: list[int] | None = Field(
        None,
        min_length=1,
        description="Units of the dictionaries, ascending, k or more; by default twice the hidden "
        f"dimensions (or k, if that is more), and that doubled up to {DOUBLINGS} times.",
    )
    plateau: float = Field(
        0.1,
        gt=0,
        lt=1,
        description="Dictionaries grow until the next size explains less than this fraction of "
        "the variance that the last one left.",
    )
    every_size: bool = Field(
        False, description="Whether sizes beyond that are trained as well, for the curves."
    )
    start: Literal["last", "anew"] = Field(
        "last", description="Whether a dictionary starts from the last one's units, or anew."
    )
    relu_l1: float = Field(0.4, ge=0, description="L1 coefficient of kind relu.")
    gated_l1: float = Field(0.6, ge=0, description="L1 coefficient of kind gated.")
    k: int | None = Field(
        None,
        ge=1,
        description="Units that fire at most, of kind topk; by default one more than the features "
        "that are present on average.",
    )
    sae_steps: int = Field(1200, ge=1, description="Updates of each dictionary.")
    sae_lr: float = Field(0.03, gt=0, description="Its learning rate, falling as a cosine.")
    sae_batch_size: int = Field(256, ge=1, description="Hidden vectors at each update.")
    samples: int = Field(
        1 << 17, ge=16, description="Hidden vectors that dictionaries are trained on."
    )

    @field_validator("kinds")
    @classmethod
    def _kinds_differ(cls, kinds: list[Kind]) -> list[Kind]:
        if len(set(kinds)) < len(kinds):
            raise ValueError("kinds must be different ones")
        return kinds

    @field_validator("sizes")
    @classmethod
    def _sizes_ascend(cls, sizes: list[int] | None) -> list[int] | None:
        if sizes is not None and (sizes[0] < 1 or sorted(set(sizes)) != sizes):
            raise ValueError("sizes must be ascending numbers of at least 1")
        return sizes

    @model_validator(mode="after")
    def _has_units_for_k(self) -> RecoveryParams:
        k, sizes = self.most_firing, self.all_sizes
        if "topk" in self.kinds and sizes[0] < k:
            raise ValueError(
                f"a dictionary must have as many units as may fire ({k}). Received sizes {sizes}"
            )
        return self

    @property
    def all_sizes(self) -> list[int]:
        """`sizes`, filled in."""
        smallest = max(2 * self.d_hidden, self.most_firing)
        return self.sizes or [smallest << i for i in range(DOUBLINGS + 1)]

    @property
    def most_firing(self) -> int:
        """`k`, filled in."""
        return math.ceil(self.n_features * self.density) + 1 if self.k is None else self.k


@dataclass(frozen=True)
class Hidden:
    """A toy and its hidden layer.

    Attributes:
        model: The toy, one instance.
        data: Its features.
        loss: What it was trained for.
        pool: Hidden vectors that dictionaries are trained on.
        held_out: Others, which they are scored on.
        present: Which features those others have.
    """

    model: ToyModel
    data: SparseFeatures
    loss: ReconstructionLoss
    pool: Float[Tensor, "sample d_hidden"]
    held_out: Float[Tensor, "held d_hidden"]
    present: Bool[Tensor, "held feature"]

    @property
    def true(self) -> Float[Tensor, "feature d_hidden"]:
        """The direction of each feature, a row."""
        return self.model.W[0].detach().T

    @property
    def represented(self) -> Bool[Tensor, "feature"]:
        """Features with a direction of some length; no dictionary can find the others."""
        return feature_norms(self.model.W[0].detach()) >= REPRESENTED


@torch.no_grad()
def hidden_layer(params: RecoveryParams) -> Hidden:
    """Make the toy, train it unless its directions are to be random, and read its hidden layer.

    Raises:
        InputError: If the toy represents no feature.
    """
    device = device_of(params)
    n = params.n_features
    model = ToyModel(1, n, params.d_hidden, seeds=params.seed, device=device)
    data = SparseFeatures.of(1, n, params.density, seeds=params.seed, device=device)
    loss = ReconstructionLoss.of(1, n, device=device)
    if params.toy == "random":
        model.W.div_(torch.linalg.vector_norm(model.W, dim=1, keepdim=True))
    else:
        with torch.enable_grad():
            train_toys(model, data, loss, params, decay="cosine")
    longest = float(feature_norms(model.W[0]).max())
    require(
        longest >= REPRESENTED,
        f"a toy must represent features, with columns of norm {REPRESENTED} or more, for "
        f"dictionaries to find: train it for more steps. The longest is {longest:.3f}",
    )
    n_batches = -(-params.samples // _ROWS_AT_ONCE)
    batches = (data.batch(_FIRST_BATCH + i, _ROWS_AT_ONCE).x for i in range(n_batches))
    pool = torch.cat([model.hidden(x)[0] for x in batches])[: params.samples]
    held = data.batch(_FIRST_BATCH - 1, HELD_OUT).x
    return Hidden(model, data, loss, pool, model.hidden(held)[0], held[0] > 0)


def grown(params: RecoveryParams, hidden: Hidden, kind: Kind) -> list[Grown]:
    """Dictionaries of one kind, until one is enough."""
    config = _config(params, kind, hidden.pool.device)
    settings = SAESettings(
        steps=params.sae_steps,
        lr=params.sae_lr,
        warmup_steps=params.sae_steps // 20,
        l1_warmup_steps=params.sae_steps // 10,
        seed=params.seed,
        log_every=max(1, params.sae_steps // 20),
    )
    plateau = until_plateau(params.plateau)
    return grow(
        config,
        params.all_sizes,
        hidden.pool,
        hidden.held_out,
        settings,
        (lambda scores: False) if params.every_size else plateau,
        start=params.start,
        batch_size=params.sae_batch_size,
        progress=sys.stdout.isatty(),
    )


def enough(params: RecoveryParams, dictionaries: Sequence[Grown]) -> int:
    """Which dictionary is large enough: that before the first which gains too little.

    Where every one gains, the last.
    """
    met = until_plateau(params.plateau)
    scores = [each.scores for each in dictionaries]
    for i in range(1, len(scores)):
        if met(scores[: i + 1]):
            return i - 1
    return len(scores) - 1


def _config(params: RecoveryParams, kind: Kind, device: torch.device) -> SAEConfig:
    sparsity: dict[Kind, dict[str, Any]] = {
        "relu": {"l1_coefficient": params.relu_l1},
        "gated": {"l1_coefficient": params.gated_l1},
        "topk": {"k": params.most_firing},
    }
    return SAEConfig(
        kind=kind,
        d_in=params.d_hidden,
        d_sae=params.all_sizes[-1],
        seed=params.seed,
        device=device,
        **sparsity[kind],
    )


@dataclass(frozen=True)
class Recovery:
    """A dictionary beside the toy's features.

    Attributes:
        similarity: Cosine of each living unit with each feature.
        nearest: By feature, the largest of them.
        chance: By feature, the largest cosine of as many random directions.
        units: By living unit, the largest of them.
        matching: Features and units (numbered in the whole dictionary) one to one.
        detection: How well a feature's own unit tells of it.
    """

    similarity: Float[Tensor, "living feature"]
    nearest: Float[Tensor, "feature"]
    chance: Float[Tensor, "feature"]
    units: Float[Tensor, "living"]
    matching: Matching
    detection: Detection


@torch.no_grad()
def recovery(hidden: Hidden, dictionary: Grown) -> Recovery:
    """Put a dictionary's living units beside the true directions."""
    sae, true = dictionary.sae, hidden.true
    living = (dictionary.scores.fires > 0).nonzero()[:, 0]
    rows = sae.W_dec[living]
    similarity = cosines(rows, true)
    by_chance = cosines(make_sae(sae.cfg).W_dec[: len(living)], true)
    none = similarity.new_full((1, len(true)), -1.0)
    among = match_units(rows, true)
    has_unit = among.unit >= 0
    unit = torch.where(has_unit, living[among.unit.clamp_min(0)] if len(living) else -1, -1)
    fires = torch.cat([sae.encode(part) > 0 for part in hidden.held_out.split(2048)])
    told = detection(fires, hidden.present, unit.clamp_min(0))
    missing = torch.full_like(told.precision, math.nan)
    return Recovery(
        similarity,
        torch.cat([similarity, none]).amax(0),
        torch.cat([by_chance, none]).amax(0),
        similarity.amax(1),
        Matching(unit, among.cosine),
        Detection(
            torch.where(has_unit, told.precision, missing),
            torch.where(has_unit, told.recall, missing),
        ),
    )
