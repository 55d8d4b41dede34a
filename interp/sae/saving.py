"""A sparse autoencoder as a directory: `config.json` and `model.safetensors`."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from interp.devices.parsing import dtype_name
from interp.errors import InputError
from interp.files import TensorFile, contained, read_json, require_finite
from interp.files.atomic import replacing_directory
from interp.sae.config import SAEConfig
from interp.sae.make import make_sae
from interp.sae.sae import SparseAutoencoder
from interp.saving import compare_outlines

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
        InputError: if files or weights are missing, damaged, of another shape or dtype or not
            finite, or a file is a link out of the directory.
    """
    folder = Path(directory)
    document = read_json(contained(folder, folder / CONFIG))
    if document.get("format") != FORMAT or document.get("version") != VERSION:
        raise InputError(f"{folder / CONFIG} was not written by save_sae, version {VERSION}.")
    if not isinstance(document.get("config"), dict):
        raise InputError(f"{folder / CONFIG} must have a config.")
    cfg = SAEConfig.from_dict({**document["config"], "device": device})
    file = TensorFile(contained(folder, folder / WEIGHTS))
    _require_room(cfg, file)
    sae = make_sae(cfg)
    compare_outlines(sae.state_dict(), file, same_dtype=True)
    for name, weight in file.items():
        require_finite(name, weight, file.path)
    sae.load_state_dict(dict(file))
    return sae


def _require_room(cfg: SAEConfig, file: TensorFile) -> None:
    """Check that the file holds a dictionary of the config's size, before memory is taken for it.

    An SAE makes its weights as it is made, so there is none without memory to compare with.
    """
    wanted = cfg.d_in * cfg.d_sae
    found = max((math.prod(outline.shape) for outline in file.outlines.values()), default=0)
    if found < wanted:
        raise InputError(
            f"{file.path} must hold {cfg.d_sae} units of {cfg.d_in} numbers. Its largest weight "
            f"has {found}."
        )
