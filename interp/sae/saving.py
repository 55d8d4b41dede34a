"""A sparse autoencoder as a directory: `config.json` and `model.safetensors`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from interp.atomic import replacing_directory
from interp.config import dtype_name
from interp.errors import InputError
from interp.sae.config import SAEConfig
from interp.sae.make import make_sae
from interp.sae.sae import SparseAutoencoder
from interp.saving import compare_names, read_json

FORMAT = "interp-sae"
VERSION = 1
CONFIG = "config.json"
WEIGHTS = "model.safetensors"


def save_sae(sae: SparseAutoencoder, directory: str | Path) -> Path:
    """Write an SAE; the directory appears whole or not at all, replacing an SAE saved before.

    Raises:
        InputError: if something other than a saved SAE stands there.
    """
    target = Path(directory)
    if target.exists() and not _may_replace(target):
        raise InputError(f"{target} is not a saved SAE: it is left as it is.")
    with replacing_directory(target) as fresh:
        weights = {k: v.detach().cpu().contiguous() for k, v in sae.state_dict().items()}
        save_file(weights, fresh / WEIGHTS, metadata={"format": "pt"})
        # `sae.double()` and its like change the weights, not the config.
        config = {**sae.cfg.to_dict(), "dtype": dtype_name(sae.W_dec.dtype)}
        document = {"format": FORMAT, "version": VERSION, "config": config}
        (fresh / CONFIG).write_text(json.dumps(document, indent=1), encoding="utf-8")
        # safetensors makes its files readable for their owner alone.
        shutil.copymode(fresh / CONFIG, fresh / WEIGHTS)
    return target


def _may_replace(target: Path) -> bool:
    if not target.is_dir():
        return False
    if not any(target.iterdir()):
        return True
    return (target / CONFIG).is_file() and read_json(target / CONFIG).get("format") == FORMAT


def load_sae(directory: str | Path, device: torch.device | str | None = None) -> SparseAutoencoder:
    """Read an SAE that `save_sae` wrote, in the dtype that it was saved in.

    Args:
        directory: Where it was saved.
        device: None: CUDA where there is one, else the CPU.

    Raises:
        InputError: if files or weights are missing, damaged or of another shape.
    """
    folder = Path(directory)
    document = read_json(folder / CONFIG)
    if document.get("format") != FORMAT or document.get("version") != VERSION:
        raise InputError(f"{folder / CONFIG} was not written by save_sae, version {VERSION}.")
    if not isinstance(document.get("config"), dict):
        raise InputError(f"{folder / CONFIG} must have a config.")
    sae = make_sae(SAEConfig.from_dict({**document["config"], "device": device}))
    path = folder / WEIGHTS
    if not path.is_file():
        raise InputError(f"{path} does not exist.")
    try:
        weights = load_file(path)
    except SafetensorError as fault:
        raise InputError(f"{path} is damaged: {fault}") from fault
    compare_names(set(sae.state_dict()), set(weights), str(path))
    for name, target in sae.state_dict().items():
        if weights[name].shape != target.shape or weights[name].dtype != target.dtype:
            raise InputError(
                f"{name} must be {target.dtype} {tuple(target.shape)}. "
                f"{path} has {weights[name].dtype} {tuple(weights[name].shape)}."
            )
    sae.load_state_dict(weights)
    return sae
