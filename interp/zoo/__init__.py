"""The zoo: small models that were trained here and ship with interp, weights and recipes.

```python
zoo.entries()                                # {"zoo:induction": ZooEntry(…)}
model = zoo.load("zoo:induction")            # the same as load_model("zoo:induction")
zoo.load("zoo:induction", checkpoint=400)    # as it was after 400 steps of training
```
"""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.errors import unknown
from interp.zoo.entry import ENTRY, ZooEntry, read_entry, write_entry

if TYPE_CHECKING:
    import torch

    from interp.transformer import HookedTransformer

__all__ = ["ZooEntry", "checkpoints", "defaults", "entries", "load", "read_entry", "write_entry"]

_WEIGHTS = Path(__file__).parent / "weights"


def entries() -> dict[str, ZooEntry]:
    """Every shipped model by name, in alphabetical order. No weights are read."""
    files = sorted(_WEIGHTS.glob(f"*/{ENTRY}"))
    found = (_read_once(file.parent, file.stat().st_mtime_ns) for file in files)
    return {entry.name: entry for entry in found}


def load(
    name: str,
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
    checkpoint: int | None = None,
) -> HookedTransformer:
    """A model of the zoo.

    Args:
        name: Such as `zoo:induction`.
        device: None: CUDA where there is one, else the CPU.
        dtype: None: as shipped, float32.
        checkpoint: A step of the training, one of `checkpoints(name)`: the model as it was then
            (its weights were kept in fp16). None: the trained model.

    Raises:
        InputError: for a name or step that is not in the zoo, or if the weights have changed.
    """
    return _entry(name).load(device, dtype, checkpoint)


def checkpoints(name: str) -> list[int]:
    """The steps of a model's training that `load` can go back to, in order.

    Raises:
        InputError: for a name that is not in the zoo.
    """
    return list(_entry(name).checkpoints)


def defaults(model_name: str, analysis_name: str) -> dict[str, Any]:
    """Parameters of an analysis that suit a model; none for a model that is not in the zoo."""
    entry = entries().get(model_name)
    return {} if entry is None else copy.deepcopy(entry.defaults.get(analysis_name, {}))


@functools.cache
def _read_once(folder: Path, written: int) -> ZooEntry:
    """The entry in a folder whose file was written at that time: pages ask for all, often."""
    return read_entry(folder)


def _entry(name: str) -> ZooEntry:
    known = entries()
    if name not in known:
        raise unknown("zoo model", name, known)
    return known[name]
