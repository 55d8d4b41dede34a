"""Opening a trained model: from the zoo, a directory, the hub, or memory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from einops import EinopsError
from torch import Tensor

from interp import saving
from interp.config import HookedTransformerConfig
from interp.devices.device_map import DeviceMap
from interp.devices.parsing import dtype_name, parse_dtype
from interp.errors import InputError, is_whole, require
from interp.files import contained, read_json, short
from interp.pretrained.checkpoint import SafetensorsWeights, open_weights
from interp.pretrained.family import Family, HfConfig, Row
from interp.pretrained.hub import fetch
from interp.pretrained.proof import open_hf_model, require_proof
from interp.pretrained.registry import family_of
from interp.pretrained.tokenizers import load_tokenizer

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

# What a value of the wrong kind or size in a config can raise where a family reads it.
_ODD_VALUE = (TypeError, LookupError, ValueError, AttributeError, ArithmeticError, RecursionError)
Table = list[tuple[str, str, Row]]  # our name, theirs, and how to get from theirs to ours


def load_model(
    name: str | Path,
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
    revision: str | None = None,
    tokenizer: Any = None,
    allow_pickle: bool = False,
    verify: bool = False,
    device_map: DeviceMap | None = None,
    make: saving.Make | None = None,
    allow_nonfinite: bool = False,
) -> HookedTransformer:
    """Open a trained model, its weights as its authors left them.

    They are read one tensor at a time, each onto its device: beside the model, memory holds the
    largest of them.

    Args:
        name: `zoo:NAME` for a model shipped with interp, a directory (Hugging Face's format, or
            what `HookedTransformer.save` wrote), or a name on the Hugging Face hub.
        device: None: CUDA where there is one, else the CPU.
        dtype: None: that of the weights.
        revision: Of a model on the hub.
        tokenizer: Instead of the one beside the weights.
        allow_pickle: Accept weights that exist in pickled form only.
        verify: Let the model prove itself (`interp.pretrained.proof.prove`); one in Hugging Face's
            format also beside transformers' own, which takes the memory of a second one.
        device_map: Instead of `device`: spread the model over several, `"balanced"`, `"auto"`, a
            list, or part by part (see `interp.devices.device_map.DeviceMap`).
        make: Makes the model that the weights are read into, from its config and tokenizer. None:
            an ordinary one.
        allow_nonfinite: Accept weights that are NaN or infinite, as those of a run that diverged.

    Raises:
        InputError: for a name that is not there, an architecture or option that is not supported,
            files that are damaged or lead out of the directory, weights that are missing,
            unexpected, of the wrong shape or not finite, or a proof that fails.
    """
    _one_of_both(device, device_map)
    if str(name).startswith("zoo:"):
        from interp import zoo

        for argument, value in (
            ("revision", revision),
            ("tokenizer", tokenizer),
            ("allow_nonfinite", allow_nonfinite or None),
        ):
            if value is not None:
                raise InputError(f"{argument} has no meaning for a zoo model. Received {value!r}.")
        if device_map is not None:
            model = zoo.load(str(name), device="cpu", dtype=dtype).to_devices(device_map)
        else:
            model = zoo.load(str(name), device=device, dtype=dtype)
        return _proven(model, verify)
    require(
        isinstance(name, str | os.PathLike),
        f"a model is named by a text or a path. Received {name!r:.80}",
    )
    if not str(name):
        raise InputError("a model must have a name. Received an empty one.")
    folder = Path(name)
    if os.path.exists(folder):  # of a name that no file can have: False
        if revision is not None:
            raise InputError(f"revision is for models on the hub; {folder} is a directory.")
        if not folder.is_dir():
            raise InputError(f"a model is a directory. {folder} is a file.")
    elif _looks_like_path(name):
        raise InputError(f"there is no directory {folder}.")
    else:
        folder = fetch(str(name), revision, allow_pickle)
    if saving.is_saved_model(folder):
        model = saving.load(folder, device, dtype, tokenizer, device_map, make, allow_nonfinite)
        return _proven(model, verify)
    config = read_json(contained(folder, folder / "config.json"))
    weights = open_weights(folder, allow_pickle, allow_nonfinite)
    if tokenizer is None:
        tokenizer = load_tokenizer(folder)
    generation = folder / "generation_config.json"
    if generation.is_file():
        config = {**config, **_generation_fields(read_json(contained(folder, generation)))}
    model = _build(str(name), config, weights, tokenizer, device, dtype, device_map, make)
    if verify:
        architecture = family_of(config).architectures[0]
        hf_model = open_hf_model(folder, config, architecture, model.cfg.dtype)
        require_proof(model, hf_model)
    return model


def _proven(model: HookedTransformer, verify: bool) -> HookedTransformer:
    if verify:
        require_proof(model)
    return model


def from_hf(
    hf_model: Any,
    tokenizer: Any = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
    verify: bool = False,
    device_map: DeviceMap | None = None,
) -> HookedTransformer:
    """A HookedTransformer with the weights of a Hugging Face model in memory, copied.

    Args:
        hf_model: A transformers model of a supported family.
        tokenizer: Its tokenizer, for text.
        device: None: the model's.
        dtype: None: the model's.
        verify: Compare its logits with `hf_model`'s, and check what holds for any model.
        device_map: As for `load_model`.

    Raises:
        InputError: as `load_model`.
    """
    _one_of_both(device, device_map)
    config = hf_model.config.to_dict()
    config["architectures"] = [type(hf_model).__name__]
    generation = getattr(hf_model, "generation_config", None)
    if generation is not None:
        config |= _generation_fields(generation.to_dict())
    name = getattr(hf_model.config, "name_or_path", "") or type(hf_model).__name__
    if device is None:
        device = next(hf_model.parameters()).device
    model = _build(name, config, hf_model.state_dict(), tokenizer, device, dtype, device_map)
    if verify:
        require_proof(model, hf_model)
    return model


def _generation_fields(generation: Mapping[str, Any]) -> dict[str, Any]:
    """What of a generation config says which tokens are never written."""
    words = generation.get("bad_words_ids")
    return {} if words is None else {"bad_words_ids": words}


def _never_written(config: HfConfig) -> tuple[int, ...]:
    """The single tokens among their bad words."""
    words = config.get("bad_words_ids") or ()
    if not isinstance(words, list | tuple) or not all(_is_tokens(word) for word in words):
        raise InputError(f"bad_words_ids must be lists of tokens. Received {short(words, 80)}.")
    return tuple(sorted({word[0] for word in words if len(word) == 1}))


def _is_tokens(word: object) -> bool:
    return isinstance(word, list | tuple) and all(is_whole(token, 0) for token in word)


def _one_of_both(device: torch.device | str | None, device_map: DeviceMap | None) -> None:
    if device is not None and device_map is not None:
        raise InputError(f"device and device_map exclude each other. Received device={device!r}.")


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
    device_map: DeviceMap | None,
    make: saving.Make | None = None,
) -> HookedTransformer:
    from interp.transformer import HookedTransformer

    family = family_of(config)
    theirs = family.names(weights)
    family = family.stored_as(theirs)
    try:
        fields = family.make_config(config)
    except _ODD_VALUE as fault:
        if isinstance(fault, InputError):
            raise
        told = short(repr(fault))
        raise InputError(f"the config.json of {name} cannot be read: {told}") from fault
    cfg = HookedTransformerConfig(
        **fields,
        model_name=name,
        suppress_tokens=_never_written(config),
        original_architecture=family.class_of(config),
        device=device,
    )
    if cfg.tie_word_embeddings and _has_own_unembedding(family, weights, theirs):
        cfg = cfg.replace(tie_word_embeddings=False)
    saving.require_blocks(cfg, len(weights), name)
    table = list(family.table(cfg, config))
    _check_names(family, cfg, table, theirs, name)
    _check_copies(family, weights, theirs)
    if dtype is None:
        embedding = next(their for _, their, _ in table)
        dtype = dtype_name(weights[theirs[embedding]].dtype)
    cfg = cfg.replace(dtype=parse_dtype(dtype))
    # Filled without memory at first: shapes that do not fit are found before any is taken.
    used = {theirs[their] for _, their, _ in table if their in theirs}
    outlines = {each: _outline(weights, each, name) for each in used}
    _fill(saving.outline_of(cfg, tokenizer, name), table, outlines, theirs)
    if make is not None:
        model = make(cfg, tokenizer)
    else:
        model = HookedTransformer.uninitialised(cfg, tokenizer, device_map)
    _fill(model, table, weights, theirs)
    return model


def _outline(weights: Mapping[str, Tensor], name: str, where: str) -> Tensor:
    """A weight's shape and dtype as a tensor without memory."""
    if isinstance(weights, SafetensorsWeights):
        return weights.outline(name)
    saving.require_weight_dtype(name, weights[name].dtype, where)
    return torch.empty_like(weights[name], device="meta")


