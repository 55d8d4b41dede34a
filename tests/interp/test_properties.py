"""Every hook of every kind of model, against a plain restatement of the Transformer.

`reference` shares no code with interp. It applies edits at every named point, so that it says what
a hook there must do to everything after it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from interp import HookedTransformer
from tests.covering import every_nth, examples
from tests.interp.each_alone import each_alone
from tests.interp.kinds import (
    KINDS,
    Change,
    everything,
    given_to,
    one_place_each,
    with_padding,
)
from tests.interp.restatement import reference

Check = Callable[..., None]
Make = Callable[..., HookedTransformer]
Kind = Callable[[str], HookedTransformer]


def _place(model: HookedTransformer) -> int:
    """A position whose edits reach the logits."""
    return 0 if model.cfg.classifies else 2


# --- forward -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_hooks_fire_alone_with_the_value_that_flows(
    name: str, kind: Kind, assert_close: Check
) -> None:
    model = kind(name)
    run = given_to(model)
    with torch.no_grad():
        logits, values = reference(model, **run)
        assert set(values) == set(model.hook_dict)
        assert_close(model(**run), logits, "unwatched")
        watched, among_all = model.run_with_cache(**run, names_filter=everything)
        assert_close(watched, logits, "all watched")
        for hook, value in among_all.items():
            assert_close(value, values[hook].to(value.dtype), f"{hook}, all watched", 1e-10)
        assert set(among_all.keys()) == set(values)
        for hook in one_place_each(list(model.hook_dict), list(KINDS).index(name)):
            output, cache = model.run_with_cache(**run, names_filter=hook)
            assert list(cache.keys()) == [hook]
            assert_close(cache[hook], values[hook].to(cache[hook].dtype), hook, 1e-10)
            assert_close(output, logits, f"{hook} watched")


@pytest.mark.parametrize("name", KINDS)
def test_edits_do_what_the_arithmetic_says(name: str, kind: Kind, assert_close: Check) -> None:
    model = kind(name)
    run = given_to(model)
    given_before = {k: v.clone() for k, v in run.items()}
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    changes = [Change(in_place, place=_place(model)) for in_place in (False, True)]
    ways = list(itertools.product(changes, (False, True)))  # how, and whether all is watched
    with torch.no_grad():
        untouched = model(**run)
        place = list(KINDS).index(name)
        hooks = one_place_each(list(model.hook_dict), place)
        edits = {hook: changes[0].edit(hook) for hook in hooks}
        for i, (hook, expected, values) in enumerate(each_alone(model, edits, **run)):
            assert (expected[1] - untouched[1]).abs().max() > 1e-6, hook
            # Each hook in one way; in the next kind of model in another one.
            for change, watched in every_nth(ways, 4, i + place):
                what = f"{hook}, {change}"
                if not watched:
                    found = model.run_with_hooks(**run, fwd_hooks=[(hook, change)])
                    assert_close(found, expected, what)
                    assert_close(found[[0, 2]], untouched[[0, 2]], f"{what}: other rows")
                    continue
                with model.hooks([(hook, change)]):
                    found, cache = model.run_with_cache(**run, names_filter=everything)
                assert_close(found, expected, f"{what}, watched")
                # What it does to a third of the others; to another third with the next hook.
                for other in every_nth(list(cache), 3, i // 2):
                    value = cache[other]
                    assert_close(value, values[other].to(value.dtype), f"{what} → {other}", 1e-10)
    assert all(torch.equal(run[k], v) for k, v in given_before.items())
    for key, weight in model.state_dict().items():
        assert torch.equal(weight, weights[key]), key


@pytest.mark.parametrize("mode", ["grad", "inference"])
@pytest.mark.parametrize("name", ["gpt2", "solu-ln", "gpt-oss", "t5"])
def test_edits_in_other_modes(name: str, mode: str, kind: Kind, assert_close: Check) -> None:
    model = kind(name)
    run = given_to(model)
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    ways = (Change(), Change(in_place=True))
    first = ["grad", "inference"].index(mode)  # each edit is made either way in one of the two
    edits = {hook: Change().edit(hook) for hook in one_place_each(list(model.hook_dict), 0)}
    with torch.no_grad():
        alone = list(each_alone(model, edits, **run))
    for i, (hook, expected, _) in enumerate(alone):
        for way in every_nth(ways, 2, first + i // 2):
            context = torch.enable_grad() if mode == "grad" else torch.inference_mode()
            with context, model.hooks([(hook, way)]):
                found = model(**run)
                if way.in_place:
                    found, _ = model.run_with_cache(**run, names_filter=everything)
            assert_close(found, expected, f"{hook}, {way}")
    for key, weight in model.state_dict().items():
        assert torch.equal(weight, weights[key]), key


@pytest.mark.parametrize("name", ["gpt2", "llama", "no-norm", "gemma2", "gpt-oss", "bert", "t5"])
def test_fp32(name: str, make_model: Make, assert_close: Check) -> None:
    model = make_model(**KINDS[name])
    run = given_to(model)
    with torch.no_grad():
        logits, values = reference(model, **run)
        assert_close(model(**run), logits, "unwatched", 1e-5)
        found, cache = model.run_with_cache(**run, names_filter=everything)
        assert_close(found, logits, "watched", 1e-5)
        for hook in cache:
            assert_close(cache[hook], values[hook].to(cache[hook].dtype), hook, 1e-5)


def _real(run: dict[str, Tensor], hook: str, x: Tensor) -> Tensor:
    """What a tensor says of real positions: what it says of padding is nobody's business."""
    masks = {"": run.get("attention_mask"), "decoder_": run.get("decoder_attention_mask")}
    decodes = not hook.startswith("encoder.") and "decoder_input" in run
    to, source = ("decoder_", "decoder_") if decodes else ("", "")
    if "cross_attn" in hook:
        source = ""
    if ".cross_attn.hook_k" in hook or ".cross_attn.hook_v" in hook or ".cross_attn.k_norm" in hook:
        to = ""
    rows, columns = masks[to], masks[source]
    if rows is None or columns is None or hook.startswith("pooler."):
        return x
    if hook.endswith(("hook_attn_scores", "hook_pattern", "hook_pos_bias")):
        seen = rows[:, None, :, None] * columns[:, None, None, :]
        return x[(seen > 0).expand_as(x)]
    return x[rows > 0]


