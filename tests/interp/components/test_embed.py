from __future__ import annotations

from collections.abc import Callable

import torch

from interp import HookedTransformer

MakeModel = Callable[..., HookedTransformer]
AssertClose = Callable[..., None]


def test_embedding_is_a_row(make_model: MakeModel) -> None:
    model = make_model()
    tokens = torch.tensor([[3, 3, 30]])
    assert torch.equal(model.embed(tokens), model.W_E[tokens])


def test_unembedding_has_a_bias(make_model: MakeModel, assert_close: AssertClose) -> None:
    for tied in (True, False):
        model = make_model(dtype="float64", tie_word_embeddings=tied)
        x = torch.randn(2, 3, 24, dtype=torch.float64)
        assert model.b_U.abs().min() > 0
        assert_close(model.unembed(x), x @ model.W_U + model.b_U)


def test_tied_unembedding_follows_its_model(make_model: MakeModel) -> None:
    """Also into a copy, and into another dtype."""
    import copy

    model = make_model(tie_word_embeddings=True)
    twin = copy.deepcopy(model).double()
    with torch.no_grad():
        twin.W_E.add_(1.0)
    assert torch.equal(twin.W_U, twin.W_E.T)
    assert torch.equal(model.W_U, model.W_E.T)
    assert not torch.equal(model.W_U.double(), twin.W_U)
    names = [name for name, _ in model.named_parameters()]
    assert len(names) == len(set(names))
    assert sum("W_E" in name for name in names) == 1
