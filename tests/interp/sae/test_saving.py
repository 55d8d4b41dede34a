"""Saved and loaded bit for bit, or refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from interp import InputError
from interp.sae import load_sae, save_sae


@pytest.mark.parametrize("kind", ["relu", "topk", "gated"])
@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_bit_for_bit(kind: str, dtype: str, random_sae: Any, inputs: Any, tmp_path: Path) -> None:
    sae = random_sae(kind, dtype=dtype)
    save_sae(random_sae(kind, seed=5), tmp_path / "sae")
    found = load_sae(save_sae(sae, tmp_path / "sae"), device="cpu")  # over an earlier one
    assert found.cfg == sae.cfg and type(found) is type(sae)
    for name, weight in sae.state_dict().items():
        assert torch.equal(found.state_dict()[name], weight), name
    x = inputs().to(weight.dtype)
    assert torch.equal(found(x), sae(x))
    assert all(p.requires_grad for p in found.parameters())


def test_a_cast_sae_is_saved_as_it_is(random_sae: Any, inputs: Any, tmp_path: Path) -> None:
    sae = random_sae("gated", dtype="float32").double()
    found = load_sae(save_sae(sae, tmp_path / "sae"), device="cpu")
    assert found.cfg.torch_dtype == torch.float64
    assert torch.equal(found(inputs()), sae(inputs()))


def test_what_is_no_sae_is_left_alone(random_sae: Any, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "empty").mkdir()
    for target in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(InputError, match="is not a saved SAE"):
            save_sae(random_sae("relu"), target)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    save_sae(random_sae("relu"), tmp_path / "empty")


def test_damage_is_named(random_sae: Any, tmp_path: Path) -> None:
    folder = save_sae(random_sae("relu"), tmp_path / "sae")
    weights, document = load_file(folder / "model.safetensors"), folder / "config.json"

    def refused(words: str) -> None:
        with pytest.raises(InputError, match=words):
            load_sae(folder, device="cpu")

    save_file({k: v for k, v in weights.items() if k != "b_dec"}, folder / "model.safetensors")
    refused("1 weight missing: b_dec")
    save_file({**weights, "b_dec": torch.zeros(4)}, folder / "model.safetensors")
    refused(r"b_dec must be torch.float64 \(5,\).*has torch.float32 \(4,\)")
    (folder / "model.safetensors").write_bytes(b"nothing")
    refused("is damaged")
    (folder / "model.safetensors").unlink()
    refused("does not exist")
    known = json.loads(document.read_text())
    document.write_text(json.dumps({**known, "version": 9}))
    refused("not written by save_sae")
    document.write_text(json.dumps({**known, "config": None}))
    refused("must have a config")
    document.unlink()
    refused("does not exist")
