"""Neurons one feature at a time, and motifs: against the models, loops, and weights by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from interp.errors import InputError
from interp.toys import ToyModel
from interp.toys.motifs import (
    asymmetric_motifs,
    features_served,
    neuron_activations,
    self_contributions,
)


def test_contributions_sum_to_what_the_model_says(assert_close: Callable[..., None]) -> None:
    models = ToyModel(4, 5, 7, hidden="relu", tied=False, output="linear", dtype=torch.float64)
    assert models.W_out is not None
    W, W_out = models.W.detach(), models.W_out.detach()
    both = self_contributions(W, W_out)
    assert both.shape == (4, 2, 7, 5)
    for place, sign in enumerate((1.0, -1.0)):
        x = (sign * torch.eye(5, dtype=torch.float64)).expand(4, 5, 5)
        said = models(x).detach().diagonal(dim1=-2, dim2=-1)
        assert_close(both[:, place].sum(-2), said)
        assert_close(neuron_activations(W)[:, place].mT, models.hidden(x).detach())
    positive = self_contributions(W, W_out, signed=False)
    assert_close(positive, both[:, :1])
    assert torch.equal(features_served(W, W_out), (both >= 0.25).any(1))
    assert torch.equal(
        features_served(W, W_out, signed=False, threshold=0.1), (positive >= 0.1).any(1)
    )


# The paper's example: neuron 0 has both features, loud and quiet; neuron 1 inhibits.
W = torch.tensor([[2.0, 0.5], [1.0, 0.0], [0.0, -1.0], [-1.0, 0.0]])
W_OUT = torch.tensor([[0.5, 0.0, 0.0, 1.0], [2.0, -5.0, 1.0, 0.0]])
B = torch.tensor([0.0, 0.25])


def test_the_motif_is_found_and_measured() -> None:
    found = asymmetric_motifs(W[None], W_OUT[None], B[None])
    assert len(found) == 1
    expected = {
        "instance": 0, "neuron": 0, "sign": 1, "loud": 0, "quiet": 1,
        "input_ratio": 4.0, "output_ratio": 4.0,
        "interference": 4.0,  # 2 · 2
        "back": 0.25,  # 1/2 · 1/2
        "inhibition": -5.0,
        "net": -0.75,  # 4 - 5 + 1/4
    }  # fmt: skip
    assert {name: getattr(found, name).item() for name in expected} == expected
    mirrored = asymmetric_motifs(-W[None], W_OUT[None], B[None])
    assert mirrored.sign.tolist() == [-1] and mirrored.net.tolist() == [-0.75]
    # A neuron that is driven by opposite signs of its features is shared all the same.
    opposite = W.clone()
    opposite[0, 1] = -0.5
    assert asymmetric_motifs(opposite[None], W_OUT[None], B[None]).interference.tolist() == [4.0]


def test_what_is_no_motif_is_not_found() -> None:
    naive = torch.cat([torch.eye(3), -torch.eye(3)])
    assert len(asymmetric_motifs(naive[None], naive.abs().T[None], torch.zeros(1, 3))) == 0
    equal, equal_out = W.clone(), W_OUT.clone()
    equal[0], equal_out[:, 0] = 1.0, 1.0
    assert len(asymmetric_motifs(equal[None], equal_out[None], B[None])) == 0
    assert len(asymmetric_motifs(W[None], W_OUT[None], B[None], ratio=5.0)) == 0
    assert len(asymmetric_motifs(W[None], W_OUT[None], B[None], threshold=1.5)) == 0


def test_motifs_are_those_of_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    weights = 2 * torch.randn(12, 6, 5, generator=generator, dtype=torch.float64)
    back = torch.randn(12, 5, 6, generator=generator, dtype=torch.float64)
    b = torch.randn(12, 5, generator=generator, dtype=torch.float64)
    found = asymmetric_motifs(weights, back, b)
    rows = []
    for i in range(12):
        for s in (1, -1):
            for k in range(6):
                for loud in range(5):
                    for quiet in range(5):
                        row = _motif(weights[i], back[i], b[i], s, k, loud, quiet)
                        if row is not None:
                            rows.append((i, s, k, loud, quiet, *row))
    keys = zip(
        found.instance.tolist(), found.sign.tolist(), found.neuron.tolist(), found.loud.tolist(),
        found.quiet.tolist(), found.interference.tolist(), found.inhibition.tolist(),
        found.net.tolist(), strict=True,
    )  # fmt: skip
    assert len(rows) > 5
    for said, row in zip(sorted(keys), sorted(rows), strict=True):
        assert said == pytest.approx(row)


def _motif(
    W: Tensor, W_out: Tensor, b: Tensor, s: int, k: int, loud: int, quiet: int
) -> tuple[float, float, float] | None:
    if loud == quiet:
        return None
    drive = max(0.0, s * float(W[k, loud]))
    serves_loud = drive * float(W_out[loud, k]) >= 0.25
    serves_quiet = abs(float(W[k, quiet])) * float(W_out[quiet, k]) >= 0.25
    louder = abs(float(W[k, loud])) >= 2 * abs(float(W[k, quiet]))
    writes_more = float(W_out[quiet, k]) >= 2 * float(W_out[loud, k])
    if not (serves_loud and serves_quiet and louder and writes_more):
        return None
    added = [
        max(0.0, s * float(W[neuron, loud])) * float(W_out[quiet, neuron])
        for neuron in range(len(W))
    ]
    return added[k], sum(min(x, 0.0) for x in added), sum(added) + float(b[quiet])


def test_bad_input() -> None:
    with pytest.raises(InputError, match="W_out"):
        self_contributions(W, W_OUT.T)
    with pytest.raises(InputError, match="ratio must be above 1"):
        asymmetric_motifs(W[None], W_OUT[None], B[None], ratio=1.0)
    with pytest.raises(InputError, match="and b"):
        asymmetric_motifs(W[None], W_OUT[None], B)
    with pytest.raises(InputError, match="threshold"):
        features_served(W, W_OUT, threshold=0.0)
    with pytest.raises(InputError, match="W must be"):
        neuron_activations(W[0])
