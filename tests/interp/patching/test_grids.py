"""Names, axes and choices of sites."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from interp import HookedTransformer, InputError, patching

Kind = Callable[[str], HookedTransformer]


@pytest.mark.parametrize(
    ("kind_name", "name", "hooks", "axes"),
    [
        ("gpt2", "resid_pre", "blocks.{}.hook_resid_pre", ("layer", "pos")),
        ("gpt2", "z", "blocks.{}.attn.hook_z", ("layer", "pos", "head")),
        ("gpt2", "pattern", "blocks.{}.attn.hook_pattern", ("layer", "pos", "head")),
        ("gpt2", "mlp.hook_post", "blocks.{}.mlp.hook_post", ("layer", "pos")),
        ("gpt2", "post", "blocks.{}.mlp.hook_post", ("layer", "pos")),
        ("gpt2", "ln2.hook_scale", "blocks.{}.ln2.hook_scale", ("layer", "pos")),
        ("marian", "z", "decoder.blocks.{}.attn.hook_z", ("layer", "pos", "head")),
        ("marian", "cross_attn.hook_z", "decoder.blocks.{}.cross_attn.hook_z", None),
        ("heads-only-translator", "decoder.z", "decoder.blocks.0.attn.hook_z", None),
        ("t5", "encoder.resid_mid", "encoder.blocks.{}.hook_resid_mid", ("layer", "pos")),
    ],
)
def test_a_name_stands_for_a_hook_in_every_layer(
    kind_name: str, name: str, hooks: str, axes: tuple[str, ...] | None, kind: Kind
) -> None:
    model = kind(kind_name)
    found = patching.sites(model, name)
    n_layers = model.cfg.n_layers
    if "encoder." in hooks and not hooks.startswith("decoder"):
        n_layers = model.cfg.n_encoder_layers or 0
    assert found.hooks == tuple(hooks.format(layer) for layer in range(n_layers))
    grid = found.grid(5, 4)
    assert axes is None or grid.axis_names == axes
    assert len(grid.hook_of) == len(next(iter(grid.coordinates.values())))


def test_a_full_name_stands_for_itself(kind: Kind) -> None:
    found = patching.sites(kind("gpt2"), "blocks.1.attn.hook_q_input", heads=[2, -1])
    assert found.hooks == ("blocks.1.hook_q_input",) and found.layers is None
    grid = found.grid(3, 0)
    assert grid.axis_names == ("pos", "head")
    assert grid.labels == ((0, 1, 2), (2, 3))


def test_keys_have_key_heads(kind: Kind) -> None:
    model = kind("llama")
    assert patching.sites(model, "k").grid(2, 0).labels[-1] == (0, 1)
    assert patching.sites(model, "q").grid(2, 0).labels[-1] == (0, 1, 2, 3)
    assert patching.sites(kind("llama-ungrouped"), "v").grid(2, 0).labels[-1] == (0, 1, 2, 3)


@pytest.mark.parametrize("one", [1, [1], (1,), range(1, 2), np.int64(1), [np.int32(1)],
    np.array([1]), torch.tensor([1]), torch.tensor(1), [torch.tensor(1)]])  # fmt: skip
def test_whole_numbers_of_any_kind(one: Any, kind: Kind) -> None:
    found = patching.sites(kind("gpt2"), "z", layers=one, positions=one, heads=one)
    assert found.grid(3, 0).labels == ((1,), (1,), (1,))
    assert found.hooks == ("blocks.1.attn.hook_z",)


@pytest.mark.parametrize(
    ("match", "name", "choices"),
    [
        ("no hook is called", "resid_nowhere", {}),
        ("layers must lie in -2 … 1. Received 2", "z", {"layers": [2]}),
        ("is a single hook", "hook_embed", {"layers": [0]}),
        ("layers must be None, a whole number or", "z", {"layers": [0.5]}),
        ("layers must be None, a whole number or", "z", {"layers": True}),
        ("heads cannot be chosen: resid_pre has no axis head", "resid_pre", {"heads": [0]}),
        ("sources cannot be chosen", "z", {"sources": "each"}),
        ("positions must be 'each', 'all' or", "z", {"positions": "every"}),
        ("positions must be 'each', 'all' or", "z", {"positions": None}),
        ("heads must be 'each', 'all' or", "z", {"heads": [0.5]}),
        ("heads must be 'each', 'all' or", "z", {"heads": [True]}),
        ("heads must be 'each', 'all' or", "z", {"heads": torch.tensor([[1]])}),
        ("sources must be 'each', 'all' or", "pattern", {"sources": torch.tensor([0.5])}),
    ],
)
def test_errors(match: str, name: str, choices: dict[str, Any], kind: Kind) -> None:
    with pytest.raises(InputError, match=match):
        patching.sites(kind("gpt2"), name, **choices)
