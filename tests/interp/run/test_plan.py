"""Nothing is computed that nobody asked for: which kernels run for which hooks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from interp import HookedTransformer, HookPoint, KeyValueCache
from interp.components.attention import Attention
from interp.components.block import TransformerBlock
from interp.components.embed import Unembed
from interp.run.plan import AttentionPlan, BlockPlan, plan_run

Make = Callable[..., HookedTransformer]
Check = Callable[..., None]
Counts = dict[str, int]

TOKENS = torch.tensor([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counts:
    """How often the parts ran since the last `clear`."""
    counts: Counts = {}

    def count(owner: Any, name: str, label: str) -> None:
        original = getattr(owner, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            counts[label] = counts.get(label, 0) + 1
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, counted)

    count(F, "scaled_dot_product_attention", "fused")
    count(F, "softmax", "softmax")
    count(F, "layer_norm", "norm")
    count(Attention, "head_results", "results")
    count(TransformerBlock, "forward", "block")
    count(Unembed, "forward", "unembed")
    return counts


@pytest.fixture
def model(make_model: Make) -> HookedTransformer:
    return make_model(dtype="float64", n_layers=4)


def counted(calls: Counts, run: Callable[[], Any]) -> Counts:
    calls.clear()
    run()
    return dict(calls)


def nothing(x: Tensor, hook: HookPoint) -> None:
    """A hook that only looks."""


# --- the plan itself -----------------------------------------------------------------------------


def test_a_plan_is_made_once_and_depends_on_names_alone() -> None:
    watched = frozenset({"blocks.1.attn.hook_pattern", "hook_embed"})
    plan = plan_run(watched, frozenset(), 3)
    assert plan_run(frozenset(set(watched)), frozenset(), 3) is plan
    assert plan_run(watched, frozenset(), 4) is not plan
    with pytest.raises((AttributeError, TypeError)):
        plan.blocks_wanted = 0  # type: ignore[misc]
    with pytest.raises((AttributeError, TypeError)):
        plan.blocks[0].every_expert = True  # type: ignore[misc]
    assert hash(plan) == hash(plan_run(watched, frozenset(), 3))


@pytest.mark.parametrize(
    ("watched", "wanted"),
    [
        ([], 0),
        (["hook_embed", "hook_tokens", "hook_pos_embed"], 0),
        (["blocks.0.hook_resid_pre"], 1),
        (["blocks.0.hook_resid_pre", "blocks.10.ln2.hook_scale"], 11),
        (["ln_final.hook_scale"], 12),
        (["unembed.hook_in"], 12),
    ],
)
def test_blocks_wanted(watched: list[str], wanted: int) -> None:
    assert plan_run(frozenset(watched), frozenset(), 12).blocks_wanted == wanted


def test_each_block_has_its_own_plan() -> None:
    names = {
        "attn.hook_attn_scores": BlockPlan(attn=AttentionPlan(explicit_pattern=True)),
        "attn.hook_result": BlockPlan(attn=AttentionPlan(per_head_result=True)),
        "attn.hook_q": BlockPlan(attn=AttentionPlan(separate_qkv=True)),
        "attn.hook_v": BlockPlan(attn=AttentionPlan(separate_qkv=True)),
        "attn.hook_rot_k": BlockPlan(),
        "attn.k_norm.hook_scale": BlockPlan(
            attn=AttentionPlan(explicit_norms=frozenset({"k_norm"})),
            explicit_norms=frozenset({"attn.k_norm"}),
        ),
        "cross_attn.hook_pattern": BlockPlan(cross_attn=AttentionPlan(explicit_pattern=True)),
        "hook_attn_in": BlockPlan(copies_for_heads=True, inputs_watched=True),
        "hook_k_input": BlockPlan(copies_for_qkv=True, inputs_watched=True),
        "ln1.hook_normalized": BlockPlan(explicit_norms=frozenset({"ln1"})),
        "ln2_post.hook_scale": BlockPlan(explicit_norms=frozenset({"ln2_post"})),
        "mlp.ln.hook_scale": BlockPlan(explicit_norms=frozenset({"mlp.ln"})),
        "mlp.hook_expert_out": BlockPlan(every_expert=True),
        "mlp.hook_router_logits": BlockPlan(),
        "hook_resid_mid": BlockPlan(),
    }
    for name, wanted in names.items():
        full = frozenset({f"blocks.1.{name}"})
        plan = plan_run(full, full, 3)
        assert plan.blocks == (BlockPlan(), wanted, BlockPlan()), name
    only_seen = plan_run(frozenset({"blocks.0.hook_attn_in"}), frozenset(), 1)
    assert not only_seen.blocks[0].copies_for_heads


def test_prefixes_keep_stacks_apart() -> None:
    watched = frozenset({"encoder.blocks.0.attn.hook_pattern", "decoder.ln_final.hook_scale"})
    encoder = plan_run(watched, frozenset(), 2, "encoder.")
    decoder = plan_run(watched, frozenset(), 2, "decoder.")
    assert encoder.blocks[0].attn.explicit_pattern
    assert (encoder.blocks_wanted, encoder.explicit_norms) == (1, frozenset())
    assert not decoder.blocks[0].attn.explicit_pattern
    assert (decoder.blocks_wanted, decoder.explicit_norms) == (2, {"ln_final"})


# --- kernels -------------------------------------------------------------------------------------


def test_attention_is_fused_where_nobody_looks(model: HookedTransformer, calls: Counts) -> None:
    with torch.no_grad():
        found = counted(calls, lambda: model(TOKENS))
        assert (found["fused"], found.get("softmax", 0)) == (4, 0)
        for name in ("attn_scores", "pattern"):
            hook = f"blocks.2.attn.hook_{name}"
            _ = counted(calls, lambda hook=hook: model.run_with_cache(TOKENS, names_filter=hook))
            assert (calls["fused"], calls["softmax"]) == (3, 1)
            with model.hooks([(hook, nothing)]):
                counted(calls, lambda: model(TOKENS))
            assert (calls["fused"], calls["softmax"]) == (3, 1)
        found = counted(calls, lambda: model.run_with_cache(TOKENS, names_filter="*hook_pattern"))
        assert (found.get("fused", 0), found["softmax"]) == (0, 4)
        found = counted(calls, lambda: model.run_with_cache(TOKENS, names_filter="*hook_[qkvz]"))
        assert (found["fused"], found.get("softmax", 0)) == (4, 0)
    loss = model.run_with_hooks(
        TOKENS, return_type="loss", bwd_hooks=[("blocks.0.attn.hook_pattern", nothing)]
    )
    assert loss.requires_grad
    found = counted(calls, lambda: model(TOKENS))
    assert (found["fused"], found.get("softmax", 0)) == (4, 0)


def test_results_of_heads_only_where_watched(model: HookedTransformer, calls: Counts) -> None:
    with torch.no_grad():
        assert "results" not in counted(calls, lambda: model(TOKENS))
        assert "results" not in counted(calls, lambda: model.run_with_cache(TOKENS))
        hook = "blocks.1.attn.hook_result"
        found = counted(calls, lambda: model.run_with_cache(TOKENS, names_filter=hook))
        assert found["results"] == 1
        found = counted(calls, lambda: model.run_with_hooks(TOKENS, fwd_hooks=[(hook, nothing)]))
        assert found["results"] == 1
        model.set_use_attn_result(True)
        assert counted(calls, lambda: model.run_with_cache(TOKENS))["results"] == 4
        assert "results" not in counted(calls, lambda: model(TOKENS))


def test_norms_are_fused_where_nobody_looks(model: HookedTransformer, calls: Counts) -> None:
    with torch.no_grad():
        assert counted(calls, lambda: model(TOKENS))["norm"] == 9
        for hook in (
            "blocks.1.ln1.hook_scale",
            "blocks.3.ln2.hook_normalized",
            "ln_final.hook_scale",
        ):
            found = counted(
                calls, lambda hook=hook: model.run_with_cache(TOKENS, names_filter=hook)
            )
            assert found["norm"] == 8, hook


def test_watching_inputs_of_heads_copies_nothing(model: HookedTransformer, calls: Counts) -> None:
    """Only an edit gives each head its own input: then the norm reads three."""
    names = [f"blocks.0.hook_{n}" for n in ("attn_in", "q_input", "k_input", "v_input")]
    with torch.no_grad():
        _, cache = model.run_with_cache(TOKENS, names_filter=["blocks.0.hook_resid_pre", *names])
        for name in names:
            assert cache[name].stride(2) == 0
            assert cache[name].data_ptr() == cache["resid_pre", 0].data_ptr()
        assert cache.nbytes == cache["resid_pre", 0].numel() * 8
        assert counted(calls, lambda: model.run_with_cache(TOKENS, names_filter=names))["norm"] == 9
        for name in names:
            found = counted(
                calls, lambda name=name: model.run_with_hooks(TOKENS, fwd_hooks=[(name, nothing)])
            )
            assert found["norm"] == 11


# --- how far a run goes --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "blocks", "unembed"),
    [
        ([], 0, 0),
        (["hook_embed", "hook_pos_embed", "hook_tokens"], 0, 0),
        (["blocks.0.hook_resid_pre"], 1, 0),
        (["blocks.1.attn.hook_pattern", "hook_embed"], 2, 0),
        (["blocks.*.hook_resid_pre"], 4, 0),
        (["ln_final.hook_normalized"], 4, 0),
        (["unembed.hook_out"], 4, 1),
    ],
)
def test_a_run_for_records_stops_after_the_last(
    model: HookedTransformer, calls: Counts, names: list[str], blocks: int, unembed: int
) -> None:
    with torch.no_grad():
        found = counted(
            calls, lambda: model.run_with_cache(TOKENS, names_filter=names, return_type=None)
        )
        assert found.get("block", 0) == blocks
        assert found.get("unembed", 0) == unembed
        output, cache = model.run_with_cache(TOKENS, names_filter=names, return_type=None)
        assert output is None
        logits, whole = model.run_with_cache(TOKENS, names_filter=names)
    assert logits is not None
    assert cache.keys() == whole.keys()
    for name in cache:
        assert torch.equal(cache[name], whole[name])


def test_a_run_for_nothing_still_checks_its_input(model: HookedTransformer) -> None:
    assert model(TOKENS, return_type=None) is None
    with pytest.raises(ValueError, match="tokens"):
        model(TOKENS + 100, return_type=None)


def test_hooks_of_the_user_count_as_wanted(model: HookedTransformer, calls: Counts) -> None:
    seen: list[int] = []
    model.add_hook("blocks.2.hook_mlp_out", lambda x, hook: seen.append(hook.layer()))
    with torch.no_grad():
        found = counted(
            calls,
            lambda: model.run_with_cache(TOKENS, names_filter="hook_embed", return_type=None),
        )
    assert found["block"] == 3
    assert seen == [2]


@pytest.mark.parametrize("return_type", ["logits", "loss", "both"])
def test_an_output_runs_all(model: HookedTransformer, calls: Counts, return_type: str) -> None:
    found = counted(
        calls,
        lambda: model.run_with_cache(TOKENS, names_filter="hook_embed", return_type=return_type),
    )
    assert (found["block"], found["unembed"]) == (4, 1)


def test_stop_and_start(model: HookedTransformer, calls: Counts, assert_close: Check) -> None:
    with torch.no_grad():
        logits, cache = model.run_with_cache(TOKENS)
        for stop, blocks in ((0, 0), (1, 1), (-1, 3), (4, 4), (-4, 0)):
            calls.clear()
            residual = model(TOKENS, stop_at_layer=stop)
            assert calls.get("block", 0) == blocks
            assert "unembed" not in calls
            expected = cache["resid_pre", blocks] if blocks < 4 else cache["resid_post", 3]
            assert_close(residual, expected)
            calls.clear()
            assert_close(model(residual, start_at_layer=blocks), logits)
            assert calls.get("block", 0) == 4 - blocks
        residual = cache["resid_pre", 1]
        found = counted(
            calls,
            lambda: model.run_with_cache(
                residual, start_at_layer=1, return_type=None, names_filter="blocks.2.hook_resid_pre"
            ),
        )
        assert found["block"] == 2
        assert counted(calls, lambda: model(residual, start_at_layer=1, stop_at_layer=3)) == {
            "block": 2, "fused": 2, "norm": 4,
        }  # fmt: skip


def test_a_key_value_cache_is_filled_by_all_blocks(
    model: HookedTransformer, calls: Counts, assert_close: Check
) -> None:
    with torch.no_grad():
        past = KeyValueCache.init_cache(model.cfg, "cpu", 2)
        found = counted(
            calls,
            lambda: model.run_with_cache(
                TOKENS[:, :3], names_filter=[], return_type=None, past_kv_cache=past
            ),
        )
        assert found["block"] == 4
        assert "unembed" not in found
        assert len(past) == 3
        assert_close(model(TOKENS[:, 3:], past_kv_cache=past), model(TOKENS)[:, 3:])
