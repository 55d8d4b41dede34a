"""A model as a directory: `config.json`, `model.safetensors`, and its tokenizer's files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from interp.atomic import replacing_directory
from interp.config import HookedTransformerConfig, parse_dtype
from interp.errors import InputError

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

FORMAT = "interp"
VERSION = 1
CONFIG = "config.json"
WEIGHTS = "model.safetensors"


def save(model: HookedTransformer, directory: str | Path) -> Path:
    """Write a model; the directory appears whole or not at all, replacing a model saved before.

    Raises:
        InputError: if something other than a saved model stands there.
    """
    target = Path(directory)
    if (
        target.exists()
        and not is_saved_model(target)
        and (not target.is_dir() or any(target.iterdir()))
    ):
        raise InputError(f"{target} is not a saved model: it is left as it is.")
    with replacing_directory(target) as fresh:
        weights = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
        save_file(weights, fresh / WEIGHTS, metadata={"format": "pt"})
        document = {"format": FORMAT, "version": VERSION, "config": model.cfg.to_dict()}
        (fresh / CONFIG).write_text(json.dumps(document, indent=1), encoding="utf-8")
        # safetensors makes its files readable for their owner alone.
        shutil.copymode(fresh / CONFIG, fresh / WEIGHTS)
        if model.tokenizer is not None:
            _save_tokenizer(model.tokenizer, fresh)
    return target


def _save_tokenizer(tokenizer: Any, directory: Path) -> None:
    tokenizer.save_pretrained(directory)
    # transformers leaves out a padding side that was set after the tokenizer was made.
    path = directory / "tokenizer_config.json"
    settings = {**read_json(path), "padding_side": tokenizer.padding_side}
    path.write_text(json.dumps(settings, indent=1, ensure_ascii=False), encoding="utf-8")


def is_saved_model(directory: str | Path) -> bool:
    """Whether `save` wrote this directory."""
    path = Path(directory) / CONFIG
    if not path.is_file():
        return False
    return read_json(path).get("format") == FORMAT


def load(
    directory: str | Path,
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
    tokenizer: Any = None,
) -> HookedTransformer:
    """Read a model that `save` wrote.

    Args:
        directory: Where it was saved.
        device: None: CUDA where there is one, else the CPU.
        dtype: None: as saved.
        tokenizer: Instead of the saved one.

    Raises:
        InputError: if files or weights are missing, damaged or too many; the message names them.
    """
    from interp.pretrained.tokenizers import load_tokenizer
    from interp.transformer import HookedTransformer

    folder = Path(directory)
    document = read_json(folder / CONFIG)
    if document.get("format") != FORMAT:
        raise InputError(f"{folder / CONFIG} was not written by HookedTransformer.save.")
    if document.get("version") != VERSION or not isinstance(document.get("config"), dict):
        raise InputError(
            f"{folder / CONFIG} must have version {VERSION} and a config. "
            f"It has version {document.get('version')!r}."
        )
    fields = {**document["config"], "device": device}
    if dtype is not None:
        fields["dtype"] = parse_dtype(dtype)
    cfg = HookedTransformerConfig.from_dict(fields)
    model = HookedTransformer.uninitialised(cfg, tokenizer or load_tokenizer(folder))
    read_weights(model, folder / WEIGHTS)
    return model


@torch.no_grad()
def read_weights(model: HookedTransformer, path: Path) -> None:
    """Fill a model from a safetensors file that has exactly its weights, tensor by tensor."""
    if not path.is_file():
        raise InputError(f"{path} does not exist.")
    targets = model.state_dict(keep_vars=True)
    try:
        with safe_open(path, framework="pt") as file:
            compare_names(set(targets), set(file.keys()), str(path))
            for name, target in targets.items():
                weight = file.get_tensor(name)
                if weight.shape != target.shape:
                    raise InputError(
                        f"{name} must be {tuple(target.shape)}. {path} has {tuple(weight.shape)}."
                    )
                target.copy_(weight)
    except SafetensorError as fault:
        raise InputError(f"{path} is damaged: {fault}") from fault


def compare_names(expected: set[str], found: set[str], where: str) -> None:
    """Raise `InputError` unless both sets of weight names are the same."""
    faults = []
    for kind, names in (("missing", expected - found), ("unexpected", found - expected)):
        if names:
            listed = ", ".join(sorted(names)[:8]) + (", …" if len(names) > 8 else "")
            faults.append(f"{len(names)} weight{'s' * (len(names) > 1)} {kind}: {listed}")
    if faults:
        raise InputError(f"{where} does not fit this model: {'; '.join(faults)}.")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        InputError: if it does not exist or holds none.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist.")
    try:
        document = json.loads(path.read_bytes())
    except ValueError as fault:
        raise InputError(f"{path} is damaged: {fault}") from fault
    if not isinstance(document, dict):
        raise InputError(f"{path} must hold a JSON object. It holds a {type(document).__name__}.")
    return document
