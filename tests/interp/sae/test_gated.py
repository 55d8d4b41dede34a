"""The gated SAE beside its formulas, and which terms teach which parameters."""

from __future__ import annotations

import math
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.sae import make_sae


@settings(max_examples=15, deadline=None)
@given(
    d_in=st.integers(1, 4),
    d_sae=st.integers(1, 6),
    l1=st.sampled_from([0.0, 0.3]),
    seed=st.integers(0, 99),
)
def test_formulas(
    random_sae: Any, inputs: Any, assert_close: Any, d_in: int, d_sae: int, l1: float, seed: int
) -> None:
    sae = random_sae("gated", seed, of_unit_norm=False, d_in=d_in, d_sae=d_sae, l1_coefficient=l1)
    x = inputs(3, d_in, seed + 1)
    p = {name: value.tolist() for name, value in sae.state_dict().items()}
    firing, totals = [], []
    for row in x.tolist():
        centred = [a - b for a, b in zip(row, p["b_dec"], strict=True)]
        gate, f = [], []
        for u in range(d_sae):
            dot = sum(centred[i] * p["W_enc"][i][u] for i in range(d_in))
            scaled = sum(
                centred[i] * p["W_enc"][i][u] * math.exp(p["r_mag"][u]) for i in range(d_in)
            )
            gate.append(dot + p["b_gate"][u])
            f.append(max(0.0, scaled + p["b_mag"][u]) if gate[u] > 0 else 0.0)
        opened = [max(0.0, g) for g in gate]
        errors = []
        for each in (f, opened):
            out = [
                sum(each[u] * p["W_dec"][u][i] for u in range(d_sae)) + p["b_dec"][i]
                for i in range(d_in)
            ]
            errors.append(sum((a - b) ** 2 for a, b in zip(row, out, strict=True)))
        firing.append(f)
        totals.append(sum(errors) + 0.5 * l1 * sum(opened))
    found = sae.loss(x, 0.5)
    assert_close(found.activations, torch.tensor(firing, dtype=torch.float64))
    assert_close(found.total, torch.tensor(totals, dtype=torch.float64).mean())
    assert_close(found.reconstructed, sae(x))


def _gradients(sae: Any, value: torch.Tensor) -> dict[str, torch.Tensor | None]:
    names = [name for name, _ in sae.named_parameters()]
    found = torch.autograd.grad(value, list(sae.parameters()), allow_unused=True, retain_graph=True)
    return dict(zip(names, found, strict=True))


def _taught(gradients: dict[str, torch.Tensor | None]) -> set[str]:
    return {name for name, g in gradients.items() if g is not None and g.any()}


def test_which_term_teaches_what(random_sae: Any, inputs: Any) -> None:
    sae = random_sae("gated")
    found = sae.loss(inputs())
    for value, taught in (
        # The step passes nothing on to b_gate.
        (found.reconstruction, {"W_enc", "W_dec", "b_dec", "r_mag", "b_mag"}),
        (found.sparsity, {"W_enc", "b_gate", "b_dec"}),
        # b_dec as the encoder subtracts it is learned, b_dec as the decoder adds it is frozen.
        (found.auxiliary, {"W_enc", "b_gate", "b_dec"}),
    ):
        assert _taught(_gradients(sae, value.sum())) == taught


def test_the_auxiliary_decoder_is_a_frozen_copy(
    random_sae: Any, inputs: Any, assert_close: Any
) -> None:
    sae, x = random_sae("gated"), inputs()
    frozen = {name: p.detach().clone() for name, p in sae.named_parameters()}
    gate = (x - sae.b_dec) @ sae.W_enc + sae.b_gate
    told = gate.relu() @ frozen["W_dec"] + frozen["b_dec"]
    f = sae.encode(x)
    by_hand = (
        ((x - f @ sae.W_dec - sae.b_dec) ** 2).sum()
        + 0.3 * gate.relu().sum()
        + ((x - told) ** 2).sum()
    ) / len(x)
    expected = _gradients(sae, by_hand)
    for name, gradient in _gradients(sae, sae.loss(x).total).items():
        assert gradient is not None and expected[name] is not None
        assert_close(gradient, expected[name], name)


def test_initially_it_is_the_relu_sae(make_config: Any, inputs: Any, assert_close: Any) -> None:
    gated, relu = make_sae(make_config("gated")), make_sae(make_config("relu"))
    assert_close(gated.encode(inputs()), relu.encode(inputs()))


def test_initial_units(random_sae: Any) -> None:
    sae = random_sae("gated")
    units = torch.arange(9) < 4
    sae.init_units_(units)
    for parameter in (sae.b_gate, sae.r_mag, sae.b_mag):
        assert not parameter[:4].any() and parameter[4:].all()
