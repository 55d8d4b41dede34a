"""`manifest.json`: what a dataset is made of, decided before its first shard and never changed."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from interp.devices.parsing import dtype_name
from interp.errors import InputError, is_whole, require
from interp.files import read_json
from interp.files.atomic import replacing_file
from interp.files.disk import disk_errors, sync_directory
from interp.harvest.plan import ShardPlan
from interp.harvest.settings import HarvestSettings

FORMAT = "interp-activations"
VERSION = 1
MANIFEST = "manifest.json"

STORED_DTYPES: dict[str, torch.dtype] = {
    dtype_name(dtype): dtype
    for dtype in (
        torch.float64, torch.float32, torch.bfloat16, torch.float16,
        torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
    )
}  # fmt: skip

_MOST = 2**31  # sequences, tokens of one, numbers of a row: products of two of them fit into int64

# What of a model's config says nothing about what it computes.
_NOT_COMPARED = ("device", "n_devices", "model_name")


@dataclass(frozen=True)
class HookSpec:
    """How the rows of one hook are stored.

    Attributes:
        shape: Of one row, without the row axis: `(d_model,)`, `(n_heads, d_head)`, …
        dtype: As stored.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class Manifest:
    """What a dataset is made of.

    Attributes:
        settings: With the hooks' full names.
        model: `name`, `weight_hash` and `cfg` of the model.
        tokens: `digest`, `n_sequences`, `length`, `n_documents` and `n_tokens` of the token store.
        hooks: Hook name → how its rows are stored, in the order of the module tree.
        sequences_per_shard: See `ShardPlan`.
        n_shards: How many shards the complete dataset has.
    """

    settings: HarvestSettings
    model: Mapping[str, Any]
    tokens: Mapping[str, Any]
    hooks: Mapping[str, HookSpec]
    sequences_per_shard: int
    n_shards: int

    @property
    def plan(self) -> ShardPlan:
        """Which sequences each shard has."""
        return ShardPlan(
            n_sequences=self.tokens["n_sequences"],
            sequences_per_shard=self.sequences_per_shard,
            batch_size=self.settings.batch_size,
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        hooks = {
            name: {"shape": list(spec.shape), "dtype": dtype_name(spec.dtype)}
            for name, spec in self.hooks.items()
        }
        return {
            "format": FORMAT,
            "version": VERSION,
            "settings": self.settings.to_dict(),
            "model": dict(self.model),
            "tokens": dict(self.tokens),
            "hooks": hooks,
            "sequences_per_shard": self.sequences_per_shard,
            "n_shards": self.n_shards,
        }

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Manifest:
        """What `to_dict` gave.

        Raises:
            InputError: for another format or version, and for parts that are missing or do not fit
                together.
        """
        require(
            found.get("format") == FORMAT and found.get("version") == VERSION,
            f"a manifest must have the format {FORMAT!r}, version {VERSION}. Received "
            f"{found.get('format')!r:.80}, version {found.get('version')!r:.80}",
        )
        for part in ("settings", "model", "tokens", "hooks"):
            require(isinstance(found.get(part), dict), f"a manifest must have {part}: an object")
        for part in ("sequences_per_shard", "n_shards"):
            require(
                is_whole(found.get(part), 1),
                f"{part} must be a whole number of at least 1. Received {found.get(part)!r:.80}",
            )
        _check_parts(found["model"], found["tokens"])
        hooks = {name: _spec(name, spec) for name, spec in found["hooks"].items()}
        manifest = cls(
            HarvestSettings.from_dict(found["settings"]),
            found["model"],
            found["tokens"],
            hooks,
            found["sequences_per_shard"],
            found["n_shards"],
        )
        require(
            tuple(hooks) == manifest.settings.hooks,
            "a manifest's hooks must be those of its settings",
        )
        require(
            manifest.plan.n_shards == manifest.n_shards,
            f"n_shards must be what n_sequences and sequences_per_shard give: "
            f"{manifest.plan.n_shards}. Received {manifest.n_shards}",
        )
        return manifest


def _check_parts(model: Mapping[str, Any], tokens: Mapping[str, Any]) -> None:
    require(
        isinstance(model.get("weight_hash"), str) and isinstance(model.get("cfg"), dict),
        "a manifest's model must have a weight_hash and a cfg",
    )
    require(isinstance(tokens.get("digest"), str), "a manifest's tokens must have a digest")
    for count in ("n_sequences", "length"):
        require(
            is_whole(tokens.get(count), 1) and tokens[count] < _MOST,
            f"{count} of a manifest's tokens must be a whole number of at least 1, below 2**31. "
            f"Received {tokens.get(count)!r:.80}",
        )


def _spec(name: str, found: object) -> HookSpec:
    fits = (
        isinstance(found, dict)
        and set(found) == {"shape", "dtype"}
        and isinstance(found["shape"], list)
        and len(found["shape"]) <= 8
        and all(is_whole(size, 0) for size in found["shape"])
        and math.prod(found["shape"]) < _MOST
        and found["dtype"] in tuple(STORED_DTYPES)
    )
    if not fits:
        raise InputError(f"a hook must have a shape and a dtype. {name!r:.80}: {found!r:.200}.")
    assert isinstance(found, dict)
    return HookSpec(tuple(found["shape"]), STORED_DTYPES[found["dtype"]])


def read_manifest(out: Path) -> Manifest:
    """The manifest of a dataset.

    Raises:
        InputError: if there is none, or it is damaged.
    """
    path = out / MANIFEST
    document = read_json(path)
    try:
        return Manifest.from_dict(document)
    except InputError as fault:
        raise InputError(f"{path} is not a whole manifest: {fault}") from fault


def write_manifest(out: Path, manifest: Manifest) -> None:
    """Write the manifest, whole or not at all.

    Raises:
        DiskError: if it cannot be written.
    """
    with disk_errors(out):
        with replacing_file(out / MANIFEST) as fresh, fresh.open("w", encoding="utf-8") as file:
            json.dump(manifest.to_dict(), file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        sync_directory(out)


def require_same(out: Path, before: Manifest, now: Manifest) -> None:
    """Check that a dataset that was begun goes on as what it is.

    Raises:
        InputError: naming everything that is not what it was.
    """
    old, new = _compared(before), _compared(now)
    changed = [
        f"{name}: {_shown(old.get(name))} → {_shown(new.get(name))}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]
    if changed:
        raise InputError(
            f"a harvest must go on with what it began with. {out} was begun with other things: "
            f"{'; '.join(changed)}."
        )


def _compared(manifest: Manifest) -> dict[str, Any]:
    """Every value that must not change, by a name for readers."""
    whole = json.loads(json.dumps(manifest.to_dict()))  # tuples and lists are the same
    found = {"model weight_hash": whole["model"]["weight_hash"]}
    for part, values in {
        "setting": whole["settings"],
        "tokens": whole["tokens"],
        "hook": whole["hooks"],
        "model": whole["model"]["cfg"],
    }.items():
        found |= {f"{part} {k}": v for k, v in values.items() if k not in _NOT_COMPARED}
    return found


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else f"{text[:119]}…"
