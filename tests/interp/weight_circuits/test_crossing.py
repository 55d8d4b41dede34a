from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from interp import HookedTransformer, InputError
from interp.weight_circuits import cross_ov_circuit, cross_qk_circuit
from tests.interp.kinds import KINDS
from tests.interp.weight_circuits.isolation import without_biases

Make = Callable[..., HookedTransformer]
Check = Callable[..., None]

BOTH = [name for name, fields in KINDS.items() if fields.get("architecture") == "encoder-decoder"]


def _only_cross(layer: int, head: int | None) -> list[tuple[Callable[[str], bool], Any]]:
    """Hooks under which one head of cross-attention writes (None: none) and nothing else does."""

    def keep(z: Tensor, hook: Any) -> Tensor:
        kept = torch.zeros_like(z)
        if head is not None and hook.name == f"decoder.blocks.{layer}.cross_attn.hook_z":
            kept[:, :, head] = z[:, :, head]
        return kept

    silent = ("hook_mlp_out", "hook_pos_embed", "hook_token_type_embed", "hook_pos_bias")
    return [
        (lambda name: name.endswith("hook_scale"), lambda scale, hook: torch.ones_like(scale)),
        (lambda name: name.endswith(silent), lambda x, hook: torch.zeros_like(x)),
        # Sinks would take a share of the one source token's attention.
        (lambda name: name.endswith("cross_attn.hook_pattern"), lambda x, hook: torch.ones_like(x)),
        (lambda name: name.endswith("hook_z"), keep),
    ]


def _watch(
    model: HookedTransformer, name: str, hooks: list[Any], target: Tensor, source: Tensor
) -> Tensor:
    seen: list[Tensor] = []

    def look(x: Tensor, hook: Any) -> None:
        seen.append(x.detach().clone())

    model.run_with_hooks(source, decoder_input=target, fwd_hooks=[*hooks, (name, look)])
    return seen[0]


@pytest.mark.parametrize("n_layers", [1, 2])
@pytest.mark.parametrize("kind", BOTH)
@torch.no_grad()
def test_circuits_are_what_one_head_does(
    kind: str, n_layers: int, make_model: Make, assert_close: Check
) -> None:
    """Each source token by itself, with every norm's scale at one and nothing else that writes."""
    fields = {**KINDS[kind], "n_layers": n_layers, "dtype": "float64", "attn_scores_soft_cap": -1.0}
    model = without_biases(make_model(**fields))
    every = torch.arange(model.cfg.d_vocab)[:, None]
    target = torch.full_like(every, 5)
    layer, head = model.cfg.n_layers - 1, 2
    with_head = _watch(model, "unembed.hook_out", _only_cross(layer, head), target, every)
    without = _watch(model, "unembed.hook_out", _only_cross(layer, None), target, every)
    moved = (with_head - without)[:, -1]
    assert_close(cross_ov_circuit(model, layer, head).AB, moved, "OV")
    less_mean = moved - moved.mean(-1, keepdim=True)
    assert_close(cross_ov_circuit(model, layer, head, less_mean=True).AB, less_mean, "less mean")
    if model.cfg.qk_norm is not None:
        with pytest.raises(InputError, match="norms of queries and keys"):
            cross_qk_circuit(model, layer, head)
        return
    # Scores of one target token for all source tokens, each at a place of a row of its own.
    name = f"decoder.blocks.{layer}.cross_attn.hook_attn_scores"
    for token in (0, 7):
        scores = _watch(
            model, name, _only_cross(layer, None), torch.full_like(every, token), every
        )[:, head, -1, 0]
        assert_close(cross_qk_circuit(model, layer, head, scaled=True).AB[token], scores, "QK")
    bare = cross_qk_circuit(model, layer, head).AB
    scale = model.decoder.blocks[layer].cross_attn.attn_scale
    assert_close(bare / scale, cross_qk_circuit(model, layer, head, scaled=True).AB, "scale")


def test_what_has_no_such_circuit_is_refused(make_model: Make) -> None:
    with pytest.raises(InputError, match="only an encoder–decoder has cross-attention"):
        cross_ov_circuit(make_model(), 0, 0)
    model = make_model(**KINDS[BOTH[0]])
    with pytest.raises(InputError, match="head must lie in"):
        cross_qk_circuit(model, 0, 4)
    with pytest.raises(InputError, match="layer must lie in"):
        cross_ov_circuit(model, model.cfg.n_layers, 0)
