"""A run that makes a NaN or an infinity stops at the hook where it is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from interp import HookedTransformer, HookedTransformerConfig, InputError, InterpError
from interp.numerics import NonFiniteError, check_finite
from interp.numerics.finite import is_bad

NAN, INF = float("nan"), float("inf")


def small(**changes: Any) -> HookedTransformer:
    fields = {
        "n_layers": 3, "d_model": 24, "n_ctx": 16, "n_heads": 4, "d_head": 6, "d_mlp": 20,
        "act_fn": "gelu", "d_vocab": 31, "device": "cpu", "seed": 1,
    }  # fmt: skip
    return HookedTransformer(HookedTransformerConfig(**{**fields, **changes})).eval()


TOKENS = torch.arange(12).view(2, 6)


def found(model: HookedTransformer, run: Callable[[], Any], **options: Any) -> NonFiniteError:
    with pytest.raises(NonFiniteError) as caught, model.check_finite(**options):
        run()
    return caught.value


# A weight, the entry of it that is broken, and the first hook behind it.
FAULTS = [
    ("embed.W_E", (7, 3), "hook_embed"),
    ("pos_embed.W_pos", (2, 5), "hook_pos_embed"),
    ("blocks.1.ln1.w", (4,), "blocks.1.attn.hook_q"),
    ("blocks.0.attn.W_K", (2, 0, 1), "blocks.0.attn.hook_k"),
    ("blocks.2.attn.W_V", (0, 0, 0), "blocks.2.attn.hook_v"),
    ("blocks.1.attn.W_O", (3, 0, 9), "blocks.1.attn.hook_result"),
    ("blocks.2.mlp.W_in", (0, 11), "blocks.2.mlp.hook_pre"),
    ("blocks.2.mlp.W_out", (11, 0), "blocks.2.hook_mlp_out"),
    ("unembed.W_U", (3, 30), "unembed.hook_out"),
]


@pytest.mark.parametrize("every", [False, True], ids=["stations", "every hook"])
@pytest.mark.parametrize(("weight", "entry", "hook"), FAULTS)
def test_a_broken_weight_is_found_where_it_acts_first(
    weight: str, entry: tuple[int, ...], hook: str, every: bool
) -> None:
    model = small()
    with torch.no_grad():
        model.get_parameter(weight)[entry] = NAN
    error = found(model, lambda: model(TOKENS), names_filter="*" if every else ())
    if not every and hook.endswith("hook_result"):
        hook = "blocks.1.hook_attn_out"  # each head's result is made only if it is asked for
    # The first in the order of computation: an independent look at everything that was recorded.
    _, cache = model.run_with_cache(TOKENS, names_filter="*")
    assert error.hook == hook
    assert error.bad_weights == (weight,)
    assert not error.is_gradient
    bad = ~torch.isfinite(cache[hook])
    assert error.n_nan == int(cache[hook].isnan().sum()) > 0
    assert (error.n_inf, error.n_negative_inf) == (0, 0)
    assert error.first == tuple(bad.nonzero()[0].tolist())
    assert f"{error.n_nan} NaN, 0 +Inf and 0 -Inf of {cache[hook].numel()}" in str(error)
    assert weight in str(error)


def test_the_message_counts_and_says_where() -> None:
    model = small()

    def spoil(x: Tensor, hook: Any) -> Tensor:
        x[1, 4, 17] = INF
        x[1, 5, 2] = -INF
        x[1, 5, 3:6] = NAN
        return x

    with model.hooks(fwd_hooks=[("blocks.1.mlp.hook_pre", spoil)]):
        error = found(model, lambda: model(TOKENS))
    assert str(error) == (
        "blocks.1.mlp.hook_pre is the first hook with a value that is not finite: 3 NaN, 1 +Inf "
        "and 1 -Inf of 240, the first at [batch 1, pos 4, neuron 17]. The weights of blocks.1 are "
        "finite. Hook functions attached there: 1."
    )
    assert isinstance(error, InterpError)
    assert isinstance(error, ArithmeticError)
    assert (error.n_nan, error.n_inf, error.n_negative_inf, error.first) == (3, 1, 1, (1, 4, 17))


def test_what_the_run_was_given_may_be_bad_already() -> None:
    model = small()
    residual = torch.zeros(1, 4, 24)
    residual[0, 2, 5] = NAN
    error = found(model, lambda: model(residual, start_at_layer=1))
    assert error.hook == "blocks.1.hook_resid_pre"
    assert error.given_bad
    assert error.bad_weights == ()
    assert "What the run was given is not finite already" in str(error)


@pytest.mark.parametrize("n_layers", [0, 2])
def test_an_embedding_that_a_hook_mends_is_no_fault(n_layers: int) -> None:
    model = small(n_layers=n_layers)
    with torch.no_grad():
        model.embed.W_E[7] = NAN
    mend = [("hook_embed", lambda x, hook: x.nan_to_num())]
    with model.check_finite():
        logits = model.run_with_hooks(TOKENS, fwd_hooks=mend)
    assert torch.equal(logits, model.run_with_hooks(TOKENS, fwd_hooks=mend))
    assert found(model, lambda: model(TOKENS, stop_at_layer=0)).hook == "hook_embed"


def test_what_is_made_behind_a_hook_that_is_finite_itself() -> None:
    model = small()
    with torch.no_grad():
        model.ln_final.w[3] = NAN
    error = found(model, lambda: model(TOKENS))
    assert (error.hook, error.n_nan) == ("ln_final.hook_normalized", TOKENS.numel())
    assert error.bad_weights == ("ln_final.w",)
    assert str(error).startswith("what flows on from ln_final.hook_normalized is the first tensor")


@pytest.mark.parametrize("mask", [None, "left", "right"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"positional_embedding_type": "alibi"},
        {"window_size": 2},
        {"attention_dir": "bidirectional", "architecture": "encoder"},
        {"attn_sinks": True},
    ],
)
def test_masked_scores_are_no_fault_and_nothing_changes(
    mask: str | None, changes: dict[str, Any]
) -> None:
    model = small(**changes)
    given: dict[str, Any] = {"input": TOKENS}
    if mask is not None:
        given["attention_mask"] = torch.ones_like(TOKENS)
        given["attention_mask"][0, slice(0, 3) if mask == "left" else slice(3, 6)] = 0
    expected, oracle = model.run_with_cache(**given, names_filter="*")
    with model.check_finite():
        assert torch.equal(model(**given), model.__class__.__call__(model, **given))
        logits, cache = model.run_with_cache(**given, names_filter="*")
    assert torch.equal(logits, expected)
    for name in oracle:
        assert torch.equal(cache[name], oracle[name]), name
    with model.check_finite(names_filter="*"):
        logits, cache = model.run_with_cache(**given, names_filter="*")
        assert torch.equal(logits, expected)
    with model.check_finite(names_filter="*", backward=True):
        model(**given).sum().backward()
    assert cache.keys() == oracle.keys()
    assert oracle["attn_scores", 0].isinf().any() or (mask is None and not model.causal)


def test_fused_runs_stay_what_they_are() -> None:
    model = small()
    expected = model(TOKENS)
    plan = model._plan(model)
    with model.check_finite():
        assert model._plan(model) == plan  # nothing is spelled out
        assert torch.equal(model(TOKENS), expected)
        assert model(TOKENS, return_type=None) is None
    assert not model._forward_hooks
    assert not model._forward_pre_hooks


def test_minus_infinity_is_allowed_only_where_the_mask_forbids() -> None:
    model = small()
    with torch.no_grad():  # two finite vectors whose product is -∞
        model.blocks[1].attn.W_Q.zero_()
        model.blocks[1].attn.b_Q.fill_(1e30)
        model.blocks[1].attn.W_K.zero_()
        model.blocks[1].attn.b_K.fill_(-1e30)
    error = found(model, lambda: model(TOKENS))
    assert error.hook == "blocks.1.attn.hook_attn_scores"
    n_allowed = 2 * 4 * 6 * 7 // 2
    assert (error.n_nan, error.n_inf, error.n_negative_inf) == (0, 0, n_allowed)
    assert error.first == (0, 0, 0, 0)
    assert "[batch 0, head 0, query 0, key 0]" in str(error)


def test_a_knockout_of_the_callers_is_no_fault() -> None:
    model = small()

    def forbid(scores: Tensor, hook: Any) -> Tensor:
        return scores.masked_fill(torch.ones(6, 6, dtype=torch.bool).tril(-1), -torch.inf)

    model.add_hook("blocks.1.attn.hook_attn_scores", forbid)
    with model.check_finite(names_filter="*"):
        model(TOKENS)
    model.add_hook("blocks.1.attn.hook_attn_scores", lambda x, hook: x * NAN)
    assert found(model, lambda: model(TOKENS)).hook == "blocks.1.attn.hook_attn_scores"


def test_what_a_layer_swallows_shows_when_every_hook_is_watched() -> None:
    """An infinite scale makes zeros: what the block gives is finite."""
    model = small(normalization_type="RMS", positional_embedding_type="rotary")
    with torch.no_grad():
        model.W_E.mul_(1e25)  # finite, and its square is not
    with model.check_finite():
        model(TOKENS)
    error = found(model, lambda: model(TOKENS), names_filter="*")
    assert error.hook == "blocks.0.ln1.hook_scale"


def test_the_first_bad_gradient_of_the_backward_pass() -> None:
    class Breaks(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            return torch.where(gradient == gradient[1, 3, 2], -torch.inf, gradient)

    model = small()
    model.add_hook("blocks.1.mlp.hook_post", lambda x, hook: Breaks.apply(x))
    expected = model(TOKENS, return_type="loss")
    model.zero_grad()
    with pytest.raises(NonFiniteError) as caught, check_finite(model, backward=True):
        loss = model(TOKENS, return_type="loss")
        assert torch.equal(loss, expected)
        loss.backward()
    error = caught.value
    # mlp.hook_post has the gradient of what flows on; the first hook before it is mlp.hook_pre.
    assert error.hook == "blocks.1.mlp.hook_pre"
    assert error.is_gradient
    assert error.first == (1, 3, 2)
    assert "with a gradient that is not finite: 0 NaN, 0 +Inf and 1 -Inf" in str(error)
    assert not any(point.is_watched for point in model.hook_points() if not point.fwd_hooks)


def test_gradients_are_the_same_while_they_are_watched() -> None:
    model = small()
    model(TOKENS, return_type="loss").backward()
    expected = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad()
    with model.check_finite(backward=True):
        _, cache = model.run_with_cache(
            TOKENS, return_type="loss", incl_bwd=True, names_filter="*resid*"
        )
    assert "blocks.0.hook_resid_mid_grad" in cache
    for name, weight in model.named_parameters():
        assert torch.equal(weight.grad, expected[name]), name


def test_a_failed_run_leaves_model_and_cache_as_they_were() -> None:
    from interp import KeyValueCache

    model = small()
    past = KeyValueCache.init_cache(model.cfg, "cpu", 2)
    recorded: list[str] = []
    model.add_hook("blocks.0.hook_resid_post", lambda x, hook: recorded.append(hook.name))
    with torch.no_grad():
        model(TOKENS[:, :4], past_kv_cache=past)
        expected = model(TOKENS[:, 4:], past_kv_cache=past.select(torch.arange(2)))
        model.blocks[2].mlp.b_out[0] = NAN
        assert found(model, lambda: model(TOKENS[:, 4:], past_kv_cache=past)).bad_weights
        assert len(past) == 4
        model.blocks[2].mlp.b_out[0] = 0.0
        with model.check_finite():
            assert torch.equal(model(TOKENS[:, 4:], past_kv_cache=past), expected)
    assert len(recorded) == 5  # the run that failed was repeated


def test_recorders_see_their_run_alone() -> None:
    model = small()
    with torch.no_grad():
        model.blocks[1].mlp.b_in[0] = NAN
    seen: list[str] = []
    model.add_hook("hook_embed", lambda x, hook: seen.append(hook.name))
    error = found(model, lambda: model.run_with_cache(TOKENS, names_filter="*"))
    assert error.hook == "blocks.1.mlp.hook_pre"
    assert all(point.recorder is None for point in model.hook_points())


def test_an_encoder_decoder() -> None:
    model = small(architecture="encoder-decoder", n_encoder_layers=2, decoder_start_token_id=0)
    with torch.no_grad():
        model.decoder.blocks[1].cross_attn.b_V[2, 3] = NAN
    error = found(model, lambda: model(TOKENS, decoder_input=TOKENS[:, :3]))
    assert error.hook == "decoder.blocks.1.cross_attn.hook_v"
    with torch.no_grad():
        model.encoder.blocks[0].attn.b_O[0] = INF
    error = found(model, lambda: model(TOKENS, decoder_input=TOKENS[:, :3]))
    assert error.hook == "encoder.blocks.0.hook_attn_out"
    assert error.n_inf == 12


def test_fused_attention_does_not_hide_what_is_bad() -> None:
    """Its kernels may give finite numbers for scores that are NaN or infinite."""
    model = small()
    with torch.no_grad():
        model.blocks[1].attn.b_Q[1] = 1e25
        model.blocks[1].attn.b_K[1] = 1e25
        error = found(model, lambda: model(TOKENS))
        assert error.hook == "blocks.1.attn.hook_attn_scores"
        # Large, and the scores are finite all the same: no fault, and nothing is changed.
        model.blocks[1].attn.b_Q[1] = 0.0
        model.blocks[1].attn.W_Q[1] = 0.0
        model.blocks[1].attn.b_Q[0] = 1e25
        model.blocks[1].attn.b_K[0] = 0.0
        model.blocks[1].attn.W_K[0] = 0.0
        expected = model(TOKENS)
        with model.check_finite():
            assert torch.equal(model(TOKENS), expected)
    assert "_attend_fused" not in vars(model.blocks[1].attn)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(InputError, match="no hook is called"), small().check_finite("nowhere"):
        pass


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.sampled_from([0.0, 1.0, -3e38, 3e38, NAN, INF, -INF]), min_size=1, max_size=6),
    st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
)
def test_bad_is_what_isfinite_says(values: list[float], dtype: torch.dtype) -> None:
    x = torch.tensor(values, dtype=torch.float64).to(dtype)
    assert is_bad(x) == (not bool(torch.isfinite(x).all()))
    assert not is_bad(torch.tensor([1, 2]))
