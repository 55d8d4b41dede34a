"""Sparse autoencoders: ReLU with L1, TopK and gated; training, growth, and how right they are.

`train_sae` makes one of an `SAEConfig` and a `Source` of activations (a tensor, a dataset, a
function), `score_sae` says how well it does, `save_sae` and `load_sae` keep it. Where the truth is
known, as in toys, `match_units` compares dictionaries; `grow` widens one until it is large enough.
"""

from interp.sae.assignment import best_assignment
from interp.sae.config import SAEConfig
from interp.sae.dead_units import FiringTracker, resample_
from interp.sae.dictionaries import (
    Matching,
    MeanMaxCosine,
    cosines,
    duplicates,
    match_units,
    mean_max_cosine,
)
from interp.sae.gated import GatedSAE
from interp.sae.growth import (
    Grown,
    copy_units_,
    grow,
    until_explained,
    until_plateau,
    until_spare,
)
from interp.sae.make import make_sae
from interp.sae.relu import ReluSAE
from interp.sae.sae import SAELoss, SparseAutoencoder
from interp.sae.saving import load_sae, save_sae
from interp.sae.scores import (
    Detection,
    SAEScores,
    dead_units,
    detection,
    explained_variance,
    geometric_median,
    l0,
    score_sae,
)
from interp.sae.settings import SAESettings
from interp.sae.source import Source
from interp.sae.topk import TopKSAE
from interp.sae.training import train_sae

__all__ = [
    "Detection",
    "FiringTracker",
    "GatedSAE",
    "Grown",
    "Matching",
    "MeanMaxCosine",
    "ReluSAE",
    "SAEConfig",
    "SAELoss",
    "SAEScores",
    "SAESettings",
    "Source",
    "SparseAutoencoder",
    "TopKSAE",
    "best_assignment",
    "copy_units_",
    "cosines",
    "dead_units",
    "detection",
    "duplicates",
    "explained_variance",
    "geometric_median",
    "grow",
    "l0",
    "load_sae",
    "make_sae",
    "match_units",
    "mean_max_cosine",
    "resample_",
    "save_sae",
    "score_sae",
    "train_sae",
    "until_explained",
    "until_plateau",
    "until_spare",
]
