"""A small trainer: AdamW, a schedule, clipping, a history, checkpoints that resume to the bit.

`train` takes a model, its batches and a loss, as `TrainSettings` say; `run_task` is the loop below
it, for a `Task` of another kind. `Snapshots` keep weights along the way.
"""

from interp.training.history import History
from interp.training.loop import Task, TrainingDivergedError, run_task
from interp.training.optimizer import make_optimizer
from interp.training.settings import TrainSettings, learning_rate
from interp.training.snapshots import Snapshots, snapshot_path, snapshot_steps
from interp.training.trainer import train

__all__ = [
    "History",
    "Snapshots",
    "Task",
    "TrainSettings",
    "TrainingDivergedError",
    "learning_rate",
    "make_optimizer",
    "run_task",
    "snapshot_path",
    "snapshot_steps",
    "train",
]