def _check_names(
    family: Family,
    cfg: HookedTransformerConfig,
    table: Table,
    theirs: Mapping[str, str],
    where: str,
) -> None:
    expected = {name for _, name, row in table if not row.optional or name in theirs}
    found = {name for name in theirs if name in expected or not family.is_ignored(name, cfg)}
    saving.compare_names(expected, found, where)


def _has_own_unembedding(
    family: Family, weights: Mapping[str, Tensor], theirs: Mapping[str, str]
) -> bool:
    """Whether there is an unembedding that differs from the embedding, whatever the config says."""
    stored = [theirs.get(family.source_of(ours) or "") for ours in ("embed.W_E", "unembed.W_U")]
    embedding, unembedding = stored
    if embedding is None or unembedding is None:
        return False
    return not _same(weights[embedding], weights[unembedding])


def _check_copies(family: Family, weights: Mapping[str, Tensor], theirs: Mapping[str, str]) -> None:
    for copy, original in family.copies:
        if copy in theirs and not _same(weights[theirs[copy]], weights[theirs[original]]):
            raise InputError(
                f"{copy} must be the same as {original}: separate ones are not supported yet."
            )


def _same(a: Tensor, b: Tensor) -> bool:
    if a.shape == b.shape and a.stride() == b.stride() and a.data_ptr() == b.data_ptr():
        return True
    return a.shape == b.shape and torch.equal(a, b.to(a.dtype))


