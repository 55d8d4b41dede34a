"""A small trainer: AdamW, a schedule, clipping, a history, checkpoints that resume to the bit."""

from interp.training.history import History
from interp.training.settings import TrainSettings, learning_rate
from interp.training.snapshots import Snapshots, snapshot_path, snapshot_steps
from interp.training.trainer import TrainingDivergedError, make_optimizer, train

__all__ = [
    "History",
    "Snapshots",
    "TrainSettings",
    "TrainingDivergedError",
    "learning_rate",
    "make_optimizer",
    "snapshot_path",
    "snapshot_steps",
    "train",
]
