"""Runs of every kind of model: cached step by step, in part, in other precisions, reloaded."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from interp import HookedTransformer, KeyValueCache
from tests.covering import every_nth
from tests.interp.each_alone import each_alone
from tests.interp.kinds import (
    KINDS,
    OTHERS,
    everything,
    given_to,
    one_place_each,
    shared_out,
    with_padding,
)
from tests.interp.restatement import reference

Check = Callable[..., None]
Make = Callable[..., HookedTransformer]
Kind = Callable[[str], HookedTransformer]

ENCODER_DECODERS = [n for n, f in OTHERS.items() if f.get("architecture") == "encoder-decoder"]
# Dynamic scaling takes no cache beyond the length from which it depends on the text's.
CACHED = [n for n, f in OTHERS.items() if f.get("architecture") != "encoder" and n != "dynamic"]
STEPWISE = ["gpt2", "gptj", "llama-ungrouped", *CACHED]
HALF = (torch.bfloat16, torch.float16)


# --- with a cache --------------------------------------------------------------------------------


def _scaled(x: Tensor) -> Tensor:
    """An edit that does the same to each entry, wherever in the run it is."""
    return x * 0.5


def _scale(x: Tensor, hook: Any) -> Tensor:
    return _scaled(x)


def _step_by_step(model: HookedTransformer, run: dict[str, Tensor], steps: list[int]) -> Tensor:
    run = dict(run)
    outer = "decoder_" if "decoder_input" in run else ""
    tokens, mask = run.pop(f"{outer}input"), run.pop(f"{outer}attention_mask", None)
    types = run.pop("token_type_ids", None)
    past = KeyValueCache.init_cache(model.cfg, "cpu", tokens.shape[0])
    fixed: dict[str, Any] = {}
    if outer:
        fixed["encoder_output"] = model.encode(
            run["input"], attention_mask=run.get("attention_mask")
        )
    found, at = [], 0
    for n in [*steps, tokens.shape[1] - sum(steps)]:
        part = slice(at, at + n)
        given: dict[str, Any] = {f"{outer}input": tokens[:, part], "past_kv_cache": past, **fixed}
        if mask is not None:
            given[f"{outer}attention_mask"] = mask[:, part]
        if types is not None:
            given["token_type_ids"] = types[:, part]
        found.append(model(**given))
        at += n
    assert len(past) == tokens.shape[1]
    return torch.cat(found, 1)


@pytest.mark.parametrize("padding", [None, "left", "right"])
@pytest.mark.parametrize("name", STEPWISE)
def test_edits_while_decoding_step_by_step(
    name: str, padding: str | None, kind: Kind, assert_close: Check
) -> None:
    """Any edit does with a cache what it does without one."""
    model = kind(name)
    run = given_to(model, 2, 7)
    if padding is not None:
        run = with_padding(run, [2, 1], padding == "left")
    mask = run.get("decoder_attention_mask", run.get("attention_mask"))
    outer = run.get("decoder_input", run["input"])
    real = torch.ones_like(outer) if mask is None else mask
    every = {
        x: one_place_each([n for n in kind(x).hook_dict if not n.endswith("hook_tokens")], i)
        for i, x in enumerate(STEPWISE)
    }
    # Each edit is made in one of the three; in which, changes with the kind of model.
    first = [None, "left", "right"].index(padding) + STEPWISE.index(name)
    hooks = every_nth(shared_out(every, 3)[name], 3, first)
    with torch.no_grad():
        plain = reference(model, **run)[0]
        assert_close(_step_by_step(model, run, [2, 1, 1])[real > 0], plain[real > 0], "unedited")
        for hook, expected, _ in each_alone(model, dict.fromkeys(hooks, _scaled), **run):
            with model.hooks([(hook, _scale)]):
                found = _step_by_step(model, run, [2, 1, 1])
            assert_close(found[real > 0], expected[real > 0], hook)


def test_a_step_writes_what_a_hook_left_of_cross_attention(
    make_model: Make, assert_close: Check
) -> None:
    """An edit of cross keys lasts as long as its hook: the cache keeps them as projected."""
    model = make_model(dtype="float64", **KINDS["translator"])
    run = given_to(model, 2, 5)
    with torch.no_grad():
        encoded = model.encode(run["input"])
        past = KeyValueCache.init_cache(model.cfg, "cpu", 2)
        edit = [("decoder.blocks.0.cross_attn.hook_[kv]", _scale)]
        head, tail = run["decoder_input"][:, :2], run["decoder_input"][:, 2:]
        model(encoder_output=encoded, decoder_input=head)  # leaves no trace
        with model.hooks(edit):
            first = model(encoder_output=encoded, decoder_input=head, past_kv_cache=past)
        second = model(encoder_output=encoded, decoder_input=tail, past_kv_cache=past)
        edits = {f"decoder.blocks.0.cross_attn.hook_{x}": _scaled for x in "kv"}
        run_head = {**run, "decoder_input": head}
        assert_close(first, reference(model, **run_head, edits=edits)[0])
        # One layer: what the first step wrote into the stream reaches no later step.
        assert_close(second, reference(model, **run)[0][:, 2:])


# --- parts of a run ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OTHERS)
def test_stopping_and_starting(name: str, kind: Kind, assert_close: Check) -> None:
    model = kind(name)
    run = with_padding(given_to(model), [1, 0, 2], left=True)
    prefix = "decoder." if "decoder_input" in run else ""
    real = run[f"{prefix[:-1] + '_' if prefix else ''}attention_mask"] > 0
    n = model.cfg.n_layers
    with torch.no_grad():
        logits, values = reference(model, **run)
        for layer in range(n + 1):
            last = f"{prefix}blocks.{min(layer, n - 1)}."
            expected = values[last + ("hook_resid_pre" if layer < n else "hook_resid_post")]
            stopped = model(**run, stop_at_layer=layer)
            assert_close(stopped[real], expected[real], f"stop at {layer}")
            if not prefix:
                rest = {"attention_mask": run["attention_mask"]}
                found = model(expected, **rest, start_at_layer=layer)
                shown = ... if model.cfg.classifies else real
                assert_close(found[shown], logits[shown], f"start at {layer}")


@pytest.mark.parametrize("name", ENCODER_DECODERS)
def test_encoder_hooks_alone(name: str, kind: Kind, assert_close: Check) -> None:
    """Without an output, nothing runs after the last layer that anyone wants."""
    model = kind(name)
    run = given_to(model)
    ran: list[str] = []
    handles = [
        module.register_forward_hook(lambda *_, label=label: ran.append(label))
        for label, module in model.named_modules()
        if label.endswith(("blocks.0", "blocks.1", "unembed", "decoder.ln_final"))
    ]
    wanted = "encoder.blocks.0.attn.hook_pattern"
    with torch.no_grad():
        _, values = reference(model, **run)
        output, cache = model.run_with_cache(**run, names_filter=wanted, return_type=None)
    for handle in handles:
        handle.remove()
    assert output is None
    assert list(cache) == [wanted]
    assert_close(cache[wanted], values[wanted], wanted)
    assert ran == ["encoder.blocks.0"]


@pytest.mark.parametrize("name", ENCODER_DECODERS)
def test_positions_of_a_slice_are_the_targets(name: str, kind: Kind, assert_close: Check) -> None:
    model = kind(name)
    run = given_to(model, 1, 6)  # six tokens of source, five of target
    with torch.no_grad():
        _, values = reference(model, **run)
        for chosen in (4, (1, 3), [0, 2]):
            _, cache = model.run_with_cache(
                **run, names_filter=everything, pos_slice=chosen, remove_batch_dim=True
            )
            places = [4] if chosen == 4 else [1, 2] if chosen == (1, 3) else [0, 2]
            for hook, value in cache.items():
                whole = values[hook][0]
                of_source = any(f"cross_attn.{x}" in hook for x in ("hook_k", "hook_v", "k_norm"))
                if not (hook.startswith("encoder.") or of_source):
                    scores = ("hook_attn_scores", "hook_pattern", "hook_pos_bias")
                    whole = whole[:, places] if hook.endswith(scores) else whole[places]
                assert_close(value, whole.to(value.dtype), hook, 1e-10)


@pytest.mark.parametrize("name", [n for n in OTHERS if n not in ENCODER_DECODERS])
def test_slices_and_single_rows(name: str, kind: Kind, assert_close: Check) -> None:
    model = kind(name)
    run = given_to(model, 1, 5)
    with torch.no_grad():
        _, values = reference(model, **run)
        _, cache = model.run_with_cache(
            **run, names_filter=everything, pos_slice=(1, 3), remove_batch_dim=True
        )
    for hook, value in cache.items():
        whole = values[hook][0]
        if hook.endswith(("hook_attn_scores", "hook_pattern", "hook_pos_bias")):
            whole = whole[:, 1:3]
        elif not (hook.startswith("pooler.") or (model.cfg.classifies and "unembed" in hook)):
            whole = whole[1:3]
        assert_close(value, whole.to(value.dtype), hook, 1e-10)


@pytest.mark.parametrize("name", ENCODER_DECODERS)
@pytest.mark.parametrize("left", [True, False])
def test_loss_is_of_the_decoder_s_next_tokens(
    name: str, left: bool, kind: Kind, assert_close: Check
) -> None:
    model = kind(name)
    run = with_padding(given_to(model), [2, 0, 1], left)
    with torch.no_grad():
        logits, _ = reference(model, **run)
        total, n = 0.0, 0
        for row, tokens, mask in zip(
            logits, run["decoder_input"], run["decoder_attention_mask"], strict=True
        ):
            places = mask.nonzero().flatten().tolist()
            for here, following in itertools.pairwise(places):
                total -= float(row[here].log_softmax(-1)[tokens[following]])
                n += 1
        assert_close(model(**run, return_type="loss"), torch.tensor(total / n).double(), "", 1e-6)


# --- other precisions, other places --------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "dtype"), [(n, d) for i, n in enumerate(OTHERS) for d in every_nth(HALF, 2, i)]
)
def test_half_precision(name: str, dtype: torch.dtype, make_model: Make) -> None:
    """Everything runs, watched or not, edited or not, with a loss and its gradients."""
    model = make_model(**KINDS[name]).to(dtype)
    assert model.cfg.dtype == dtype
    assert {p.dtype for p in model.parameters()} == {dtype}
    run = with_padding(given_to(model), [2, 0, 1], left=True)
    expected, _ = reference(model, **run)
    key = "decoder_attention_mask" if "decoder_input" in run else "attention_mask"
    real: Any = ... if model.cfg.classifies else run[key] > 0
    plain = model(**run)
    watched, cache = model.run_with_cache(**run, names_filter=everything)
    for found in (plain, watched):
        assert found.dtype == dtype
        error = (found[real].double() - expected[real]).abs().max() / expected[real].abs().max()
        assert error <= (0.1 if dtype == torch.bfloat16 else 0.02)
    for hook, value in cache.items():
        assert not value.isnan().any(), hook
    hooks = [(n, lambda x, hook: x * 1) for n in model.hook_dict]
    found = model.run_with_hooks(**run, fwd_hooks=hooks)
    assert not found.isnan().any()
    found[real].float().sum().backward()
    for weight, parameter in model.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), weight


@pytest.mark.parametrize("name", CACHED)
def test_cached_half_precision(name: str, make_model: Make) -> None:
    model = make_model(**KINDS[name]).to(torch.bfloat16)
    run = given_to(model, 2, 6)
    with torch.no_grad():
        found, whole = _step_by_step(model, run, [2, 1]), model(**run)
    assert found.dtype == torch.bfloat16
    assert (found - whole).abs().max() <= 0.1 * whole.abs().max()


@pytest.mark.parametrize("name", OTHERS)
def test_moving_to_another_dtype_and_back(name: str, make_model: Make, assert_close: Check) -> None:
    model = make_model(dtype="float64", **KINDS[name])
    run = given_to(model)
    with torch.no_grad():
        model(**run)  # fills what is kept between runs
        narrow = model.float()(**run)
        assert narrow.dtype == torch.float32
        wide = model.double()(**run)
        assert wide.dtype == torch.float64
        assert_close(wide, reference(model, **run)[0], "", 1e-10)
        assert_close(narrow, wide.float(), "", 1e-5)


@pytest.mark.parametrize("name", KINDS)
def test_saved_and_loaded(name: str, kind: Kind, tmp_path: Path) -> None:
    model = kind(name)
    again = HookedTransformer.load(model.save(tmp_path / "model"), device="cpu")
    assert again.cfg == model.cfg
    assert again.cfg.to_dict() == model.cfg.to_dict()
    old, new = model.state_dict(), again.state_dict()
    assert list(old) == list(new)
    assert all(torch.equal(old[key], new[key]) for key in old)
    assert list(again.hook_dict) == list(model.hook_dict)
    run = given_to(model)
    with torch.no_grad():
        assert torch.equal(again(**run), model(**run))
    deeper = model.cfg.n_layers + 1
    if "attn_types" not in KINDS[name] and name not in ENCODER_DECODERS:
        assert model.cfg.replace(n_layers=deeper) == again.cfg.replace(n_layers=deeper)


def test_names_of_weights(kind: Kind) -> None:
    """An encoder–decoder's carry their stack's name; all others are TransformerLens's."""
    for name in KINDS:
        model = kind(name)
        both = name in ENCODER_DECODERS
        heads = ("embed.", "unembed.", "mlm_head.", "pooler.")
        stacks = (
            ("encoder.", "decoder.")
            if both
            else ("blocks.", "pos_embed.", "ln_final.", "ln_embed.", "token_type_embed.")
        )
        for key in model.state_dict():
            assert key.startswith(heads + stacks), key
        assert ("unembed.W_U" in model.state_dict()) != model.cfg.tie_word_embeddings