@settings(max_examples=examples(120), deadline=None, derandomize=True)
@given(data=st.data())
def test_any_edits_together(kind: Kind, assert_close: Check, data: st.DataObject) -> None:
    model = kind(data.draw(st.sampled_from(list(KINDS)), label="kind"))
    names = list(model.hook_dict)
    edited = data.draw(st.sets(st.sampled_from(names), min_size=1, max_size=6), label="edited")
    watched = data.draw(st.sets(st.sampled_from(names), max_size=4), label="watched")
    n_pos = data.draw(st.integers(4, 6), label="n_pos")
    n_pad = data.draw(st.lists(st.integers(0, n_pos - 1), min_size=2, max_size=2), label="padding")
    run = given_to(model, 2, n_pos, data.draw(st.integers(0, 5), label="seed"))
    if any(n_pad):
        run = with_padding(run, n_pad, data.draw(st.booleans(), label="left"))
    change = st.builds(Change, in_place=st.booleans(), everywhere=st.booleans())
    hooks = [(n, data.draw(change)) for n in sorted(edited)]
    with torch.no_grad():
        expected, values = reference(model, **run, edits={n: c.edit(n) for n, c in hooks})
        with model.hooks(hooks):
            plain = model(**run)
            found, cache = model.run_with_cache(**run, names_filter=sorted(watched))
    of = "pooler." if model.cfg.classifies else "unembed."
    assert_close(_real(run, of, plain), _real(run, of, expected), "unwatched")
    assert_close(_real(run, of, found), _real(run, of, expected), "watched")
    for hook in watched:
        if model.cfg.classifies and hook.startswith("unembed."):
            continue
        value = values[hook].to(cache[hook].dtype)
        assert_close(_real(run, hook, cache[hook]), _real(run, hook, value), hook, 1e-10)


