"""Queries, keys and values of one product: the same numbers, and parameters that stay their own."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_model
from torch import Tensor, nn

from interp import HookedTransformer
from interp.components.side_by_side import SideBySide
from tests.interp.kinds import KINDS

Make = Callable[..., HookedTransformer]
Check = Callable[..., None]

TOKENS = torch.randint(31, (2, 9), generator=torch.Generator().manual_seed(0))
QKV = ("hook_q", "hook_k", "hook_v")


@pytest.fixture(params=[4, 2, 1])
def model(request: pytest.FixtureRequest, make_model: Make) -> HookedTransformer:
    return make_model(dtype="float64", n_key_value_heads=request.param)


def n_products(monkeypatch: pytest.MonkeyPatch, run: Callable[[], Any]) -> int:
    """How many matrices a run multiplies with."""
    count = [0]
    original = F.linear

    def counted(*args: Any) -> Tensor:
        count[0] += 1
        return original(*args)

    with monkeypatch.context() as patched:
        patched.setattr(F, "linear", counted)
        run()
    return count[0]


def lies_packed(stack: Any) -> bool:
    attns = [block.attn for block in stack.blocks]
    return all(a._side_by_side and a._side_by_side.holds(a._parameters) for a in attns)


def apart(model: HookedTransformer) -> HookedTransformer:
    """A copy whose weights lie each on its own."""
    twin = copy.deepcopy(model)
    for name, parameter in twin.named_parameters():
        if "attn." in name:
            parameter.data = parameter.data.clone()
    return twin


# --- the same numbers ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_one_product_gives_what_three_give(
    kind: Callable[[str], HookedTransformer], assert_close: Check, name: str
) -> None:
    model = kind(name)
    both = model.cfg.architecture == "encoder-decoder"
    given = {"decoder_input": TOKENS.flip(1)} if both else {}
    for stack in (model.encoder, model.decoder) if both else (model,):
        assert lies_packed(stack)
    with torch.no_grad():
        assert_close(model(TOKENS, **given), apart(model)(TOKENS, **given))


def test_products_are_counted(model: HookedTransformer, monkeypatch: pytest.MonkeyPatch) -> None:
    """q, k, v; W_O; MLP in and out; and the unembedding."""
    with torch.no_grad():
        assert n_products(monkeypatch, lambda: model(TOKENS)) == 2 * 4 + 1
        assert n_products(monkeypatch, lambda: apart(model)(TOKENS)) == 2 * 6 + 1
        for hook in QKV:
            name = f"blocks.1.attn.{hook}"
            run = lambda name=name: model.run_with_cache(TOKENS, names_filter=name)
            assert n_products(monkeypatch, run) == 4 + 6 + 1
    assert n_products(monkeypatch, lambda: model(TOKENS)) == 2 * 6 + 1  # for gradients
    frozen = copy.deepcopy(model).requires_grad_(False)
    assert n_products(monkeypatch, lambda: frozen(TOKENS)) == 2 * 4 + 1


def test_frozen_weights_pass_gradients_on(model: HookedTransformer, assert_close: Check) -> None:
    gradients = []
    for twin in (copy.deepcopy(model), apart(model)):
        residual = twin(TOKENS, stop_at_layer=0).detach().requires_grad_()
        twin.requires_grad_(False)
        twin(residual, start_at_layer=0).square().sum().backward()
        gradients.append(residual.grad)
    assert_close(*gradients)


@pytest.mark.parametrize("hook", QKV)
def test_a_record_holds_no_more_than_itself(model: HookedTransformer, hook: str) -> None:
    with torch.no_grad():
        _, cache = model.run_with_cache(TOKENS, names_filter=f"*{hook}")
    for tensor in cache.values():
        assert tensor.untyped_storage().nbytes() == tensor.nbytes


# --- what is written is read ---------------------------------------------------------------------


def _double_in_place(attn: nn.Module) -> None:
    with torch.no_grad():
        attn.W_Q.mul_(2.0)  # type: ignore[operator, union-attr]


def _double_data(attn: nn.Module) -> None:
    attn.W_Q.data *= 2.0  # type: ignore[operator, union-attr]


def _other_data(attn: nn.Module) -> None:
    attn.W_Q.data = attn.W_Q.data * 2.0  # type: ignore[operator, union-attr]


def _other_parameter(attn: nn.Module) -> None:
    attn.W_Q = nn.Parameter(attn.W_Q.data * 2.0)  # type: ignore[operator, union-attr]


def _other_bias(attn: nn.Module) -> None:
    attn.b_Q.data = attn.b_Q.data + 1.0  # type: ignore[operator, union-attr]


@pytest.mark.parametrize(
    "change", [_double_in_place, _double_data, _other_data, _other_parameter, _other_bias]
)
def test_changed_weights_are_used(
    model: HookedTransformer, assert_close: Check, change: Callable[[nn.Module], None]
) -> None:
    expected = apart(model)
    with torch.no_grad():
        before = model(TOKENS)
        for twin in (model, expected):
            change(twin.blocks[0].attn)
        assert_close(model(TOKENS), expected(TOKENS))
        assert (model(TOKENS) - before).abs().max() > 1e-3


def test_a_square_weight_turned_in_its_memory_is_noticed(
    make_model: Make, assert_close: Check
) -> None:
    model = make_model(dtype="float64", d_head=24, n_heads=1)
    expected = apart(model)
    for twin in (model, expected):
        W_Q = twin.blocks[0].attn.W_Q
        W_Q.data = W_Q.data.transpose(1, 2)
    with torch.no_grad():
        assert_close(model(TOKENS), expected(TOKENS))


def test_replaced_memory_is_let_go(model: HookedTransformer) -> None:
    attn = model.blocks[0].attn
    attn.W_Q = nn.Parameter(attn.W_Q.data.clone())
    with torch.no_grad():
        model(TOKENS)
    assert attn._side_by_side is None


def test_parameters_of_a_functional_call_are_used(
    model: HookedTransformer, assert_close: Check
) -> None:
    twin = apart(model)
    _double_in_place(twin.blocks[0].attn)
    with torch.no_grad():
        found = torch.func.functional_call(model, dict(twin.named_parameters()), (TOKENS,))
        assert_close(found, twin(TOKENS))
        plain = {name: parameter.detach() for name, parameter in twin.named_parameters()}
        assert_close(torch.func.functional_call(model, plain, (TOKENS,)), twin(TOKENS))


def test_training_moves_the_weights_that_are_used(
    model: HookedTransformer, assert_close: Check
) -> None:
    twin = apart(model)
    for one in (model, twin):
        optimizer = torch.optim.AdamW(one.parameters(), lr=0.05)
        for _ in range(2):
            optimizer.zero_grad()
            one(TOKENS, return_type="loss").backward()
            optimizer.step()
    assert lies_packed(model)
    with torch.no_grad():
        assert_close(model(TOKENS), twin(TOKENS))


# --- moved, copied, saved ------------------------------------------------------------------------


def _unpickled(model: HookedTransformer) -> HookedTransformer:
    return pickle.loads(pickle.dumps(model))


def _loaded(model: HookedTransformer) -> HookedTransformer:
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


@pytest.mark.parametrize(
    "make_copy", [copy.deepcopy, _unpickled, _loaded, lambda m: copy.deepcopy(m).float().double()]
)
def test_copies_are_packed_and_independent(
    model: HookedTransformer, assert_close: Check, make_copy: Callable[..., HookedTransformer]
) -> None:
    twin = make_copy(model)
    assert lies_packed(twin)
    assert lies_packed(model)
    with torch.no_grad():
        before = model(TOKENS)
        assert_close(twin(TOKENS), before, tolerance=1e-5)
        for parameter in twin.parameters():
            parameter.zero_()
        assert torch.equal(model(TOKENS), before)


def test_conversion_keeps_the_parameters(model: HookedTransformer) -> None:
    before = dict(model.named_parameters())
    model.to(torch.bfloat16)
    assert lies_packed(model)
    for name, parameter in model.named_parameters():
        assert parameter is before[name]
        assert parameter.dtype == torch.bfloat16
    assert model.blocks[0].attn._side_by_side.weight.dtype == torch.bfloat16  # type: ignore[union-attr]


def test_every_parameter_has_a_storage_of_its_own(model: HookedTransformer, tmp_path: Path) -> None:
    """So a file of one holds one, and safetensors takes them all."""
    storages = [p.untyped_storage() for p in model.parameters()]
    assert len({s._cdata for s in storages}) == len(storages)
    for parameter in model.parameters():
        assert parameter.untyped_storage().nbytes() == parameter.nbytes
    save_model(model, str(tmp_path / "weights.safetensors"))
    model.save(tmp_path / "model")
    again = HookedTransformer.load(tmp_path / "model", device="cpu")
    assert lies_packed(again)
    with torch.no_grad():
        assert torch.equal(again(TOKENS), model(TOKENS))


def test_assigned_weights_stay_where_the_caller_has_them(
    model: HookedTransformer, make_model: Make, assert_close: Check
) -> None:
    other = make_model(dtype="float64", n_key_value_heads=model.cfg.n_key_value_heads)
    given = {name: weight.clone() for name, weight in model.state_dict().items()}
    other.load_state_dict(given, assign=True)
    other.to("cpu")
    with torch.no_grad():
        assert_close(other(TOKENS), model(TOKENS))
    other.to("cpu")
    for name, weight in other.state_dict().items():
        assert weight.data_ptr() == given[name].data_ptr()


def test_shared_memory_stays_shared(model: HookedTransformer, assert_close: Check) -> None:
    with torch.no_grad():
        expected = model(TOKENS)
        model.share_memory()
        assert all(p.is_shared() for p in model.parameters())
        assert_close(model(TOKENS), expected)


def test_from_the_meta_device(make_model: Make, assert_close: Check) -> None:
    model = make_model(dtype="float64")
    empty = HookedTransformer(model.cfg.replace(device="meta", init_weights=False))
    assert not lies_packed(empty)
    filled = empty.to_empty(device="cpu")
    filled.load_state_dict(model.state_dict())
    assert lies_packed(filled)
    with torch.no_grad():
        assert_close(filled(TOKENS), model(TOKENS))


def test_made_in_inference_mode(make_model: Make, assert_close: Check) -> None:
    with torch.inference_mode():
        model = make_model(dtype="float64")
        assert_close(model(TOKENS), make_model(dtype="float64")(TOKENS))


def test_the_order_in_memory() -> None:
    weights = [nn.Parameter(torch.randn(n, 5, 3)) for n in (4, 2, 2)]
    biases = [nn.Parameter(torch.randn(n, 3)) for n in (4, 2, 2)]
    both = {str(i): p for i, p in enumerate((*weights, *biases))}
    rows = [w.detach()[head, :, e] for w in weights for head in range(len(w)) for e in range(3)]
    packed = SideBySide(both)
    assert torch.equal(packed.weight, torch.stack(rows))
    assert torch.equal(packed.bias, torch.cat([b.flatten() for b in biases]))
    assert packed.holds(both)
    assert (packed.n_heads, packed.shape) == ([4, 2, 2], (8, 3))
