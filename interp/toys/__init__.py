"""Toy models of superposition: many small models trained as one program, and what they hold.

Elhage et al. (2022), Toy Models of Superposition. `SparseFeatures` (or `FiniteExamples`) makes the
data, `ToyModel` (or `ModuleToy`) the models, `ReconstructionLoss` the loss, and `train` trains all
instances at once. `feature_dimensionality` and its like measure them, `recognise` names the shapes
that features make, `minimum_loss_regions` says what theory expects.
"""

from interp.toys.batch import Batch, Data
from interp.toys.evaluation import held_out_losses
from interp.toys.exact_loss import exact_loss
from interp.toys.exact_minimum import minimise_exactly
from interp.toys.examples import FiniteExamples
from interp.toys.features import SparseFeatures
from interp.toys.geometry import Geometry, Part, recognise, recognise_each, shape_of
from interp.toys.interference import interference_graph, interference_statistics
from interp.toys.loss import ReconstructionLoss, geometric_importance
from interp.toys.measures import (
    capacity,
    dimensions_per_feature,
    example_dimensionality,
    feature_dimensionality,
    feature_norms,
    monosemanticity,
    superposition,
)
from interp.toys.model import ToyModel
from interp.toys.module import ModuleToy
from interp.toys.settings import ToySettings
from interp.toys.theory import classify, minimum_loss_regions
from interp.toys.training import ToyRun, train

__all__ = [
    "Batch",
    "Data",
    "FiniteExamples",
    "Geometry",
    "ModuleToy",
    "Part",
    "ReconstructionLoss",
    "SparseFeatures",
    "ToyModel",
    "ToyRun",
    "ToySettings",
    "capacity",
    "classify",
    "dimensions_per_feature",
    "exact_loss",
    "example_dimensionality",
    "feature_dimensionality",
    "feature_norms",
    "geometric_importance",
    "held_out_losses",
    "interference_graph",
    "interference_statistics",
    "minimise_exactly",
    "minimum_loss_regions",
    "monosemanticity",
    "recognise",
    "recognise_each",
    "shape_of",
    "superposition",
    "train",
]
