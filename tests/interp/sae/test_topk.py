"""The TopK SAE: who is taken, what ties do, and AuxK beside its formula."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st


@settings(max_examples=20, deadline=None)
@given(d_sae=st.integers(1, 9), k=st.integers(1, 9), seed=st.integers(0, 99))
def test_the_largest_are_taken(
    random_sae: Any, inputs: Any, assert_close: Any, d_sae: int, k: int, seed: int
) -> None:
    k = min(k, d_sae)
    sae = random_sae("topk", seed, d_sae=d_sae, k=k, aux_k=0)
    x = inputs(6, seed=seed)
    pre = torch.einsum("bi,iu->bu", x - sae.b_dec, sae.W_enc) + sae.b_enc
    expected = torch.zeros_like(pre)
    for row, out in zip(pre.tolist(), expected, strict=True):
        for u in sorted(range(d_sae), key=lambda u: -row[u])[:k]:
            out[u] = max(row[u], 0.0)
    assert_close(sae.encode(x), expected)
    found = sae.loss(x)
    told = expected @ sae.W_dec + sae.b_dec
    assert_close(found.reconstruction, ((x - told) ** 2).sum(1))
    assert_close(found.total, found.reconstruction.mean())
    assert not found.sparsity.any() and not found.auxiliary.any()


def test_of_equal_units_no_more_than_k_fire(random_sae: Any, inputs: Any) -> None:
    sae, x = random_sae("topk", k=4), inputs(8)
    with torch.no_grad():
        sae.W_enc[:] = sae.W_enc[:, :1]
        sae.b_enc[:] = 10.0
    activations = sae.encode(x)
    assert (activations > 0).sum(1).tolist() == [4] * 8
    assert torch.equal(activations.amax(1), activations.sum(1) / 4)


def test_fewer_fire_where_fewer_are_above_zero(random_sae: Any, inputs: Any) -> None:
    sae = random_sae("topk")
    with torch.no_grad():
        sae.b_enc.fill_(-100.0)
    assert not sae.encode(inputs()).any()


def _aux_by_hand(sae: Any, x: torch.Tensor, dead: torch.Tensor) -> torch.Tensor:
    pre = (x - sae.b_dec) @ sae.W_enc + sae.b_enc
    told = sae.encode(x) @ sae.W_dec + sae.b_dec
    errors = []
    for i, row in enumerate(pre):
        among = [u for u in range(len(row)) if dead[u]]
        among = sorted(among, key=lambda u: -row[u].item())[: sae.cfg.aux_k]
        guess = sum((row[u].relu() * sae.W_dec[u] for u in among), torch.zeros_like(x[i]))
        errors.append((((x[i] - told[i]).detach() - guess) ** 2).sum())
    return sae.cfg.aux_coefficient * torch.stack(errors)


@pytest.mark.parametrize("dead_units", [[0], [1, 4, 7], [0, 1, 2, 3, 4, 6, 8], list(range(9))])
def test_auxk(random_sae: Any, inputs: Any, assert_close: Any, dead_units: list[int]) -> None:
    sae, x = random_sae("topk", aux_coefficient=0.7), inputs()
    dead = torch.zeros(9, dtype=torch.bool)
    dead[dead_units] = True
    found = sae.loss(x, dead=dead)
    expected = _aux_by_hand(sae, x, dead)
    assert_close(found.auxiliary, expected)
    assert_close(found.total, (found.reconstruction + expected).mean())
    names = [name for name, _ in sae.named_parameters()]
    by_hand = ((x - sae(x)) ** 2).sum(1).mean() + expected.mean()
    wanted = torch.autograd.grad(by_hand, list(sae.parameters()))
    for name, a, b in zip(
        names, torch.autograd.grad(found.total, list(sae.parameters())), wanted, strict=True
    ):
        assert_close(a, b, name)


def test_more_auxk_than_units_is_all_units(random_sae: Any, inputs: Any) -> None:
    x, dead = inputs(), torch.arange(9) < 6
    every, more = random_sae("topk", aux_k=9), random_sae("topk", aux_k=50)
    assert every.loss(x, dead=dead).auxiliary.all()
    assert torch.equal(every.loss(x, dead=dead).auxiliary, more.loss(x, dead=dead).auxiliary)


def test_auxk_teaches_dead_units_alone(random_sae: Any, inputs: Any) -> None:
    sae, x = random_sae("topk"), inputs()
    dead = torch.arange(9) < 3
    (gradient,) = torch.autograd.grad(sae.loss(x, dead=dead).auxiliary.sum(), [sae.W_dec])
    assert gradient[dead].any() and not gradient[~dead].any()


def test_without_dead_units_there_is_no_aux_loss(random_sae: Any, inputs: Any) -> None:
    sae, x = random_sae("topk"), inputs()
    nobody = torch.zeros(9, dtype=torch.bool)
    assert not sae.loss(x, dead=nobody).auxiliary.any()
    assert torch.equal(sae.loss(x, dead=nobody).total, sae.loss(x).total)
    without = random_sae("topk", aux_k=0)
    assert not without.loss(x, dead=~nobody).auxiliary.any()
