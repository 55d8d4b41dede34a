from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from interp import FactoredMatrix, HookedTransformer, InputError, load_model
from interp.weight_circuits import (
    copying_score,
    copying_scores,
    diagonal_in_top,
    entry_statistics,
    ov_circuit,
)
from interp.zoo import known
from tests.interp.kinds import KINDS

Make = Callable[..., HookedTransformer]
Check = Callable[..., None]


@pytest.mark.parametrize(
    "kind", ["gpt2", "llama", "no-norm", "wide-heads", "gemma2", "mixtral-post"]
)
@pytest.mark.parametrize("effective", [False, True])
def test_all_heads_as_each_alone(
    kind: str, effective: bool, make_model: Make, assert_close: Check
) -> None:
    """Against the dense circuits of d_vocab² entries."""
    model = make_model(**{**KINDS[kind], "dtype": "float64"})
    found = copying_scores(model, effective=effective)
    for layer in range(2):
        for head in range(model.cfg.n_heads):
            rows = "effective" if effective and layer else "token"
            circuit = ov_circuit(model, layer, head, rows)
            with torch.no_grad():
                dense = circuit.AB
            values = torch.linalg.eigvals(dense)
            expected = values.real.sum() / values.abs().sum()
            what = f"L{layer}H{head}"
            # Eigenvalues of the large product are the less exact ones.
            assert_close(found.score[layer, head], expected, what, tolerance=1e-7)
            assert_close(copying_score(circuit), found.score[layer, head], what)
            assert_close(found.trace[layer, head], dense.trace(), what)
            assert_close(found.norm[layer, head], dense.norm(), what)
            share = values.abs().sum() / torch.linalg.svdvals(dense).sum()
            assert_close(found.eigenvalue_share[layer, head], share, what, tolerance=1e-7)
            contrast = entry_statistics(circuit).contrast
            assert float(found.contrast[layer, head]) == pytest.approx(contrast, abs=1e-9)
            assert_close(found.eigenvalues[layer, head].sum().real, dense.trace(), what)


@pytest.mark.parametrize("d_vocab_out", [31, 13])
def test_less_the_mean(d_vocab_out: int, make_model: Make, assert_close: Check) -> None:
    """Of all logits, also where only some tokens are scored; as with a centred unembedding."""
    model = make_model(dtype="float64", d_vocab_out=d_vocab_out)
    found = copying_scores(model, range(13), less_mean=True)
    circuit = ov_circuit(model, 1, 2, less_mean=True)[:13, :13]
    assert_close(found.score[1, 2], copying_score(circuit))
    assert_close(found.trace[1, 2], circuit.AB.trace())
    processed = model.process_weights(center_unembed=True)
    assert_close(copying_scores(processed, range(13)).score, found.score, "processed")
    raw = copying_scores(model, range(13)).score
    assert float((raw - found.score).abs().max()) > 0.01


def test_signs() -> None:
    """A copy scores 1, its negative -1, a turn of pairs 0, and a shift to other tokens nothing."""
    n = 6
    eye = torch.eye(n, dtype=torch.float64)
    assert float(copying_score(FactoredMatrix(eye, 3.0 * eye))) == pytest.approx(1.0)
    assert float(copying_score(FactoredMatrix(eye, -eye))) == pytest.approx(-1.0)
    swap = eye[[1, 0, 3, 2, 5, 4]]
    assert float(copying_score(FactoredMatrix(eye, swap))) == pytest.approx(0.0)
    up = FactoredMatrix(eye[:, :2], eye[4:])  # tokens 0 and 1 to 4 and 5: no eigenvalue but zero
    assert float(copying_score(up)) == 0.0
    assert float(copying_score(FactoredMatrix(0 * eye, eye))) == 0.0
    with pytest.raises(InputError, match="as many logits as tokens"):
        copying_score(FactoredMatrix(eye, eye[:, :3]))


def test_some_tokens(make_model: Make, assert_close: Check) -> None:
    model = make_model(dtype="float64", d_vocab_out=13)
    with pytest.raises(InputError, match=r"tokens=range\(13\)"):
        copying_scores(model)
    for wrong in ([13], [-1]):
        with pytest.raises(InputError, match="0 … 12"):
            copying_scores(model, wrong)
    with pytest.raises(InputError, match="must not be empty"):
        copying_scores(model, [])
    for tokens in (range(13), [2, 7, 5]):
        found = copying_scores(model, list(tokens))
        circuit = ov_circuit(model, 1, 2)[list(tokens), list(tokens)]
        assert_close(found.score[1, 2], copying_score(circuit))
        assert_close(found.trace[1, 2], circuit.AB.trace())


@pytest.mark.parametrize(
    "name", ["previous_token", "induction", "name_mover", "bracket_counter", "cancellation"]
)
def test_known_models(name: str) -> None:
    truth = getattr(known, name)()
    score = copying_scores(truth.model).score
    copies = {f"L{layer}H{head}" for layer, head in (score > 0.5).nonzero().tolist()}
    assert copies == truth.expected["copying_heads"]
    # All others take tokens nowhere, or to other tokens.
    assert ((score.abs() < 1e-12) | ((score - 1).abs() < 1e-12)).all()


def test_copying_makes_no_induction_head() -> None:
    """Both heads of the layer copy every token, by the same score; one is an induction head."""
    truth = known.induction(strength=3.0)
    assert truth.expected["induction_heads"] < truth.expected["copying_heads"]
    found = copying_scores(truth.model)
    assert torch.equal(found.score[1], torch.ones_like(found.score[1]))
    for head in (0, 1):
        assert diagonal_in_top(ov_circuit(truth.model, 1, head)).all()
    # The circuit of L1H1 is strength · (identity of 32 tokens).
    assert float(found.trace[1, 1]) == pytest.approx(3.0 * 32)
    assert float(found.norm[1, 1]) == pytest.approx(3.0 * 32**0.5)


def test_zoo_induction() -> None:
    """Every head of layer 1 copies every symbol; a first-layer head's OV does little by itself."""
    model = load_model("zoo:induction", dtype="float64")
    found = copying_scores(model)
    assert (found.score[1] > 0.998).all()
    for head in range(4):
        own = diagonal_in_top(ov_circuit(model, 1, head))
        assert not own[0]  # BOS never follows anything
        assert int(own.sum()) >= 60
    assert found.norm[1].min() > 4 * found.norm[0].max()


def test_without_heads(make_model: Make) -> None:
    with pytest.raises(InputError, match="no layers"):
        copying_scores(make_model(n_layers=0))
    with pytest.raises(InputError, match="head='lm'"):
        copying_scores(make_model(**KINDS["classifier"]))
