from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from interp import HookedTransformer
from interp.components import embed

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


@pytest.fixture
def biases_added(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each product with W_U added a bias."""
    found: list[bool] = []
    original = F.linear

    def noted(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        found.append(bias is not None)
        return original(x, weight, bias)

    monkeypatch.setattr(embed.F, "linear", noted)
    return found


def test_zeros_are_not_added(
    make_model: MakeModel, assert_close: AssertClose, biases_added: list[bool]
) -> None:
    """They are looked for each time, as they can change without a trace."""
    model = make_model(dtype="float64")
    x = torch.randn(2, 9, 24, dtype=torch.float64)
    model.b_U.data.zero_()
    with torch.no_grad():
        assert_close(model.unembed(x), x @ model.W_U)
        model.b_U.data[30] = 2.0
        assert_close(model.unembed(x), x @ model.W_U + model.b_U)
        model.b_U.data[30] = torch.nan
        assert model.unembed(x)[..., 30].isnan().all()
        model.b_U.data[30] = -0.0
        assert_close(model.unembed(x), x @ model.W_U)
    assert biases_added == [False, True, True, False]


def test_zeros_get_their_gradient(make_model: MakeModel, biases_added: list[bool]) -> None:
    model = make_model(dtype="float64")
    model.b_U.data.zero_()
    model.unembed(torch.randn(2, 9, 24, dtype=torch.float64)).sum().backward()
    assert torch.equal(model.b_U.grad, torch.full((31,), 18.0, dtype=torch.float64))
    model.b_U.requires_grad_(False)
    model.unembed(torch.randn(2, 9, 24, dtype=torch.float64))
    assert biases_added == [True, False]


@torch.no_grad()
def test_nobody_looks_where_it_does_not_pay(
    make_model: MakeModel, biases_added: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model()
    model.b_U.zero_()
    monkeypatch.setattr(embed, "_REUSED_MEMORY", 18 * 31 * 4 + 1)
    monkeypatch.setattr(torch, "count_nonzero", None)
    model.unembed(torch.randn(1, 7, 24))  # few rows
    model.unembed(torch.randn(2, 10, 24))  # too much memory
    monkeypatch.setattr(torch.compiler, "_is_compiling_flag", True)
    model.unembed(torch.randn(2, 9, 24))
    assert biases_added == [True] * 3
