"""What all kinds share: initial weights, decoding, inputs of any number of axes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from interp import InputError
from interp.sae import make_sae

KINDS = ["relu", "topk", "gated"]


@pytest.mark.parametrize("kind", KINDS)
def test_initial_weights(kind: str, make_config: Any, assert_close: Any) -> None:
    sae = make_sae(make_config(kind, seed=3))
    assert_close(sae.W_dec.norm(dim=1), torch.ones(9, dtype=torch.float64))
    assert torch.equal(sae.W_enc, sae.W_dec.T) and sae.W_enc.is_contiguous()
    for name, parameter in sae.named_parameters():
        if not name.startswith("W_"):
            assert not parameter.any(), name
    again, other = make_sae(make_config(kind, seed=3)), make_sae(make_config(kind, seed=4))
    assert torch.equal(sae.W_dec, again.W_dec) and not torch.equal(sae.W_dec, other.W_dec)
    half = make_sae(make_config(kind, seed=3, dtype="float32"))
    assert torch.equal(half.W_dec, sae.W_dec.float())


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_of_units_is_listed(kind: str, random_sae: Any) -> None:
    sae = random_sae(kind)
    sizes = {name: list(p.shape) for name, p in sae.named_parameters()}
    assert sizes.pop("b_dec") == [5]
    assert sizes.keys() == sae.UNIT_AXES.keys()
    assert all(sizes[name][axis] == 9 for name, axis in sae.UNIT_AXES.items())


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_its_rows(kind: str, random_sae: Any, inputs: Any, assert_close: Any) -> None:
    sae, x = random_sae(kind), inputs(12)
    activations = sae.encode(x)
    assert (activations >= 0).all() and (activations > 0).any() and (activations == 0).any()
    expected = torch.stack(
        [sum(f * row for f, row in zip(each, sae.W_dec, strict=True)) for each in activations]
    )
    assert_close(sae.decode(activations), expected + sae.b_dec)
    assert_close(sae(x), expected + sae.b_dec)
    assert_close(sae.encode(x.unflatten(0, (3, 4))), activations.unflatten(0, (3, 4)))
    assert_close(sae(x[5]), sae(x)[5])


@pytest.mark.parametrize("kind", KINDS)
def test_other_inputs_are_refused(kind: str, random_sae: Any, inputs: Any) -> None:
    with pytest.raises(InputError, match=r"d_in = 5 numbers. Received shape \(17, 6\)"):
        random_sae(kind)(inputs(d_in=6))
    with pytest.raises(InputError, match=r"must be torch.float64, as the SAE. Received torch.fl"):
        random_sae(kind).encode(inputs().float())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("kind", KINDS)
def test_a_gpu_gives_the_same(kind: str, make_config: Any, inputs: Any, assert_close: Any) -> None:
    here, there = make_sae(make_config(kind)), make_sae(make_config(kind, device="cuda"))
    assert torch.equal(here.W_enc, there.W_enc.cpu())
    dead = torch.tensor([True, False] * 4 + [True])
    a, b = here.loss(inputs(), 0.7, dead), there.loss(inputs().cuda(), 0.7, dead.cuda())
    for name, value in a._asdict().items():
        assert_close(getattr(b, name).cpu(), value, name)