@torch.no_grad()
def _fill(
    model: HookedTransformer,
    table: Table,
    weights: Mapping[str, Tensor],
    theirs: Mapping[str, str],
) -> None:
    targets = model.state_dict(keep_vars=True)
    read, stored = "", torch.empty(0)
    for ours, name, row in table:
        if row.optional and name not in theirs:
            continue
        part, _, kind = ours.rpartition(".")
        if model.cfg.groups_queries and kind in ("W_K", "W_V", "b_K", "b_V"):
            ours = f"{part}._{kind}"
        ours, _, expert = ours.partition("[")
        target = targets[ours]
        if expert:
            target = target[int(expert.rstrip("]"))]
        if name != read:  # several of ours may be parts of one of theirs
            read, stored = name, weights[theirs[name]]
        try:
            weight = row.convert(stored, model.cfg)
        except (EinopsError, RuntimeError) as fault:
            raise _misfit(name, stored, ours, target) from fault
        if weight.shape != target.shape:
            raise _misfit(name, stored, ours, target)
        target.copy_(weight)
        if row.add:
            target.add_(row.add)


def _misfit(name: str, stored: Tensor, ours: str, target: Tensor) -> InputError:
    return InputError(
        f"{name} does not fit the config: {tuple(stored.shape)} cannot be {ours} "
        f"{tuple(target.shape)}."
    )
