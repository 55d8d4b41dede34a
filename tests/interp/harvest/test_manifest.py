"""What a dataset is made of: written, read, and never changed."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from interp.errors import InputError
from interp.harvest.manifest import (
    MANIFEST,
    HookSpec,
    Manifest,
    read_manifest,
    require_same,
    write_manifest,
)
from interp.harvest.settings import HarvestSettings


def _manifest(**changes: Any) -> Manifest:
    hooks = {
        "hook_embed": HookSpec((8,), torch.bfloat16),
        "blocks.0.attn.hook_pattern": HookSpec((2, 6), torch.float16),
    }
    made = Manifest(
        settings=HarvestSettings.make(tuple(hooks), positions=[1, -1], sample=0.5),
        model={"name": "m", "weight_hash": "ab", "cfg": {"n_layers": 1, "device": "cpu"}},
        tokens={"digest": "cd", "n_sequences": 10, "length": 6},
        hooks=hooks,
        sequences_per_shard=4,
        n_shards=3,
    )
    return dataclasses.replace(made, **changes)


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_manifest(tmp_path, _manifest())
    assert read_manifest(tmp_path) == _manifest()
    assert [path.name for path in tmp_path.iterdir()] == [MANIFEST]
    document = json.loads((tmp_path / MANIFEST).read_text())
    assert (document["format"], document["version"]) == ("interp-activations", 1)
    assert read_manifest(tmp_path).plan.n_shards == 3


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["format"], "other"), (["version"], 2), (["settings"], None), (["settings", "seed"], -1),
        (["settings", "hooks"], ["hook_embed"]), (["model"], []), (["model", "cfg"], 3),
        (["model", "weight_hash"], None), (["tokens"], {}), (["tokens", "length"], 0),
        (["tokens", "n_sequences"], True), (["tokens", "digest"], 3), (["hooks"], []),
        (["hooks", "hook_embed"], []), (["hooks", "hook_embed", "dtype"], "complex64"),
        (["hooks", "hook_embed", "dtype"], []), (["hooks", "hook_embed", "shape"], [-1]),
        (["hooks", "hook_embed", "shape"], [1.5]), (["hooks", "hook_embed", "shape"], [1] * 9),
        (["hooks", "hook_embed", "shape"], [10**6, 10**6]), (["tokens", "length"], 10**200),
        (["sequences_per_shard"], 0), (["n_shards"], 4), (["n_shards"], 10**30),
    ],
)  # fmt: skip
def test_a_damaged_one_is_refused(tmp_path: Path, path: list[str], value: Any) -> None:
    document = _manifest().to_dict()
    *parents, last = path
    inner = document
    for name in parents:
        inner = inner[name]
    inner[last] = value
    (tmp_path / MANIFEST).write_text(json.dumps(document))
    with pytest.raises(InputError, match="not a whole manifest"):
        read_manifest(tmp_path)


def test_a_cut_off_or_missing_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_manifest(tmp_path)
    (tmp_path / MANIFEST).write_text(json.dumps(_manifest().to_dict())[:-20])
    with pytest.raises(InputError, match="damaged"):
        read_manifest(tmp_path)


def test_all_that_changed_is_named_and_what_does_not_matter_is_not() -> None:
    before = _manifest()
    cfg = {"n_layers": 1, "device": "cuda", "n_devices": 2}
    require_same(
        Path("out"), before, _manifest(model={"name": "n", "weight_hash": "ab", "cfg": cfg})
    )
    now = _manifest(
        settings=dataclasses.replace(before.settings, seed=5, positions="last"),
        model={"name": "m", "weight_hash": "ef", "cfg": {"n_layers": 2}},
        tokens={**before.tokens, "digest": "gh"},
    )
    with pytest.raises(InputError) as caught:
        require_same(Path("out"), before, now)
    for change in (
        "setting seed: 0 → 5", 'setting positions: [-1, 1] → "last"', 'weight_hash: "ab" → "ef"',
        "model n_layers: 1 → 2", 'tokens digest: "cd" → "gh"',
    ):  # fmt: skip
        assert change in str(caught.value)
    assert "device" not in str(caught.value) and "dtype" not in str(caught.value)
