"""Opening a trained model: from the zoo, a directory, the hub, or memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from einops import EinopsError
from torch import Tensor

from interp import saving
from interp.config import HookedTransformerConfig, dtype_name, parse_dtype
from interp.errors import InputError
from interp.pretrained.checkpoint import open_weights
from interp.pretrained.family import Family, HfConfig
from interp.pretrained.hub import fetch
from interp.pretrained.registry import family_of
from interp.pretrained.tokenizers import load_tokenizer

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer


def load_model(
    name: str | Path,
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
    revision: str | None = None,
    tokenizer: Any = None,
    allow_pickle: bool = False,
) -> HookedTransformer:
    """Open a trained model, its weights as its authors left them.

    Args:
        name: `zoo:NAME` for a model shipped with interp, a directory (Hugging Face's format, or
            what `HookedTransformer.save` wrote), or a name on the Hugging Face hub.
        device: None: CUDA where there is one, else the CPU.
        dtype: None: that of the weights.
        revision: Of a model on the hub.
        tokenizer: Instead of the one beside the weights.
        allow_pickle: Accept weights that exist in pickled form only.

    Raises:
        InputError: for a name that is not there, an architecture or option that is not supported,
            weights that are missing, unexpected or of the wrong shape.
    """
    if str(name).startswith("zoo:"):
        from interp import zoo

        for argument, value in (("revision", revision), ("tokenizer", tokenizer)):
            if value is not None:
                raise InputError(f"{argument} has no meaning for a zoo model. Received {value!r}.")
        return zoo.load(str(name), device=device, dtype=dtype)
    if not str(name):
        raise InputError("a model must have a name. Received an empty one.")
    folder = Path(name)
    if folder.exists():
        if revision is not None:
            raise InputError(f"revision is for models on the hub; {folder} is a directory.")
        if not folder.is_dir():
            raise InputError(f"a model is a directory. {folder} is a file.")
    elif _looks_like_path(name):
        raise InputError(f"there is no directory {folder}.")
    else:
        folder = fetch(str(name), revision, allow_pickle)
    if saving.is_saved_model(folder):
        return saving.load(folder, device, dtype, tokenizer)
    config = saving.read_json(folder / "config.json")
    weights = open_weights(folder, allow_pickle)
    if tokenizer is None:
        tokenizer = load_tokenizer(folder)
    return _build(str(name), config, weights, tokenizer, device, dtype)


def from_hf(
    hf_model: Any,
    tokenizer: Any = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
) -> HookedTransformer:
    """A HookedTransformer with the weights of a Hugging Face model in memory, copied.

    Args:
        hf_model: A transformers model of a supported family.
        tokenizer: Its tokenizer, for text.
        device: None: the model's.
        dtype: None: the model's.

    Raises:
        InputError: as `load_model`.
    """
    config = hf_model.config.to_dict()
    config["architectures"] = [type(hf_model).__name__]
    name = getattr(hf_model.config, "name_or_path", "") or type(hf_model).__name__
    if device is None:
        device = next(hf_model.parameters()).device
    return _build(name, config, hf_model.state_dict(), tokenizer, device, dtype)


def _looks_like_path(name: str | Path) -> bool:
    text = str(name)
    return isinstance(name, Path) or text.startswith((".", "/", "~")) or text.count("/") > 1


def _build(
    name: str,
    config: HfConfig,
    weights: Mapping[str, Tensor],
    tokenizer: Any,
    device: torch.device | str | None,
    dtype: torch.dtype | str | None,
) -> HookedTransformer:
    from interp.transformer import HookedTransformer

    family = family_of(config)
    theirs = {key.removeprefix(family.prefix): key for key in weights}
    cfg = HookedTransformerConfig(
        **family.make_config(config),
        model_name=name,
        original_architecture=family.architectures[0],
        device=device,
    )
    _check_names(family, cfg, theirs, name)
    if dtype is None:
        embedding = next(their for _, their, _ in family.table(cfg))
        dtype = dtype_name(weights[theirs[embedding]].dtype)
    cfg = cfg.replace(dtype=parse_dtype(dtype))
    model = HookedTransformer.uninitialised(cfg, tokenizer)
    _fill(model, family, weights, theirs)
    return model


def _check_names(
    family: Family, cfg: HookedTransformerConfig, theirs: Mapping[str, str], where: str
) -> None:
    table = list(family.table(cfg))
    expected = {name for _, name, row in table if not row.optional or name in theirs}
    found = {name for name in theirs if not family.is_ignored(name, cfg)}
    saving.compare_names(expected, found, where)


@torch.no_grad()
def _fill(
    model: HookedTransformer,
    family: Family,
    weights: Mapping[str, Tensor],
    theirs: Mapping[str, str],
) -> None:
    targets = model.state_dict(keep_vars=True)
    read, stored = "", torch.empty(0)
    for ours, name, row in family.table(model.cfg):
        if row.optional and name not in theirs:
            continue
        part, _, kind = ours.rpartition(".")
        if model.cfg.groups_queries and kind in ("W_K", "W_V", "b_K", "b_V"):
            ours = f"{part}._{kind}"
        target = targets[ours]
        if name != read:  # several of ours may be parts of one of theirs
            read, stored = name, weights[theirs[name]]
        try:
            weight = row.convert(stored, model.cfg)
        except EinopsError as fault:
            raise _misfit(name, stored, ours, target) from fault
        if weight.shape != target.shape:
            raise _misfit(name, stored, ours, target)
        target.copy_(weight)


def _misfit(name: str, stored: Tensor, ours: str, target: Tensor) -> InputError:
    return InputError(
        f"{name} does not fit the config: {tuple(stored.shape)} cannot be {ours} "
        f"{tuple(target.shape)}."
    )
