"""Offset scores against plain loops over patterns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from interp import HookedTransformer, InputError, load_model
from interp.behaviour import head_scores, offset_scores, repeated_tokens
from tests.interp.kinds import given_to, with_padding

Kind = Callable[[str], HookedTransformer]


@pytest.mark.parametrize("padded", [None, "left", "right"])
@pytest.mark.parametrize("name", ["gpt2", "gemma2", "bert", "shortformer", "bert-folded-mlm"])
def test_equal_loops_over_patterns(
    kind: Kind, assert_close: Any, name: str, padded: str | None
) -> None:
    model = kind(name)
    run = given_to(model, 3, 7)
    if padded:
        run = with_padding(run, [2, 0, 3], padded == "left")
    real = run.get("attention_mask", torch.ones_like(run["input"])).bool()
    causal = model.main_stack.causal
    offsets = [0, 1, 3] if causal else [-3, -1, 0, 1, 3]
    found = offset_scores(model, offsets=offsets, **run)
    assert list(found.by_offset) == offsets
    _, cache = model.run_with_cache(**run, names_filter="blocks.*.attn.hook_pattern")
    for layer, block in enumerate(model.main_stack.blocks):
        window = block.cfg.window_size if block.local else None
        for offset in offsets:
            values, chances = [], []
            for row in range(3):
                index = real[row].nonzero()[:, 0].tolist()
                n = len(index)
                masses, uniform = [], []
                for i in range(n):
                    j = i - offset
                    if not 1 <= j < n:
                        continue
                    masses.append(cache["pattern", layer][row, :, index[i], index[j]])
                    seen = [
                        s
                        for s in range(n)
                        if (s <= i or not causal) and (window is None or abs(i - s) < window)
                    ]
                    uniform.append((j in seen) / len(seen))
                if masses:
                    values.append(torch.stack(masses).mean(0))
                    chances.append(sum(uniform) / len(uniform))
            of = found.by_offset[offset]
            assert_close(of.values[:, layer], torch.stack(values), f"{layer}, {offset}")
            expected = torch.tensor(chances, dtype=torch.float64)
            assert_close(of.chances[:, layer], expected, f"chance of {layer}, {offset}")


def test_offsets_one_and_zero_have_names(
    make_model: Callable[..., HookedTransformer], assert_close: Any
) -> None:
    model = make_model(dtype="float64", window_size=3, attn_types=["local", "global"])
    tokens = repeated_tokens(model, 5, 7).tokens
    named = head_scores(model, tokens)
    found = offset_scores(model, tokens)
    assert list(found.by_offset) == list(range(8))
    for offset, name in ((0, "same_token"), (1, "previous_token")):
        assert_close(found.by_offset[offset].values, named[name].values)
        assert_close(found.by_offset[offset].chances, named[name].chances)
        assert found.by_offset[offset].n_destinations == named[name].n_destinations


def test_best_offset(make_model: Callable[..., HookedTransformer]) -> None:
    model = make_model()
    tokens = torch.arange(20)[None, :12].repeat(2, 1)

    def write(pattern: Tensor, hook: Any) -> Tensor:
        back = torch.zeros_like(pattern)
        back[:, :, :, 0] = 1
        back[:, 1, 4:] = torch.eye(12)[:8]
        return back

    with model.hooks(fwd_hooks=[("blocks.1.attn.hook_pattern", write)]):
        offset, mass = offset_scores(model, tokens).best()
    assert (int(offset[1, 1]), float(mass[1, 1])) == (4, 1.0)
    assert float(mass[1, 0]) == 0.0  # a sink looks at no distance


def test_induction_heads_look_one_less_than_the_stretch_back() -> None:
    model = load_model("zoo:induction", device="cpu")
    offset, mass = offset_scores(model, repeated_tokens(model, 8, 20).tokens).best()
    assert offset[1].tolist() == [19] * 4
    assert bool((mass[1] > 0.8).all())


def test_bad_input(make_model: Callable[..., HookedTransformer]) -> None:
    tokens = torch.tensor([[1, 2, 3, 4]])
    causal, both_ways = make_model(), make_model(attention_dir="bidirectional")
    for model, offset in ((causal, -1), (causal, 3), (both_ways, -4), (causal, True)):
        with pytest.raises(InputError, match="offsets must lie in"):
            offset_scores(model, tokens, [offset])
    assert offset_scores(both_ways, tokens, [-3]).by_offset[-3].n_destinations == 1
    assert offset_scores(causal, tokens, [2]).by_offset[2].n_destinations == 1
    with pytest.raises(InputError, match="at least one"):
        offset_scores(causal, tokens, [])
    with pytest.raises(InputError, match="two tokens"):
        offset_scores(causal, tokens[:, :1])
    assert list(offset_scores(causal, tokens[:, :2]).by_offset) == [0]
