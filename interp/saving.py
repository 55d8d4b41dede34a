"""A model as a directory: `config.json`, `model.safetensors`, and its tokenizer's files."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Shaped
from safetensors.torch import save_file
from torch import Tensor

from interp.config import HookedTransformerConfig
from interp.devices.device_map import DeviceMap
from interp.devices.parsing import DTYPES, parse_dtype
from interp.errors import InputError
from interp.files import TensorFile, contained, read_json, require_finite, short
from interp.files.atomic import replacing_directory

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

FORMAT = "interp"
VERSION = 1
CONFIG = "config.json"
WEIGHTS = "model.safetensors"

Make = Callable[[HookedTransformerConfig, Any], "HookedTransformer"]
"""Makes a model whose weights are still to be filled in, from its config and tokenizer."""


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
    """Whether `save` wrote this directory.

    Raises:
        InputError: if its config is damaged, or a link out of the directory.
    """
    folder = Path(directory)
    path = contained(folder, folder / CONFIG)
    return os.path.isfile(path) and read_json(path).get("format") == FORMAT


def load(
    directory: str | Path,
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
    tokenizer: Any = None,
    device_map: DeviceMap | None = None,
    make: Make | None = None,
    allow_nonfinite: bool = False,
) -> HookedTransformer:
    """Read a model that `save` wrote.

    What its config asks for is compared with what the weights file holds before memory is taken.

    Args:
        directory: Where it was saved.
        device: None: CUDA where there is one, else the CPU.
        dtype: None: as saved.
        tokenizer: Instead of the saved one.
        device_map: Instead of `device`: as for `load_model`.
        make: Makes the model that is filled. None: an ordinary one.
        allow_nonfinite: Accept weights that are NaN or infinite.

    Raises:
        InputError: if files or weights are missing, damaged, too many, of the wrong shape or not
            finite, or a file is a link out of the directory; the message names them.
    """
    from interp.pretrained.tokenizers import load_tokenizer
    from interp.transformer import HookedTransformer

    folder = Path(directory)
    document = read_json(contained(folder, folder / CONFIG))
    if document.get("format") != FORMAT:
        raise InputError(f"{folder / CONFIG} was not written by HookedTransformer.save.")
    if document.get("version") != VERSION or not isinstance(document.get("config"), dict):
        raise InputError(
            f"{folder / CONFIG} must have version {VERSION} and a config. "
            f"It has version {short(repr(document.get('version')), 40)}."
        )
    fields = {**document["config"], "device": device}
    if dtype is not None:
        fields["dtype"] = parse_dtype(dtype)
    cfg = HookedTransformerConfig.from_dict(fields)
    file = TensorFile(contained(folder, folder / WEIGHTS))
    tokenizer = tokenizer or load_tokenizer(folder)
    require_blocks(cfg, len(file), str(folder))
    outline = outline_of(cfg, tokenizer, str(folder))
    compare_outlines(outline.state_dict(), file)
    if make is not None:
        model = make(cfg, tokenizer)
    else:
        model = HookedTransformer.uninitialised(cfg, tokenizer, device_map)
    read_weights(model, file.path, allow_nonfinite)
    return model


def require_blocks(cfg: HookedTransformerConfig, n_weights: int, where: str) -> None:
    """Raise `InputError` if a config has more blocks than there are weights: each has some."""
    n_blocks = cfg.n_layers + (cfg.n_encoder_layers or 0)
    if n_blocks > n_weights:
        raise InputError(
            f"the config in {where} asks for {n_blocks} layers. Its files hold {n_weights} weights."
        )


def outline_of(cfg: HookedTransformerConfig, tokenizer: Any, where: str) -> HookedTransformer:
    """The model of a config without memory for its weights, to be compared with what a file holds.

    Args:
        cfg: Its config.
        tokenizer: Its tokenizer, or None.
        where: What is read, for errors.

    Raises:
        InputError: for a size that no tensor can have.
    """
    from interp.transformer import HookedTransformer

    try:
        return HookedTransformer.uninitialised(cfg.replace(device="meta"), tokenizer)
    except RuntimeError as fault:
        raise InputError(
            f"the config in {where} asks for impossible sizes: {short(fault)}"
        ) from fault


def compare_outlines(
    targets: Mapping[str, Shaped[Tensor, "..."]], file: TensorFile, same_dtype: bool = False
) -> None:
    """Raise `InputError` unless a file has exactly these weights: names, shapes, a float dtype.

    Args:
        targets: What it must have.
        file: The file.
        same_dtype: Also of the same dtype; without, floats of any width do.
    """
    compare_names(set(targets), set(file), str(file.path))
    for name, target in targets.items():
        found = file.outlines[name]
        if same_dtype and (found.shape, found.dtype) != (target.shape, target.dtype):
            raise InputError(
                f"{name} must be {target.dtype} {tuple(target.shape)}. "
                f"{file.path} has {found.dtype or 'another dtype'} {short(found.shape)}."
            )
        if found.shape != target.shape:
            raise InputError(
                f"{name} must be {tuple(target.shape)}. {file.path} has {short(found.shape)}."
            )
        if target.is_floating_point():
            require_weight_dtype(name, found.dtype, str(file.path))


def require_weight_dtype(name: str, dtype: torch.dtype | None, where: str) -> None:
    """Raise `InputError` unless a dtype is one of floats; quantised numbers would need scales."""
    if dtype not in DTYPES.values():
        told = "another dtype" if dtype is None else dtype
        raise InputError(
            f"weights must be one of {', '.join(DTYPES)}. {where} has {short(name, 100)} in {told}."
        )


@torch.no_grad()
def read_weights(model: torch.nn.Module, path: Path, allow_nonfinite: bool = False) -> None:
    """Fill a model from a safetensors file that has exactly its weights, tensor by tensor.

    Raises:
        InputError: if it does not; the model is then as it was, unless a weight is not finite or
            the file becomes unreadable midway.
    """
    targets = model.state_dict(keep_vars=True)
    file = TensorFile(path)
    compare_outlines(targets, file)
    for name, target in targets.items():
        weight = file[name]
        if not allow_nonfinite:
            require_finite(name, weight, path)
        target.copy_(weight)


def compare_names(expected: set[str], found: set[str], where: str) -> None:
    """Raise `InputError` unless both sets of weight names are the same."""
    faults = []
    for kind, names in (("missing", expected - found), ("unexpected", found - expected)):
        if names:
            listed = ", ".join(short(name, 100) for name in sorted(names)[:8])
            listed += ", …" if len(names) > 8 else ""
            faults.append(f"{len(names)} weight{'s' * (len(names) > 1)} {kind}: {listed}")
    if faults:
        raise InputError(f"{where} does not fit this model: {'; '.join(faults)}.")
