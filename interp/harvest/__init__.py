"""A corpus and a model → a dataset of activations on disk, and reading it.

`harvest` makes one, `ActivationDataset` reads it.
"""

from interp.files.disk import DiskError
from interp.files.lock import LockedError
from interp.harvest.corpus import CorpusSettings, TokenStore, prepare_tokens
from interp.harvest.dataset import ActivationDataset
from interp.harvest.make import UnstorableError
from interp.harvest.run import harvest
from interp.harvest.settings import HarvestSettings

__all__ = [
    "ActivationDataset",
    "CorpusSettings",
    "DiskError",
    "HarvestSettings",
    "LockedError",
    "TokenStore",
    "UnstorableError",
    "harvest",
    "prepare_tokens",
]
