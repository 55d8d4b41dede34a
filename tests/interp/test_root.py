"""A model's hooks as a whole: choosing, runs, copies."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from interp import HookedTransformer, HookPoint, InputError
from tests.interp.attached import PATTERN, POST, PRE, TOKENS, attached, double, zero

Make = Callable[..., HookedTransformer]
Check = Callable[..., None]


@pytest.fixture
def model(make_model: Make) -> HookedTransformer:
    return make_model(dtype="float64")


# --- choosing ------------------------------------------------------------------------------------


def test_names_are_those_of_the_module_tree(model: HookedTransformer) -> None:
    for name, point in model.hook_dict.items():
        assert model.get_submodule(name) is point
        assert point.name == name
        assert model.mod_dict[name] is point
    assert model.hook_points() == list(model.hook_dict.values())
    assert len(model.hook_dict) == sum(isinstance(m, HookPoint) for m in model.modules())


def test_filters(model: HookedTransformer) -> None:
    all_names = list(model.hook_dict)
    patterns = [n for n in all_names if n.endswith("attn.hook_pattern")]
    assert model.match_hooks(PATTERN) == [PATTERN]
    assert model.match_hooks("blocks.*.attn.hook_pattern") == patterns
    assert model.match_hooks("*hook_pattern") == patterns
    assert model.match_hooks("blocks.[0]*.hook_pattern") == [PATTERN]
    assert model.match_hooks("*") == all_names
    assert model.match_hooks([PRE, "*hook_pattern", PRE, PATTERN]) == [
        n for n in all_names if n in {PRE, *patterns}
    ]
    assert model.match_hooks((PRE, PATTERN)) == [PATTERN, PRE]
    assert model.match_hooks(lambda n: n.startswith("ln_final")) == [
        "ln_final.hook_scale",
        "ln_final.hook_normalized",
    ]
    assert model.match_hooks([]) == []
    assert set(model.match_hooks(None)) == model.default_hook_names()


def test_sets_of_names_are_filters_too(model: HookedTransformer) -> None:
    _, cache = model.run_with_cache(TOKENS, names_filter=model.default_hook_names())
    assert set(cache.keys()) == model.default_hook_names()


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ("blocks.0.attn.hook_patern", "blocks.0.attn.hook_pattern"),
        ("blocks.9.hook_resid_pre", "blocks.0.hook_resid_pre|blocks.1.hook_resid_pre"),
        ("blocks.9.*", "no hook matches the glob"),
        ([PRE, "hook_embd"], "hook_embed"),
        ([PRE, 3], "string"),
        (5, "5"),
    ],
)
def test_unknown_names_are_refused_with_a_hint(
    model: HookedTransformer, names: Any, text: str
) -> None:
    with pytest.raises(InputError, match=text):
        model.run_with_cache(TOKENS, names_filter=names)
    if isinstance(names, str):
        with pytest.raises(InputError, match=text):
            model.add_hook(names, zero)
        with (
            pytest.raises(InputError, match=text),
            model.hooks([(PRE, zero), (names, zero)], [(PRE, zero)]),
        ):
            pytest.fail("the block must not run")
    assert attached(model) == {}


def test_add_hook_takes_globs_and_predicates(model: HookedTransformer) -> None:
    model.add_hook("blocks.*.hook_mlp_out", zero)
    model.add_hook(lambda n: n.endswith("hook_mlp_out"), zero, dir="bwd")
    model.add_perma_hook("blocks.0.hook_mlp_out", zero)
    assert attached(model) == {"blocks.0.hook_mlp_out": 3, "blocks.1.hook_mlp_out": 2}


@pytest.mark.parametrize(
    ("flag", "hooks"),
    [
        ("use_attn_result", ["attn.hook_result"]),
        ("use_split_qkv_input", ["hook_q_input", "hook_k_input", "hook_v_input"]),
        ("use_attn_in", ["hook_attn_in"]),
        ("use_hook_mlp_in", ["hook_mlp_in"]),
    ],
)
def test_flags_widen_the_default_and_nothing_else(
    model: HookedTransformer, make_model: Make, flag: str, hooks: list[str], assert_close: Check
) -> None:
    before = model.default_hook_names()
    wider = before | {f"blocks.{i}.{h}" for i in range(2) for h in hooks}
    logits, records = model.run_with_cache(TOKENS)
    getattr(model, f"set_{flag}")(True)
    assert getattr(model.cfg, flag) is True
    assert model.default_hook_names() == wider == set(model.run_with_cache(TOKENS)[1].keys())
    by_config = make_model(dtype="float64", **{flag: True})
    assert by_config.default_hook_names() == wider
    assert set(by_config.hook_dict) == set(model.hook_dict)
    found, cache = by_config.run_with_cache(TOKENS)
    assert_close(found, logits)
    for name in records:
        assert_close(cache[name], records[name], name)
    getattr(model, f"set_{flag}")(False)
    assert model.default_hook_names() == before


def test_hook_tokens_flag(make_model: Make) -> None:
    names = make_model(use_hook_tokens=True).default_hook_names()
    assert names == make_model().default_hook_names() | {"hook_tokens"}


# --- runs ----------------------------------------------------------------------------------------


def test_gradient_hooks_fire_after_their_context(model: HookedTransformer) -> None:
    seen: list[str | None] = []
    loss = model.run_with_hooks(
        TOKENS,
        return_type="loss",
        bwd_hooks=[("*hook_resid_pre", lambda g, hook: seen.append(hook.name))],
    )
    assert attached(model) == {}
    loss.backward()
    assert seen == [PRE, "blocks.0.hook_resid_pre"]


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_gradients_must_be_on_for_gradient_hooks(
    model: HookedTransformer, off: Callable[[], Any]
) -> None:
    with off():
        with pytest.raises(InputError, match="grad"):
            model.run_with_hooks(TOKENS, bwd_hooks=[(PRE, zero)])
        with pytest.raises(InputError, match="grad"), model.hooks(bwd_hooks=[(PRE, zero)]):
            pytest.fail("the block must not run")
        with pytest.raises(InputError, match="grad"):
            model.run_with_cache(TOKENS, return_type="loss", incl_bwd=True)
    assert attached(model) == {}


@pytest.mark.parametrize("return_type", ["logits", "both", None])
def test_incl_bwd_needs_a_scalar(model: HookedTransformer, return_type: Any) -> None:
    with pytest.raises(InputError, match="scalar"):
        model.run_with_cache(TOKENS, return_type=return_type, incl_bwd=True)
    assert all(p.grad is None for p in model.parameters())


def test_incl_bwd_records_every_gradient(model: HookedTransformer, assert_close: Check) -> None:
    _, cache = model.run_with_cache(TOKENS, return_type="loss", incl_bwd=True)
    names = model.default_hook_names()
    assert set(cache.keys()) == names | {f"{n}_grad" for n in names}
    for name in names:
        assert cache[f"{name}_grad"].shape == cache[name].shape
        assert not cache[f"{name}_grad"].requires_grad
    assert_close(cache["resid_pre_grad", 1], cache[f"{PRE}_grad"])
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    model(TOKENS, return_type="loss").backward()
    for name, parameter in model.named_parameters():
        assert_close(gradients[name], parameter.grad, name)


def test_edited_gradients_are_what_is_recorded(
    model: HookedTransformer, assert_close: Check
) -> None:
    _, plain = model.run_with_cache(TOKENS, return_type="loss", incl_bwd=True)
    with model.hooks(bwd_hooks=[("blocks.0.hook_mlp_out", zero)]):
        _, cache = model.run_with_cache(TOKENS, return_type="loss", incl_bwd=True)
    after = plain[f"{POST}_grad"]
    assert_close(cache[f"{POST}_grad"], after)
    assert cache["blocks.0.hook_mlp_out_grad"].abs().max() == 0
    # Without its MLP, resid_mid's gradient is resid_post's.
    assert_close(cache["blocks.0.hook_resid_mid_grad"], after)
    assert not torch.equal(plain["blocks.0.hook_resid_mid_grad"], after)


@pytest.mark.parametrize(
    ("names", "kwargs", "missed"),
    [
        (PRE, {"stop_at_layer": 1}, PRE),
        (["blocks.0.*", PRE], {"stop_at_layer": 1}, PRE),
        ("ln_final.hook_scale", {"stop_at_layer": 2}, "ln_final.hook_scale"),
        (POST, {"start_at_layer": 1}, POST),
        ("hook_embed", {"start_at_layer": 0}, "hook_embed"),
    ],
)
def test_names_that_are_not_reached_are_an_error(
    model: HookedTransformer, names: Any, kwargs: dict[str, Any], missed: str
) -> None:
    given: Tensor = torch.zeros(1, 3, 24, dtype=torch.float64)
    given = given if "start_at_layer" in kwargs else TOKENS
    with pytest.raises(InputError, match=missed):
        model.run_with_cache(given, names_filter=names, **kwargs)
    assert attached(model) == {}


def test_globs_and_defaults_may_miss_some(model: HookedTransformer) -> None:
    _, cache = model.run_with_cache(TOKENS, names_filter="*.hook_resid_pre", stop_at_layer=1)
    assert list(cache.keys()) == ["blocks.0.hook_resid_pre"]
    _, cache = model.run_with_cache(TOKENS, stop_at_layer=1)
    assert set(cache.keys()) == {
        n for n in model.default_hook_names() if n.startswith(("hook_", "blocks.0."))
    }


def test_plain_dictionaries_on_request(model: HookedTransformer) -> None:
    _, cache = model.run_with_cache(TOKENS, names_filter=PRE, return_cache_object=False)
    assert type(cache) is dict
    assert list(cache) == [PRE]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("record", [True, False])
def test_what_the_caller_gave_is_never_written_into(
    make_model: Make, mode: Callable[[], Any], record: bool
) -> None:
    for positions in ("standard", "rotary"):
        model = make_model(positional_embedding_type=positions)
        weights = {k: v.clone() for k, v in model.state_dict().items()}
        tokens, residual = TOKENS.clone(), torch.ones(2, 3, 24)
        with mode(), model.hooks([("*", zero)]):
            if record:
                model.run_with_cache(tokens, names_filter="*")
                model.run_with_cache(residual, start_at_layer=1)
            else:
                model(tokens)
                model(residual, start_at_layer=0)
                model(residual, start_at_layer=-1)
        assert torch.equal(tokens, TOKENS)
        assert torch.equal(residual, torch.ones(2, 3, 24))
        for name, weight in model.state_dict().items():
            assert torch.equal(weight, weights[name]), name


@pytest.mark.parametrize("n_kv", [4, 2])
@pytest.mark.parametrize(
    "name", ["hook_attn_in", "hook_k_input", "attn.hook_k", "attn.hook_pattern", "hook_resid_pre"]
)
def test_hooks_act_with_a_key_value_cache(
    make_model: Make, n_kv: int, name: str, assert_close: Check
) -> None:
    from interp import KeyValueCache

    model = make_model(dtype="float64", n_key_value_heads=n_kv, positional_embedding_type="rotary")
    hooks = [(f"blocks.0.{name}", _scaled)]
    with torch.no_grad():
        expected = model.run_with_hooks(TOKENS, fwd_hooks=hooks)
        assert not torch.allclose(expected, model(TOKENS))
        past = KeyValueCache.init_cache(model.cfg, "cpu", 2)
        parts = []
        for part in TOKENS.split([2, 1, 2], 1):
            with model.hooks(hooks):
                logits, _ = model.run_with_cache(part, past_kv_cache=past, names_filter=[])
            parts.append(logits)
    assert_close(torch.cat(parts, 1), expected)


def _scaled(x: Tensor, hook: HookPoint) -> Tensor:
    assert hook.name is not None
    factors = torch.linspace(0.5, 2.0, x.shape[-1], dtype=x.dtype)
    return x * (0.7 if "pattern" in hook.name else factors)


# --- several models ------------------------------------------------------------------------------


def test_models_do_not_share_hooks(make_model: Make) -> None:
    one, other = make_model(), make_model()
    one.add_hook(PRE, double)
    with one.hooks([("*", double)]):
        assert attached(other) == {}
    assert attached(one) == {PRE: 1}
    assert one.cfg is not other.cfg


@pytest.mark.parametrize(
    "fields", [{}, {"tie_word_embeddings": True, "positional_embedding_type": "rotary"}]
)
def test_copies_are_independent(make_model: Make, fields: dict[str, Any]) -> None:
    model = make_model(**fields)
    model.add_hook(PRE, double)
    model.add_perma_hook(POST, zero)
    edited = model(TOKENS)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert attached(twin) == {PRE: 1, POST: 1}
        assert torch.equal(twin(TOKENS), edited)
        assert not {id(p) for p in twin.hook_points()} & {id(p) for p in model.hook_points()}
        twin.reset_hooks(including_permanent=True)
        assert attached(twin) == {}
        assert attached(model) == {PRE: 1, POST: 1}
        logits, cache = twin.run_with_cache(TOKENS, names_filter="*")
        assert set(cache.keys()) == set(model.hook_dict)
        assert torch.allclose(logits, twin(TOKENS), atol=1e-5)
        assert torch.equal(model(TOKENS), edited)
        with torch.no_grad():
            twin.W_E.zero_()
            for weight in twin.unembed.parameters():
                weight.zero_()
        assert twin(TOKENS).abs().max() == 0
        assert torch.equal(model(TOKENS), edited)
        twin.set_use_attn_result(True)
        assert not model.cfg.use_attn_result


def test_a_copy_made_inside_a_context_keeps_its_own(model: HookedTransformer) -> None:
    with model.hooks([(PRE, double)]):
        twin = copy.deepcopy(model)
    assert attached(model) == {}
    assert attached(twin) == {PRE: 1}
    twin.reset_hooks()
    assert torch.equal(twin(TOKENS), model(TOKENS))


def test_caching_hooks_equal_run_with_cache(make_model: Make) -> None:
    """What scripts of TransformerLens attach by hand."""
    model = make_model(dtype="float64")
    _, expected = model.run_with_cache(TOKENS, return_type="loss", incl_bwd=True)
    cache = model.add_caching_hooks(incl_bwd=True)
    model(TOKENS, return_type="loss").backward()
    model.reset_hooks()
    assert set(cache) == set(expected)
    for name, value in expected.items():
        assert torch.allclose(cache[name], value, rtol=0, atol=1e-12), name
    assert attached(model) == {}
    found, fwd, bwd = model.get_caching_hooks("blocks.*.attn.hook_z", pos_slice=-1)
    model.run_with_hooks(TOKENS, fwd_hooks=fwd, bwd_hooks=bwd)
    assert [tuple(z.shape[:2]) for z in found.values()] == [(TOKENS.shape[0], 1)] * len(fwd)


def test_caching_hooks_in_a_dtype_and_up_to_a_limit(make_model: Make) -> None:
    model = make_model(dtype="float64")
    names = "blocks.*.attn.hook_z"
    _, whole = model.run_with_cache(TOKENS, names_filter=names, return_type="loss", incl_bwd=True)
    cache = model.add_caching_hooks(
        names, incl_bwd=True, dtype=torch.float32, max_bytes=whole.nbytes // 2
    )
    model(TOKENS, return_type="loss").backward()
    assert cache.keys() == whole.keys()
    for name, value in whole.items():
        assert torch.equal(cache[name], value.float()), name
    model.reset_hooks()
    model.add_caching_hooks(names, dtype=torch.float32, max_bytes=whole.nbytes // 8)
    with pytest.raises(InputError, match=r"has kept .* more than max_bytes .*attn\.hook_z"):
        model(TOKENS)
    model.reset_hooks()
    assert attached(model) == {}


def test_hook_points_stay_the_modules_own_when_copied_and_replaced(
    model: HookedTransformer,
) -> None:
    twin = copy.deepcopy(model)
    assert twin.blocks[0].attn.hook_z is twin.hook_dict["blocks.0.attn.hook_z"]
    assert twin.blocks[0].attn.hook_z is not model.blocks[0].attn.hook_z
    other = HookPoint()
    twin.blocks[0].attn.hook_z = other
    assert twin.blocks[0].attn.hook_z is other
    assert twin.blocks[0].attn._modules["hook_z"] is other
