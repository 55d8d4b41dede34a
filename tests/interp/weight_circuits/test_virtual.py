from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from interp import HookedTransformer, InputError, load_model
from interp.weight_circuits import (
    composed_qk_circuit,
    composition_scores,
    copying_score,
    diagonal_in_top,
    virtual_ov,
    virtual_ov_circuit,
    virtual_ov_norms,
    virtual_pattern,
)
from interp.zoo import known
from tests.interp.kinds import KINDS
from tests.interp.weight_circuits.isolation import alone, every_token, seen, without_biases

Make = Callable[..., HookedTransformer]
Check = Callable[..., None]
FIRST, SECOND = (0, 1), (1, 3)
KEPT = ["gpt2", "llama", "neox", "no-norm", "gemma2", "olmo2", "mixtral-post", "marian", "bloom"]


def _made(make_model: Make, kind: str) -> HookedTransformer:
    fields = {**KINDS[kind], "dtype": "float64", "attn_scores_soft_cap": -1.0, "n_heads": 4}
    return without_biases(make_model(**{**fields, "d_head": 6, "n_layers": 2}))


@pytest.mark.parametrize("kind", KEPT)
def test_both_heads_less_each_alone(kind: str, make_model: Make, assert_close: Check) -> None:
    model = _made(make_model, kind)
    tokens = every_token(model)

    def logits(*heads: tuple[int, int]) -> torch.Tensor:
        return seen(model, tokens, "unembed.hook_out", alone(model, heads))[:, -1]

    both = logits(FIRST, SECOND) - logits(FIRST) - logits(SECOND) + logits()
    circuit = virtual_ov_circuit(model, FIRST, SECOND)
    assert_close(circuit.AB, both)
    assert circuit.mdim == 6
    less_mean = virtual_ov_circuit(model, FIRST, SECOND, less_mean=True).AB
    assert_close(less_mean, both - both.mean(-1, keepdim=True))


@pytest.mark.parametrize("kind", KEPT)
@pytest.mark.parametrize("mode", ["Q", "K"])
def test_scores_through_a_head(kind: str, mode: Any, make_model: Make, assert_close: Check) -> None:
    """The first head writes at the source (K) or the destination (Q) alone."""
    model = _made(make_model, kind)
    n = model.cfg.d_vocab
    pairs = torch.cartesian_prod(torch.arange(n), torch.arange(n))  # key, query
    distance = int(model.cfg.positional_embedding_type == "rotary")
    name = f"blocks.{SECOND[0]}.attn.hook_attn_scores"
    at = {FIRST: [0 if mode == "K" else 1]}
    through = seen(model, pairs, name, alone(model, [FIRST], at))
    straight = seen(model, pairs, name, alone(model))
    expected = (through - straight)[:, SECOND[1], 1, 0].view(n, n).T
    found = composed_qk_circuit(model, FIRST, SECOND, mode, distance=distance, scaled=True)
    assert_close(found.AB, expected)


def test_norm_is_v_composition(make_model: Make, assert_close: Check) -> None:
    model = make_model(dtype="float64").process_weights()
    OV = model.OV
    scores = composition_scores(model, "V")
    for i in range(4):
        for j in range(4):
            found = virtual_ov(model, (0, i), (1, j))
            assert_close(found.AB, OV[0, i].AB @ OV[1, j].AB)
            assert_close(found.norm() / (OV[0, i].norm() * OV[1, j].norm()), scores[0, i, 1, j])


@pytest.mark.parametrize("kind", KEPT)
def test_norms_of_all_pairs(kind: str, make_model: Make, assert_close: Check) -> None:
    types = {"attn_types": None}
    model = make_model(**{**KINDS[kind], **types, "dtype": "float64", "n_layers": 3})
    found = virtual_ov_norms(model)
    n_heads = model.cfg.n_heads
    expected = torch.zeros_like(found)
    with torch.no_grad():
        for i, j in ((0, 1), (0, 2), (1, 2)):
            for a in range(n_heads):
                for b in range(n_heads):
                    expected[i, a, j, b] = virtual_ov(model, (i, a), (j, b)).AB.norm()
    assert_close(found, expected)


def test_pattern(make_model: Make, assert_close: Check) -> None:
    model = make_model(dtype="float64")
    tokens = torch.tensor([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])
    _, cache = model.run_with_cache(tokens, names_filter="blocks.*.attn.hook_pattern")
    found = virtual_pattern(cache, FIRST, SECOND)
    first, second = cache["pattern", 0][:, 1], cache["pattern", 1][:, 3]
    expected = torch.zeros_like(first)
    for to in range(5):
        for by in range(5):
            expected[:, to] += second[:, to, by, None] * first[:, by]
    assert_close(found, expected)
    assert_close(found.sum(-1), torch.ones_like(found.sum(-1)))
    _, one = model.run_with_cache(tokens[:1], remove_batch_dim=True)
    assert_close(virtual_pattern(one, FIRST, SECOND), expected[0])
    _, less = model.run_with_cache(tokens, names_filter="blocks.1.attn.hook_pattern")
    with pytest.raises(InputError, match=r"record blocks\.0\.attn\.hook_pattern"):
        virtual_pattern(less, FIRST, SECOND)


def test_known_induction_model(assert_close: Check) -> None:
    """Through the previous-token head, keys match the token itself: sharpness · identity."""
    truth = known.induction(sharpness=5.0)
    found = composed_qk_circuit(truth.model, (0, 0), (1, 1), "K", scaled=True)
    assert_close(found.AB, 5.0 * torch.eye(32, dtype=torch.float64))
    assert float(copying_score(found)) == pytest.approx(1.0)
    nothing = composed_qk_circuit(truth.model, (0, 0), (1, 0), "K")
    assert float(nothing.norm().detach()) == 0.0
    # Two tokens back: the pattern of both heads from the last position is the token that followed
    # the earlier copy, one before.
    _, cache = truth.model.run_with_cache(truth.clean)
    virtual = virtual_pattern(cache, (0, 0), (1, 1))[:, -1]
    source = virtual.argmax(-1)
    last = truth.clean[:, -1]
    assert torch.equal(truth.clean.gather(1, source[:, None])[:, 0], last)


def test_zoo_induction() -> None:
    """Keys through both previous-token heads match the token that the query holds."""
    model = load_model("zoo:induction", dtype="float64")
    for first in (1, 2):
        for second in range(4):
            circuit = composed_qk_circuit(model, (0, first), (1, second), "K")
            assert float(copying_score(circuit)) > 0.99
            assert float(diagonal_in_top(circuit).double().mean()) > 0.95
            other = composed_qk_circuit(model, (0, 3), (1, second), "K")
            assert circuit.norm() > 4 * other.norm()


def test_order(make_model: Make) -> None:
    model = make_model()
    for make in (virtual_ov, virtual_ov_circuit, composed_qk_circuit):
        with pytest.raises(InputError, match="in a later layer"):
            make(model, SECOND, FIRST)  # type: ignore[operator]
        with pytest.raises(InputError, match="head must lie"):
            make(model, (0, 4), SECOND)  # type: ignore[operator]
    with pytest.raises(InputError, match="mode must be"):
        composed_qk_circuit(model, FIRST, SECOND, "V")  # type: ignore[arg-type]
    _, cache = model.run_with_cache(torch.tensor([[1, 2]]))
    with pytest.raises(InputError, match="in a later layer"):
        virtual_pattern(cache, SECOND, FIRST)
    with pytest.raises(InputError, match="head must lie"):
        virtual_pattern(cache, (0, 9), SECOND)