@st.composite
def _fields(draw: st.DrawFn) -> dict[str, Any]:
    def any_of(*choices: Any) -> Any:
        return draw(st.sampled_from(choices))

    def maybe() -> bool:
        return draw(st.booleans())

    n_kv = draw(st.integers(1, 3))
    n_heads = n_kv * draw(st.integers(1, 3))
    d_head = 2 * draw(st.integers(1, 4))
    shape = any_of("decoder", "decoder", "encoder", "encoder-decoder")
    both = shape == "encoder-decoder"
    norm = any_of("LN", "LNPre", "RMS", "RMSPre", None)
    placements = ["pre"] if norm is None else ["pre", "sandwich"]
    if norm in ("LN", "RMS"):
        placements += ["post", "output"]
    fields: dict[str, Any] = {
        "architecture": shape,
        "n_layers": draw(st.integers(0, 3)),
        "d_model": 2 * draw(st.integers(1, 6)),
        "n_heads": n_heads,
        "n_key_value_heads": n_kv,
        "d_head": d_head,
        "normalization_type": norm,
        "norm_placement": any_of(*placements),
        "positional_embedding_type": any_of(
            "standard", "sinusoidal", "rotary", "alibi", "relative_positional_bias",
            "shortformer", "none",
        ),
        "attn_only": maybe(),
        "ungroup_grouped_query_attention": maybe(),
        "tie_word_embeddings": maybe(),
        "embed_scale": any_of(1.0, 3.0),
        "logit_scale": any_of(1.0, 0.5),
        "attn_scores_soft_cap": any_of(-1.0, 1.0),
        "output_logits_soft_cap": any_of(-1.0, 1.0),
        "attn_sinks": maybe(),
        "scale_attn_by_inverse_layer_idx": maybe(),
        "act_fn": None,
    }  # fmt: skip
    if both:
        fields["n_encoder_layers"] = draw(st.integers(0, 2))
    depth = max(fields["n_layers"], fields.get("n_encoder_layers", 0))
    if norm is not None:
        fields["qk_norm"] = any_of(None, "head", "full", "per_head")
        fields["post_embedding_ln"] = maybe()
        fields["final_norm"] = any_of(None, True, False)
    local = depth > 0 and maybe()
    if local:
        fields["window_size"] = draw(st.integers(1, 4))
        fields["attn_types"] = ("local", *(any_of("local", "global") for _ in range(depth - 1)))
    if fields["positional_embedding_type"] == "rotary":
        fields["rotary_adjacent_pairs"] = maybe()
        dim = fields["rotary_dim"] = 2 * draw(st.integers(1, d_head // 2))
        fields["rotary_base"] = any_of(20.0, 10_000.0)
        kinds = ["linear", "yarn", "llama3"] + (["dynamic"] if dim > 2 else [])
        if maybe():
            fields["rotary_scaling"] = {
                "kind": any_of(*kinds),
                "factor": any_of(0.5, 3.0),
                "original_n_ctx": any_of(2, 50),
            }
        if local:
            fields["rotary_base_local"] = any_of(None, 30.0)
    if fields["positional_embedding_type"] == "relative_positional_bias":
        fields["relative_attention_num_buckets"] = any_of(4, 8)
        fields["relative_attention_max_distance"] = 11
    if fields["positional_embedding_type"] == "alibi":
        fields["alibi_max_bias"] = any_of(8.0, 2.0)
    if fields["positional_embedding_type"] == "sinusoidal":
        fields["sinusoidal_layout"] = any_of("interleaved", "halves")
    if shape == "decoder":
        fields["attention_dir"] = any_of("causal", "bidirectional")
    if not both:
        fields["n_token_types"] = any_of(0, 2)
    if shape == "encoder":
        fields["head"] = any_of("lm", "mlm", "classification", "next-sentence")
        if fields["head"] != "lm":
            fields["head_act_fn"] = any_of(None, "tanh", "relu")
    if not fields["attn_only"]:
        fields["d_mlp"] = draw(st.integers(1, 9))
        fields["gated_mlp"] = gated = maybe()
        if not both and fields["norm_placement"] == "pre":
            fields["parallel_attn_mlp"] = maybe()
        if gated and maybe():
            n = fields["num_experts"] = draw(st.integers(1, 4))
            fields["experts_per_token"] = draw(st.integers(1, n))
        acts = ["relu", "gelu", "gelu_new", "gelu_fast", "gelu_bloom", "silu", "tanh", "solu"]
        mlm = fields.get("head") == "mlm"
        fields["act_fn"] = any_of(*acts, *([] if gated or mlm else ["solu_ln"]))
    return fields


@settings(max_examples=examples(120), deadline=None, derandomize=True)
@given(fields=_fields(), n_pos=st.integers(1, 6), n_batch=st.integers(1, 3), data=st.data())
def test_any_architecture(
    make_model: Make,
    assert_close: Check,
    fields: dict[str, Any],
    n_pos: int,
    n_batch: int,
    data: st.DataObject,
) -> None:
    model = make_model(dtype="float64", **fields)
    run = given_to(model, n_batch, n_pos)
    hook = data.draw(st.sampled_from(list(model.hook_dict)), label="edited")
    change = Change(everywhere=True)
    with torch.no_grad():
        logits, values = reference(model, **run)
        assert_close(model(**run), logits, "unwatched")
        found, cache = model.run_with_cache(**run, names_filter=everything)
        edited, _ = reference(model, **run, edits={hook: change.edit(hook)})
        assert_close(model.run_with_hooks(**run, fwd_hooks=[(hook, change)]), edited, hook)
    assert_close(found, logits, "watched")
    assert set(cache.keys()) == set(values)
    for name in cache:
        assert_close(cache[name], values[name].to(cache[name].dtype), name, 1e-10)


# --- rows of a padded batch ----------------------------------------------------------------------


@settings(max_examples=examples(60), deadline=None, derandomize=True)
@given(data=st.data())
def test_padded_batch_is_its_rows(kind: Kind, assert_close: Check, data: st.DataObject) -> None:
    model = kind(data.draw(st.sampled_from(list(KINDS)), label="kind"))
    lengths = data.draw(st.lists(st.integers(2, 6), min_size=2, max_size=3), label="lengths")
    longest = max(lengths)
    run = given_to(model, len(lengths), longest, data.draw(st.integers(0, 3), label="seed"))
    run = with_padding(run, [longest - n for n in lengths], data.draw(st.booleans(), label="left"))
    with torch.no_grad():
        plain = model(**run)
        logits, cache = model.run_with_cache(**run, names_filter=everything)
        for value in [plain, logits, *cache.values()]:
            assert not value.isnan().any()
        for i in range(len(lengths)):
            row = {k: v[i : i + 1] for k, v in run.items()}
            alone = {k: _real_tokens(row, k) for k in row if not k.endswith("mask")}
            expected, of_row = model.run_with_cache(**alone, names_filter=everything)
            for found in (plain, logits):
                found = found[i : i + 1]
                if not model.cfg.classifies:
                    found = _real(row, "unembed.", found)
                assert_close(found.flatten(), expected.flatten(), "logits")
            for hook, value in cache.items():
                found = value[i : i + 1]
                if not (model.cfg.classifies and hook.startswith("unembed.")):
                    found = _real(row, hook, found)
                assert_close(found.flatten(), of_row[hook].flatten(), hook, 1e-10)


def _real_tokens(row: dict[str, Tensor], key: str) -> Tensor:
    mask = "decoder_attention_mask" if key == "decoder_input" else "attention_mask"
    return row[key][row[mask] > 0][None]
