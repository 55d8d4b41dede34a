"""Factored matrices against their dense products, and the weights seen through them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from interp import FactoredMatrix, HookedTransformer, InputError

Make = Callable[..., HookedTransformer]
Check = Callable[..., None]

_dims = st.integers(1, 6)
_leading = st.sampled_from([(), (1,), (3,), (2, 3)])


def _normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed + 1000 * len(shape) + sum(shape))
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


@st.composite
def _matrices(draw: st.DrawFn, square: bool = False) -> FactoredMatrix:
    leading = draw(_leading)
    ldim, mdim = draw(_dims), draw(_dims)
    rdim = ldim if square else draw(_dims)
    narrow = draw(st.sampled_from(["", "A", "B"]))  # one factor without the leading axes
    A = _normal(*(() if narrow == "A" else leading), ldim, mdim, seed=1)
    B = _normal(*(() if narrow == "B" else leading), mdim, rdim, seed=2)
    return FactoredMatrix(A, B)


def _dense(m: FactoredMatrix) -> Tensor:
    return torch.einsum("...lm,...mr->...lr", m.A, m.B)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(m=_matrices())
def test_shapes_and_products(assert_close: Check, m: FactoredMatrix) -> None:
    dense = _dense(m)
    assert m.shape == dense.shape
    assert m.ndim == dense.ndim
    assert (m.ldim, m.rdim, m.mdim) == (dense.shape[-2], dense.shape[-1], m.A.shape[-1])
    assert m.has_leading_dims == (dense.ndim > 2)
    assert_close(m.AB, dense)
    assert_close(m.T.AB, dense.transpose(-1, -2))
    assert_close(m.make_even().AB, dense)
    assert_close(m.get_corner(2), dense[..., :2, :2])
    assert_close(m.unsqueeze(0).AB, dense.unsqueeze(0))
    if m.ldim == m.rdim:
        assert_close(m.BA, m.B @ m.A)
    else:
        for name in ("BA", "eigenvalues"):
            with pytest.raises(InputError, match="square"):
                getattr(m, name)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(m=_matrices(), width=_dims, other_leading=st.sampled_from([(), (1,), "same"]))
def test_multiplication(
    assert_close: Check, m: FactoredMatrix, width: int, other_leading: Any
) -> None:
    dense = _dense(m)
    leading = dense.shape[:-2] if other_leading == "same" else other_leading
    right, left = _normal(*leading, m.rdim, width), _normal(*leading, width, m.ldim)
    for found, expected in ((m @ right, dense @ right), (left @ m, left @ dense)):
        assert isinstance(found, FactoredMatrix)
        assert_close(found.AB, expected)
        assert found.mdim <= m.mdim
    column, row = _normal(m.rdim), _normal(m.ldim)
    assert_close(m @ column, dense @ column)
    assert_close(row @ m, (row @ dense))
    other = FactoredMatrix(_normal(*leading, m.rdim, 2), _normal(*leading, 2, width))
    product = m @ other
    assert isinstance(product, FactoredMatrix)
    assert_close(product.AB, dense @ other.AB)
    for scalar in (2.5, torch.tensor(2.5), torch.tensor([2.5])):
        assert_close((m * scalar).AB, dense * 2.5)
        assert_close((scalar * m).AB, dense * 2.5)
    with pytest.raises(InputError, match="single number"):
        m * torch.ones(2)


def test_products_that_do_not_fit() -> None:
    m = FactoredMatrix(_normal(4, 2), _normal(2, 3))
    for product in (lambda: m @ _normal(4, 5), lambda: _normal(5, 3) @ m, lambda: m @ m):
        with pytest.raises(InputError, match="cannot multiply"):
            product()
    with pytest.raises(InputError, match="factors"):
        FactoredMatrix(_normal(4, 2), _normal(3, 2))
    with pytest.raises(InputError, match="factors"):
        FactoredMatrix(_normal(4), _normal(4, 2))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(m=_matrices())
def test_singular_values(assert_close: Check, m: FactoredMatrix) -> None:
    dense = _dense(m)
    U, S, V = m.svd()
    assert_close(U @ torch.diag_embed(S) @ V.mT, dense, "U S Vᵀ")
    for name, basis in (("U", U), ("V", V)):
        assert torch.equal(getattr(m, name), basis)
        eye = torch.eye(basis.shape[-1], dtype=torch.float64).expand(*basis.shape[:-2], -1, -1)
        assert_close(basis.mT @ basis, eye, name)
    assert torch.equal(m.Vh, V)
    assert torch.equal(m.S, S)
    assert (S.diff(dim=-1) <= 0).all()
    assert (S >= 0).all()
    expected = torch.linalg.svdvals(dense)
    n = min(S.shape[-1], expected.shape[-1])
    assert_close(S[..., :n], expected[..., :n], "S")
    assert expected[..., n:].abs().sum() < 1e-10
    assert_close(m.norm(), torch.linalg.matrix_norm(dense), "norm")
    left, right = m.collapse_l(), m.collapse_r()
    assert_close(left.mT @ left, dense.mT @ dense, "collapse_l")
    assert_close(right @ right.mT, dense @ dense.mT, "collapse_r")


@settings(max_examples=60, deadline=None, derandomize=True)
@given(m=_matrices(square=True))
def test_eigenvalues(assert_close: Check, m: FactoredMatrix) -> None:
    found, dense = m.eigenvalues, torch.linalg.eigvals(_dense(m))
    assert found.shape == (*m.shape[:-2], m.mdim)
    # Traces of powers say which non-zero eigenvalues there are, in no order.
    for power in (1, 2, 3):
        expected = torch.linalg.matrix_power(_dense(m), power)
        trace = expected.diagonal(dim1=-2, dim2=-1).sum(-1)
        scale = max(1.0, float(found.abs().max()) ** power)
        assert_close(found.pow(power).sum(-1).real / scale, trace / scale, str(power))
        assert_close(found.pow(power).sum(-1).imag / scale, torch.zeros_like(trace), str(power))
    n = min(found.shape[-1], dense.shape[-1])
    assert_close(
        found.abs().sort(descending=True).values[..., :n],
        dense.abs().sort(descending=True).values[..., :n],
        "sizes",
    )


_index = st.integers(-2, 1) | st.sampled_from([slice(None), slice(1, None), slice(0, 1)])


@settings(max_examples=80, deadline=None, derandomize=True)
@given(leading=st.sampled_from([(), (2,), (2, 3)]), data=st.data())
def test_indexing(assert_close: Check, leading: tuple[int, ...], data: st.DataObject) -> None:
    m = FactoredMatrix(_normal(*leading, 4, 2), _normal(*leading, 2, 5))
    n = data.draw(st.integers(1, len(leading) + 2))
    index = tuple(data.draw(_index) for _ in range(n))
    # Rows and columns keep their axes.
    kept = tuple(
        slice(i, i + 1 or None) if isinstance(i, int) and place >= len(leading) else i
        for place, i in enumerate(index)
    )
    assert_close(m[index].AB, _dense(m)[kept], str(index))


def test_more_indexing(assert_close: Check) -> None:
    m = FactoredMatrix(_normal(3, 4, 5, 2), _normal(3, 4, 2, 6))
    dense = _dense(m)
    assert_close(m[1].AB, dense[1])
    assert_close(m[[0, 2]].AB, dense[[0, 2]])
    assert_close(m[torch.tensor([2, 0])].AB, dense[[2, 0]])
    mask = torch.arange(12).reshape(3, 4) % 2 == 0
    assert_close(m[mask].AB, dense[mask])
    assert_close(m[None, 1].AB, dense[None, 1])
    assert_close(m[:, :, torch.tensor([1, 1])].AB, dense[:, :, [1, 1]])
    for bad in ((0, 0, 0, 0, 0), (0, 0, 9), (0, 0, 0, 9), (0, 0, -6)):
        with pytest.raises((InputError, IndexError)):
            m[bad]
    with pytest.raises((InputError, IndexError)):
        m[3]


def test_it_says_what_it_is() -> None:
    assert (
        repr(FactoredMatrix(_normal(3, 2), _normal(2, 5)))
        == "FactoredMatrix(shape=(3, 5), hidden=2)"
    )


@pytest.fixture(scope="module")
def theirs() -> Any:
    """TransformerLens's own."""
    reason = "needs the extra 'lens'"
    return pytest.importorskip("transformer_lens.FactoredMatrix", reason=reason).FactoredMatrix


