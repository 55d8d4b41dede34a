"""The ReLU SAE beside its formulas, written out number by number."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st


@settings(max_examples=15, deadline=None)
@given(
    d_in=st.integers(1, 4),
    d_sae=st.integers(1, 6),
    batch=st.integers(1, 4),
    l1=st.sampled_from([0.0, 0.3, 2.0]),
    scale=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 99),
)
def test_formulas(
    random_sae: Any,
    inputs: Any,
    assert_close: Any,
    d_in: int,
    d_sae: int,
    batch: int,
    l1: float,
    scale: float,
    seed: int,
) -> None:
    sae = random_sae("relu", seed, of_unit_norm=False, d_in=d_in, d_sae=d_sae, l1_coefficient=l1)
    x = inputs(batch, d_in, seed + 1)
    p = {name: value.tolist() for name, value in sae.state_dict().items()}
    total, firing, told = 0.0, [], []
    for row in x.tolist():
        centred = [a - b for a, b in zip(row, p["b_dec"], strict=True)]
        f = [
            max(0.0, sum(centred[i] * p["W_enc"][i][u] for i in range(d_in)) + p["b_enc"][u])
            for u in range(d_sae)
        ]
        out = [
            sum(f[u] * p["W_dec"][u][i] for u in range(d_sae)) + p["b_dec"][i] for i in range(d_in)
        ]
        error = sum((a - b) ** 2 for a, b in zip(row, out, strict=True))
        total += error + l1 * scale * sum(f)
        firing.append(f)
        told.append(out)
    found = sae.loss(x, scale)
    assert_close(found.activations, torch.tensor(firing, dtype=torch.float64))
    assert_close(found.reconstructed, torch.tensor(told, dtype=torch.float64))
    assert_close(found.total, torch.tensor(total / batch, dtype=torch.float64))
    assert_close((found.reconstruction + found.sparsity).mean(), found.total)
    assert not found.auxiliary.any()


def test_gradients(random_sae: Any, inputs: Any) -> None:
    sae, x = random_sae("relu"), inputs(4)
    names = [name for name, _ in sae.named_parameters()]

    def total(*values: torch.Tensor) -> torch.Tensor:
        named = dict(zip(names, values, strict=True))
        pre = (x - named["b_dec"]) @ named["W_enc"] + named["b_enc"]
        f = torch.where(pre > 0, pre, 0.0)
        told = torch.einsum("bu,ui->bi", f, named["W_dec"]) + named["b_dec"]
        return ((x - told) ** 2).sum(1).mean() + 0.3 * f.sum(1).mean()

    sae.loss(x).total.backward()
    values = [p.detach().clone().requires_grad_() for p in sae.parameters()]
    expected = torch.autograd.grad(total(*values), values)
    for name, p, e in zip(names, sae.parameters(), expected, strict=True):
        assert p.grad is not None
        torch.testing.assert_close(p.grad, e, rtol=1e-10, atol=1e-12, msg=name)


def test_initial_units(random_sae: Any) -> None:
    sae = random_sae("relu")
    units = torch.arange(9) % 2 == 0
    before = sae.b_enc.detach().clone()
    sae.init_units_(units)
    assert not sae.b_enc[units].any() and torch.equal(sae.b_enc[~units], before[~units])
