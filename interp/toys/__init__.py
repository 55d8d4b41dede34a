"""Toy models of superposition: many small models trained as one program, and what they hold.

Elhage et al. (2022), Toy Models of Superposition. `SparseFeatures` (or `FiniteExamples`) makes the
data, `ToyModel` (or `ModuleToy`) the models, `ReconstructionLoss` the loss, and `train` trains all
instances at once.
"""

from interp.toys.batch import Batch, Data
from interp.toys.examples import FiniteExamples
from interp.toys.features import SparseFeatures
from interp.toys.loss import ReconstructionLoss, geometric_importance
from interp.toys.model import ToyModel
from interp.toys.module import ModuleToy
from interp.toys.settings import ToySettings
from interp.toys.training import ToyRun, train

__all__ = [
    "Batch",
    "Data",
    "FiniteExamples",
    "ModuleToy",
    "ReconstructionLoss",
    "SparseFeatures",
    "ToyModel",
    "ToyRun",
    "ToySettings",
    "geometric_importance",
    "train",
]