@settings(max_examples=25, deadline=None, derandomize=True)
@given(m=_matrices(), k=st.integers(1, 3))
def test_as_in_transformerlens(assert_close: Check, theirs: Any, m: FactoredMatrix, k: int) -> None:
    other = theirs(m.A, m.B)
    for name in ("ldim", "mdim", "rdim", "ndim", "shape", "has_leading_dims"):
        assert getattr(m, name) == getattr(other, name), name
    for name in ("A", "B", "AB", "S"):
        assert_close(getattr(m, name), getattr(other, name), name)
    assert_close(m.T.AB, other.T.AB)
    assert_close(m.norm(), other.norm())
    assert_close(m.U.abs(), other.U.abs(), "U")
    assert_close(m.V.abs(), other.V.abs(), "V")
    assert_close(m.collapse_l().abs(), other.collapse_l().abs())
    assert_close(m.collapse_r().abs(), other.collapse_r().abs())
    assert_close(m.make_even().AB, other.make_even().AB)
    if m.ldim == m.rdim:
        assert_close(m.BA, other.BA)
    if m.ndim == 2:
        assert_close(m.get_corner(k), other.get_corner(k))
    else:
        assert_close(m[0].AB, other[0].AB)
        assert m[(0,) * (m.ndim - 2) + (0, 0)].shape == other[(0,) * (m.ndim - 2) + (0, 0)].shape


