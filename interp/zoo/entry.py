"""One model of the zoo on disk: `entry.json` beside a saved model.

```
model.safetensors  config.json  tokenizer files     what HookedTransformer.save writes
entry.json                                          what this file reads
history.csv                                         the training run, a row for each logged step
checkpoints/step_00000.safetensors …                fp16 weights along the way
```
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from interp import saving
from interp.errors import InputError
from interp.files import contained, read_json, short
from interp.files.atomic import replacing_directory
from interp.training import History, snapshot_path, snapshot_steps

if TYPE_CHECKING:
    import pandas as pd

    from interp.transformer import HookedTransformer

ENTRY = "entry.json"
HISTORY = "history.csv"
CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class ZooEntry:
    """A shipped model and what is known about it.

    Attributes:
        name: What `load_model` takes, such as `zoo:induction`.
        description: What the model does, in a sentence or two.
        recipe: The module that trained it, with its arguments if it trains several;
            `python -m RECIPE --out DIR` makes it again.
        training: Settings and duration of that run.
        metrics: What the model reaches on fresh data.
        control: What a model that should fail reaches in the same training.
        sha256: Of `model.safetensors`, in hex.
        checkpoints: SHA-256 of each training snapshot, by its step.
        defaults: For an analysis by name, the parameters that suit this model.
        directory: Where the files are.
    """

    name: str
    description: str
    recipe: str
    training: dict[str, Any]
    metrics: dict[str, Any]
    control: dict[str, Any]
    sha256: str
    checkpoints: dict[int, str]
    defaults: dict[str, dict[str, Any]]
    directory: Path

    def history(self) -> pd.DataFrame:
        """The training run: `step`, `loss` and what else was measured, a row per logged step.

        Raises:
            InputError: if its file is missing, damaged, or a link out of the directory.
        """
        import pandas as pd

        path = contained(self.directory, self.directory / HISTORY)
        if not path.is_file():
            raise InputError(f"{path} does not exist.")
        try:
            return pd.read_csv(path)
        except (OSError, ValueError) as fault:
            raise InputError(f"{path} is damaged: {short(fault)}") from fault

    def load(
        self,
        device: torch.device | str | None = None,
        dtype: torch.dtype | str | None = None,
        checkpoint: int | None = None,
    ) -> HookedTransformer:
        """The model, or the model as it was at one step of its training.

        Raises:
            InputError: if there is no snapshot of that step, or if the weights are not those that
                the entry was made with, or are links out of the directory.
        """
        if checkpoint is not None and checkpoint not in self.checkpoints:
            steps = ", ".join(map(str, self.checkpoints))
            raise InputError(
                f"checkpoint must be a step that {self.name} has a snapshot of ({steps}). "
                f"Received {checkpoint!r}."
            )
        _verify(contained(self.directory, self.directory / saving.WEIGHTS), self.sha256)
        model = saving.load(self.directory, device, dtype)
        if checkpoint is not None:
            file = snapshot_path(self.directory / CHECKPOINTS, checkpoint)
            _verify(contained(self.directory, file), self.checkpoints[checkpoint])
            saving.read_weights(model, file)
        return model


def read_entry(directory: str | Path) -> ZooEntry:
    """The entry in a directory; the weights are not read yet.

    Raises:
        InputError: if there is none, or if it is damaged.
    """
    folder = Path(directory)
    fields = read_json(contained(folder, folder / ENTRY))
    try:
        fields["checkpoints"] = {int(step): sha for step, sha in fields["checkpoints"].items()}
        return ZooEntry(**fields, directory=folder)
    except (AttributeError, KeyError, TypeError, ValueError) as fault:
        raise InputError(f"{folder / ENTRY} is damaged: {short(fault)}") from fault


def write_entry(
    directory: str | Path,
    model: HookedTransformer,
    history: History,
    snapshots: str | Path,
    *,
    description: str,
    recipe: str,
    training: Mapping[str, Any],
    metrics: Mapping[str, Any],
    control: Mapping[str, Any],
    defaults: Mapping[str, Mapping[str, Any]],
) -> ZooEntry:
    """Write a trained model as an entry, whole or not at all; an entry made before is replaced.

    Args:
        directory: Where the entry goes.
        model: `cfg.model_name` is the entry's name.
        history: Of its training.
        snapshots: A directory of snapshots, which are copied.
        description, recipe, training, metrics, control, defaults: See `ZooEntry`.

    Raises:
        InputError: if something other than an entry stands there.
    """
    target = Path(directory)
    if target.exists() and not (target / ENTRY).is_file() and any(target.iterdir()):
        raise InputError(f"{target} is not an entry of the zoo: it is left as it is.")
    with replacing_directory(target) as fresh:
        saving.save(model, fresh)
        _name_tokenizer_class(fresh / "tokenizer_config.json")
        history.write(fresh / HISTORY)
        steps = snapshot_steps(snapshots)
        (fresh / CHECKPOINTS).mkdir()
        for step in steps:
            shutil.copyfile(
                snapshot_path(snapshots, step), snapshot_path(fresh / CHECKPOINTS, step)
            )
        fields = {
            "name": model.cfg.model_name,
            "description": description,
            "recipe": recipe,
            "training": dict(training),
            "metrics": dict(metrics),
            "control": dict(control),
            "sha256": _sha256(fresh / saving.WEIGHTS),
            "checkpoints": {s: _sha256(snapshot_path(fresh / CHECKPOINTS, s)) for s in steps},
            "defaults": {name: dict(parameters) for name, parameters in defaults.items()},
        }
        text = json.dumps(fields, indent=1, ensure_ascii=False, allow_nan=False)
        (fresh / ENTRY).write_text(text + "\n", encoding="utf-8")
    return read_entry(target)


def _name_tokenizer_class(config: Path) -> None:
    """Use the name of the tokenizer's class that transformers 4 knows as well as 5."""
    if config.is_file():
        fields = {**read_json(config), "tokenizer_class": "PreTrainedTokenizerFast"}
        config.write_text(json.dumps(fields, indent=1) + "\n", encoding="utf-8")


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _verify(file: Path, expected: str) -> None:
    if not file.is_file():
        raise InputError(f"{file} does not exist.")
    found = _sha256(file)
    if found != expected:
        raise InputError(
            f"{file} is not the file that this entry was made with: its SHA-256 must be "
            f"{expected}. It is {found}."
        )
