"""A corpus and a model → a dataset of activations on disk, and reading it.

`harvest` makes one, `ActivationDataset` reads it:

```python
dataset = harvest("zoo:induction", "texts.jsonl", "blocks.*.hook_resid_post", "runs/streams")
dataset = ActivationDataset("runs/streams")
```

`CorpusSettings` says more of the corpus than a file's name does, and `corpus` makes it tokens.
"""

from interp.files.disk import DiskError
from interp.files.lock import LockedError
from interp.harvest.corpus import CorpusSettings, TokenStore, prepare_tokens
from interp.harvest.dataset import ActivationDataset
from interp.harvest.make_shard import UnstorableError
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