def test_pair_as_in_transformerlens(theirs: Any) -> None:
    A, B = _normal(3, 2), _normal(2, 4)
    found: Any = FactoredMatrix(A, B).pair
    assert all(map(torch.equal, found, theirs(A, B).pair))  # type: ignore[call-overload]


# --- a model's weights ---------------------------------------------------------------------------


@pytest.mark.parametrize("n_kv", [4, 2, 1])
@pytest.mark.parametrize("gated", [True, False])
def test_stacked_weights(make_model: Make, n_kv: int, gated: bool) -> None:
    model = make_model(n_key_value_heads=n_kv, gated_mlp=gated, n_layers=3)
    state = model.state_dict()
    stored = "" if n_kv == 4 else "_"
    for name in ("W_Q", "W_O", "b_Q", "b_O", "W_K", "W_V", "b_K", "b_V"):
        per_kv = name[-1] in "KV"
        key = f"attn.{stored if per_kv else ''}{name}"
        layers = [state[f"blocks.{i}.{key}"] for i in range(3)]
        if per_kv:
            layers = [w[[h * n_kv // 4 for h in range(4)]] for w in layers]
        assert torch.equal(getattr(model, name), torch.stack(layers)), name
    for name in ("W_in", "W_out", "b_in", "b_out") + (("W_gate",) if gated else ()):
        expected = torch.stack([state[f"blocks.{i}.mlp.{name}"] for i in range(3)])
        assert torch.equal(getattr(model, name), expected), name
    assert (model.W_gate is None) != gated
    assert model.W_Q.shape == model.W_K.shape == (3, 4, 24, 6)
    assert model.W_O.shape == (3, 4, 6, 24)
    assert model.b_K.shape == (3, 4, 6)
    assert model.W_in.shape == (3, 24, 20)
    assert model.W_E is model.embed.W_E
    assert model.W_U is model.unembed.W_U
    assert model.b_U is model.unembed.b_U
    assert model.W_pos is model.pos_embed.W_pos
    assert torch.equal(model.W_E_pos, torch.cat([state["embed.W_E"], state["pos_embed.W_pos"]]))
    assert model.all_head_labels() == [f"L{i}H{h}" for i in range(3) for h in range(4)]


def test_views_are_copies_that_differentiate(make_model: Make) -> None:
    model = make_model()
    before = model.blocks[0].attn.W_Q.clone()
    with torch.no_grad():
        model.W_Q.zero_()
    assert torch.equal(model.blocks[0].attn.W_Q, before)
    model.W_Q.sum().backward()
    gradient = model.blocks[1].attn.W_Q.grad
    assert gradient is not None
    assert torch.equal(gradient, torch.ones_like(gradient))


def test_tied_unembedding(make_model: Make) -> None:
    model = make_model(tie_word_embeddings=True)
    assert torch.equal(model.W_U, model.W_E.T)
    assert model.W_U.untyped_storage().data_ptr() == model.W_E.untyped_storage().data_ptr()
    assert "unembed.W_U" not in model.state_dict()


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"attn_only": True}, ["W_in", "W_out", "b_in", "b_out", "W_gate"]),
        ({"positional_embedding_type": "rotary"}, ["W_pos", "W_E_pos"]),
        ({"n_layers": 0}, ["W_Q", "W_O", "W_in", "QK", "OV"]),
    ],
)
def test_weights_that_do_not_exist(
    make_model: Make, fields: dict[str, Any], names: list[str]
) -> None:
    model = make_model(**fields)
    for name in names:
        if name == "W_gate":
            continue
        with pytest.raises(InputError):
            getattr(model, name)


