"""Circuits of weights beside TransformerLens 4 on the same weights."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch

from interp import HookedTransformer
from interp.weight_circuits import (
    composition_scores,
    copying_score,
    copying_scores,
    ov_circuit,
    qk_circuit,
    virtual_ov,
)

lens = pytest.importorskip("transformer_lens", reason="needs the extra 'lens'")
WITHIN = 1e-4


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def pair(request: pytest.FixtureRequest, make_bridge: Any, symbols: Any) -> tuple[Any, Any]:
    """A processed model and its bridge in compatibility mode."""
    hf_model = request.getfixturevalue(f"hf_{request.param}")(vocab_size=len(symbols))
    ours = HookedTransformer.from_hf(hf_model, symbols).process_weights()
    return ours, make_bridge(hf_model, "processed", symbols)


@torch.no_grad()
def test_composition(pair: tuple[Any, Any], assert_close: Any) -> None:
    ours, theirs = pair
    modes: tuple[Literal["Q", "K", "V"], ...] = ("Q", "K", "V")
    for mode in modes:
        expected = theirs.all_composition_scores(mode)
        assert float(expected.max()) > 0.1
        for norms in (False, True):  # folded: there is nothing left to put in
            found = composition_scores(ours, mode, norms)
            assert_close(found, torch.as_tensor(expected), mode, tolerance=WITHIN)


@torch.no_grad()
def test_full_circuits(pair: tuple[Any, Any], assert_close: Any) -> None:
    """Their weights in their FactoredMatrix; ours with everything in place, folded or raw."""
    ours, theirs = pair
    for layer, head in ((0, 1), (1, 2)):
        OV, QK = theirs.OV[layer, head], theirs.QK[layer, head]  # per query head, also grouped
        ov = lens.FactoredMatrix(theirs.W_E @ OV.A, OV.B @ theirs.W_U)
        found = ov_circuit(ours, layer, head)
        assert_close(found.AB, ov.AB, "OV", tolerance=WITHIN)
        assert_close(found.S, ov.S, "singular values", tolerance=WITHIN)
        assert_close(found.norm(), ov.norm(), "norm", tolerance=WITHIN)
        values = ov.eigenvalues
        score = values.real.sum() / values.abs().sum()
        assert_close(copying_score(found).float(), score, "copying", tolerance=WITHIN)
        assert_close(
            copying_scores(ours).score[layer, head].float(), score, "all", tolerance=WITHIN
        )
        qk = lens.FactoredMatrix(theirs.W_E @ QK.A, QK.B @ theirs.W_E.T)
        assert_close(qk_circuit(ours, layer, head).AB, qk.AB, "QK", tolerance=WITHIN)


@torch.no_grad()
def test_virtual_head(pair: tuple[Any, Any], assert_close: Any) -> None:
    ours, theirs = pair
    found = virtual_ov(ours, (0, 1), (1, 2))
    expected = theirs.OV[0, 1] @ theirs.OV[1, 2]
    assert_close(found.AB, expected.AB, tolerance=WITHIN)


@torch.no_grad()
def test_singular_vectors_of_svd_interpreter(pair: tuple[Any, Any], assert_close: Any) -> None:
    """Directions that a head writes, in tokens, as SVDInterpreter gives them (up to sign)."""
    ours, theirs = pair
    vectors = lens.SVDInterpreter(theirs).get_singular_vectors("OV", 1, 3, head_index=2)
    attn = ours.blocks[1].attn
    V = attn.OV.V[2, :, :3]
    found = ours.W_U.T @ V
    assert_close(found.abs(), vectors[:, 0].abs(), tolerance=WITHIN)
