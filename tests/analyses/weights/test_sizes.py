from __future__ import annotations

import pytest
import torch

from analyses.weights.sizes import (
    effective_dimensions,
    ov_sizes_table,
    qk_sizes_table,
    singular_values_table,
)
from interp import InputError


def test_effective_dimensions_count_equal_singular_values_and_no_zeros():
    singular = torch.tensor([[2.0, 2.0, 2.0, 0.0], [3.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    assert effective_dimensions(singular).tolist() == [3.0, 1.0, 0.0]
    # (1 + 4)² / (1 + 16)
    assert float(effective_dimensions(torch.tensor([1.0, 2.0]))) == pytest.approx(25 / 17)


def _circuit(left, right):
    """Singular values of a dense product in fp64, as numpy has them."""
    return torch.linalg.svdvals(left.double() @ right.double())


@torch.no_grad()
def test_without_norms_sizes_are_those_of_the_dense_products(make_model):
    model = make_model(normalization_type=None, final_norm=False, n_layers=2)
    ov, qk = ov_sizes_table(model), qk_sizes_table(model)
    assert list(ov["component"]) == [f"L{i}H{h}" for i in range(2) for h in range(4)]
    for i, block in enumerate(model.blocks):
        for h in range(4):
            attn, row = block.attn, 4 * i + h
            singular = _circuit(attn.W_V[h], attn.W_O[h])
            assert ov["ov_norm"][row] == pytest.approx(float(singular.norm()), rel=1e-5)
            wide = float(singular.square().sum() ** 2 / singular.pow(4).sum())
            assert ov["ov_dimensions"][row] == pytest.approx(wide, rel=1e-5)
            scores = _circuit(attn.W_Q[h], attn.W_K[h].T) / attn.attn_scale
            assert qk["qk_norm"][row] == pytest.approx(float(scores.norm()), rel=1e-5)
            wide = float(scores.square().sum() ** 2 / scores.pow(4).sum())
            assert qk["qk_dimensions"][row] == pytest.approx(wide, rel=1e-5)
            table = singular_values_table(model, i, h)
            assert table["singular_value"].tolist() == pytest.approx(
                singular[:6].tolist(), rel=1e-5
            )
            assert table["share"].sum() == pytest.approx(1, abs=1e-10)


@torch.no_grad()
def test_layernorm_is_folded(make_model):
    """The norm's weights and both centrings are in: folded by hand, row by row."""
    model = make_model(normalization_type="LN")
    attn, norm = model.blocks[1].attn, model.blocks[1].ln1
    centre = torch.eye(24).double() - 1 / 24
    front = centre @ torch.diag(norm.w.double())
    W_V, W_O = attn.W_V[2].double(), attn.W_O[2].double()
    singular = _circuit(front @ W_V, W_O @ centre)[:6]
    table = singular_values_table(model, 1, 2)
    assert table["singular_value"].tolist() == pytest.approx(singular.tolist(), rel=1e-5)
    W_Q, W_K = attn.W_Q[2].double(), attn.W_K[2].double()
    scores = _circuit(front @ W_Q, (front @ W_K).T) / attn.attn_scale
    found = qk_sizes_table(model).iloc[4 + 2]
    assert found["qk_norm"] == pytest.approx(float(scores.norm()), rel=1e-5)


@torch.no_grad()
def test_each_stack_of_an_encoder_decoder_has_its_own_heads(make_model):
    model = make_model(
        architecture="encoder-decoder", decoder_start_token_id=0, normalization_type=None,
        final_norm=False,
    )  # fmt: skip
    attentions = {
        "self": [block.attn for block in model.decoder.blocks],
        "encoder": [block.attn for block in model.encoder.blocks],
        "cross": [block.cross_attn for block in model.decoder.blocks],
    }
    for where, layers in attentions.items():
        table = ov_sizes_table(model, where)
        norms = [float((attn.W_V[h] @ attn.W_O[h]).norm()) for attn in layers for h in range(4)]
        assert table["ov_norm"].tolist() == pytest.approx(norms, rel=1e-5)
        singular = torch.linalg.svdvals(layers[1].W_V[3] @ layers[1].W_O[3])[:6]
        found = singular_values_table(model, 1, 3, where)["singular_value"]
        assert found.tolist() == pytest.approx(singular.tolist(), rel=1e-4)


def test_what_is_not_there_is_refused(make_model):
    model = make_model()
    with pytest.raises(InputError, match=r"L0H0 … L1H3\. Received L2H0"):
        singular_values_table(model, 2, 0)
    with pytest.raises(InputError, match="Received L0H-1"):
        singular_values_table(model, 0, -1)
    with pytest.raises(InputError, match="only an encoder–decoder has heads of 'cross'"):
        ov_sizes_table(model, "cross")
    with pytest.raises(InputError, match="where must be one of"):
        ov_sizes_table(model, "decoder")