@pytest.mark.parametrize("fields", [{}, {"n_key_value_heads": 2}])
def test_circuits(make_model: Make, fields: dict[str, Any], assert_close: Check) -> None:
    model = make_model(dtype="float64", **fields)
    with torch.no_grad():
        OV = torch.einsum("lhme,lhed->lhmd", model.W_V, model.W_O)
        QK = torch.einsum("lhme,lhne->lhmn", model.W_Q, model.W_K)
        assert_close(model.OV.AB, OV)
        assert_close(model.QK.AB, QK)
        for i, block in enumerate(model.blocks):
            assert_close(block.attn.OV.AB, OV[i])
            assert_close(block.attn.QK.AB, QK[i])
    assert model.OV.mdim == 6


@pytest.mark.parametrize("mode", ["Q", "K", "V"])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"n_key_value_heads": 2},
        {"d_head": 30},
        {"d_model": 6, "d_head": 12, "n_heads": 3},
        {"n_layers": 1},
    ],
)
def test_composition_scores(
    make_model: Make, mode: Any, fields: dict[str, Any], assert_close: Check
) -> None:
    model = make_model(dtype="float64", **{"n_layers": 3, **fields})
    with torch.no_grad():
        scores = model.all_composition_scores(mode)
        n, h = model.cfg.n_layers, model.cfg.n_heads
        OV, QK = model.OV.AB, model.QK.AB
        right = {"Q": QK, "K": QK.transpose(-1, -2), "V": OV}[mode]
        expected = torch.zeros(n, h, n, h, dtype=torch.float64)
        for i in range(n):
            for j in range(i + 1, n):
                for a in range(h):
                    for b in range(h):
                        product = OV[i, a] @ right[j, b]
                        expected[i, a, j, b] = product.norm() / OV[i, a].norm() / right[j, b].norm()
    assert_close(scores, expected)


def test_composition_mode_is_checked(make_model: Make) -> None:
    with pytest.raises(InputError, match="'Q', 'K', 'V'"):
        make_model().all_composition_scores("O")  # type: ignore[arg-type]


@pytest.mark.parametrize("fields", [{}, {"attn_only": True}])
def test_accumulated_bias(make_model: Make, fields: dict[str, Any], assert_close: Check) -> None:
    model = make_model(dtype="float64", n_layers=3, **fields)
    has_mlp = not model.cfg.attn_only
    for layer in range(4):
        for with_mlps in (True, False):
            expected = model.b_O[:layer].sum(0)
            if has_mlp and with_mlps:
                expected = expected + model.b_out[:layer].sum(0)
            found = model.accumulated_bias(layer, include_mlp_biases=with_mlps)
            assert_close(found, expected)
            if layer < 3:
                found = model.accumulated_bias(layer, True, with_mlps)
                assert_close(found, expected + model.b_O[layer])
    for bad in (-1, 4):
        with pytest.raises(InputError, match="layer"):
            model.accumulated_bias(bad)
    with pytest.raises(InputError, match="mlp_input"):
        model.accumulated_bias(3, mlp_input=True)
