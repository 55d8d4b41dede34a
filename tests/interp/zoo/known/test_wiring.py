import math

import pytest
import torch

from interp import InputError
from interp.zoo.known.wiring import (
    SATURATED,
    Stream,
    blank_model,
    counts,
    even_reference,
    softmax_of,
    wire,
)


def test_subspaces_stand_side_by_side():
    stream = Stream(token=3, position=4, out=2)
    assert (stream["token"], stream["position"], stream["out"]) == (
        slice(0, 3), slice(3, 7), slice(7, 9),
    )  # fmt: skip
    assert stream.d_model == 9


def test_a_blank_model_embeds_and_does_nothing_else():
    stream = Stream(token=3, position=4, out=2)
    model = blank_model("some", stream, 2, 1, 2, 4, 3, "float64", "cpu")
    tokens = torch.tensor([[2, 0, 1]])
    logits, cache = model.run_with_cache(tokens)
    assert not logits.any()
    resid = cache["resid_post", 1][0]
    assert resid.nonzero().tolist() == [[0, 2], [0, 3], [1, 0], [1, 4], [2, 1], [2, 5]]
    assert not model.training
    assert model.cfg.model_name == "known:some"
    bare = blank_model("bare", Stream(token=3), 1, 1, 2, 4, 3, "float32", "cpu")
    assert bare.cfg.positional_embedding_type == "none"
    assert all(torch.isfinite(p).all() for p in bare.parameters())


def test_wire_writes_its_block_alone():
    weight = torch.nn.Parameter(torch.zeros(4, 5, dtype=torch.float64))
    wire(weight, slice(1, 3), slice(2, 4), 0.1)
    expected = torch.zeros(4, 5, dtype=torch.float64)
    expected[1, 2] = expected[2, 3] = 0.1
    assert weight.equal(expected)
    wire(weight, slice(0, 1), slice(0, 2), torch.tensor([[3.0, 4.0]]))
    assert weight[0].tolist() == [3, 4, 0, 0, 0]
    with pytest.raises(InputError, match=r"needs a square block. Received \(1, 2\)"):
        wire(weight, slice(0, 1), slice(0, 2), 1.0)


def test_saturated_scores_win_all_attention():
    scores = torch.tensor([SATURATED, 0.0, 0.0], dtype=torch.float64)
    assert softmax_of(scores)[0] == 1.0
    assert softmax_of(scores)[1] > 0.0  # exp(-40) is a number still


def test_softmax_and_counts_by_hand():
    weights = softmax_of(torch.tensor([[math.log(3.0), 0.0, -torch.inf]], dtype=torch.float64))
    assert (weights - torch.tensor([[0.75, 0.25, 0.0]])).abs().max() < 1e-15
    found = counts(torch.tensor([[4, 1, 4]]), torch.tensor([[0.5, 0.25, 0.25]]), 5)
    assert found.tolist() == [[0, 0.25, 0, 0, 0.75]]


def test_the_reference_has_every_token_everywhere_once():
    reference = even_reference(4, 7)
    assert (reference.sort(0).values == torch.arange(7)[:, None]).all()
