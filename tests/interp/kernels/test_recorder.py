"""A model's statistics against those of its own hook_pattern, on every kind of model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from interp import HookedTransformer
from interp.errors import InputError
from interp.kernels import STATISTICS, PatternStatistics, attention_statistics
from tests.covering import EXHAUSTIVE
from tests.interp.kernels.oracle import check_top, statistics_of
from tests.interp.kinds import KINDS, given_to, with_padding

Kind = Callable[[str], HookedTransformer]


def parts_of(model: HookedTransformer) -> list[str | None]:
    return ["decoder", "encoder"] if model.cfg.architecture == "encoder-decoder" else [None]


def arguments_for(part: str | None, run: dict[str, Tensor]) -> dict[str, Any]:
    """What of a run's arguments goes to the statistics of this part."""
    of_encoder = ("input", "attention_mask")
    return {k: v for k, v in run.items() if part != "encoder" or k in of_encoder}


def check_layers(
    found: PatternStatistics,
    cache: Any,
    prefix: str,
    layers: list[int],
    tokens: Tensor,
    mask: Tensor | None,
    assert_close: Any,
) -> None:
    """Statistics of these layers against the recorded patterns and scores."""
    real = None if mask is None else mask.bool()
    for place, layer in enumerate(layers):
        pattern = cache[f"{prefix}blocks.{layer}.attn.hook_pattern"]
        expected = statistics_of(pattern, tokens, real)
        for name in found:
            value = found[name][place]
            if name == "lse":
                # ln p = score - lse wherever p > 0
                scores = cache[f"{prefix}blocks.{layer}.attn.hook_attn_scores"]
                seen = pattern > 1e-200
                ours = (scores - value[..., None])[seen]
                assert_close(ours, pattern[seen].log(), "lse")
                assert bool((value[~seen.any(-1)] == -torch.inf).all())
            elif name == "top_source":
                check_top(value, pattern, torch.float64)
            else:
                assert_close(value, expected[name], f"{name} of layer {layer}")


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=6 if EXHAUSTIVE else 2, deadline=None)
@given(
    n_pos=st.integers(1, 9),
    pads=st.one_of(st.none(), st.lists(st.integers(0, 3), min_size=3, max_size=3)),
    left=st.booleans(),
    seed=st.integers(0, 9),
)
def test_equals_the_models_own_pattern(
    kind: Kind, assert_close: Any, name: str, n_pos: int, pads: list[int] | None, left: bool,
    seed: int,
) -> None:  # fmt: skip
    model = kind(name)
    run = given_to(model, 3, n_pos, seed)
    if pads is not None:
        run = with_padding(run, [min(n, n_pos) for n in pads], left)
    _, cache = model.run_with_cache(**run, names_filter=lambda n: ".attn.hook_" in n)
    for part in parts_of(model):
        found = attention_statistics(model, part=part, **arguments_for(part, run))
        assert tuple(found) == STATISTICS
        prefix, key = (f"{part}." if part else "", "decoder_" if part == "decoder" else "")
        layers = list(range(found["lse"].shape[0]))
        check_layers(
            found, cache, prefix, layers, run[f"{key}input"], run.get(f"{key}attention_mask"),
            assert_close,
        )  # fmt: skip


def test_layers_in_the_order_asked_for(kind: Kind) -> None:
    model = kind("gemma2")
    run = given_to(model)
    every = attention_statistics(model, **run)
    some = attention_statistics(model, layers=[-1, 0], statistics=["entropy"], **run)
    assert torch.equal(some["entropy"], every["entropy"][[1, 0]])
    one = attention_statistics(model, layers=1, statistics=["entropy"], **run)
    assert torch.equal(one["entropy"], every["entropy"][1:])


def test_edits_count(kind: Kind, assert_close: Any) -> None:
    """Of tokens, of the stream, of keys, and of the bias that ALiBi's slopes stand for."""
    model = kind("bloom")
    tokens = given_to(model)["input"]
    noise = torch.Generator().manual_seed(0)

    def change(x: Tensor, hook: Any) -> Tensor:
        if hook.name == "hook_tokens":
            return (x * 7 + 1) % 31
        return x + 0.5 * torch.randn(x.shape, generator=noise, dtype=x.dtype)

    names = ["hook_tokens", "blocks.0.hook_resid_pre", "blocks.1.attn.hook_k", "hook_pos_bias"]
    for name in names:
        with model.hooks([(name, change)]):
            noise.manual_seed(0)
            _, cache = model.run_with_cache(tokens, names_filter=["hook_tokens", "*attn.hook_*"])
            noise.manual_seed(0)
            found = attention_statistics(model, tokens)
        check_layers(found, cache, "", [0, 1], cache["hook_tokens"], None, assert_close)


def test_grouped_queries_with_keys_of_their_own(kind: Kind, assert_close: Any) -> None:
    """Editing hook_attn_in gives every query head its own keys."""
    model = kind("llama")
    tokens = given_to(model)["input"]

    def change(x: Tensor, hook: Any) -> Tensor:
        return x * torch.linspace(0.5, 2.0, x.shape[2], dtype=x.dtype)[:, None]

    with model.hooks([("blocks.1.hook_attn_in", change)]):
        _, cache = model.run_with_cache(tokens, names_filter="*attn.hook_*")
        found = attention_statistics(model, tokens)
    assert cache["blocks.1.attn.hook_rot_k"].shape[2] == model.cfg.n_heads
    check_layers(found, cache, "", [0, 1], tokens, None, assert_close)


@pytest.mark.parametrize(
    ("name", "hook"),
    [("gpt2", "blocks.1.attn.hook_pattern"), ("gpt2", "blocks.0.attn.hook_attn_scores"),
     ("full-ungrouped", "blocks.0.attn.k_norm.hook_scale")],
)  # fmt: skip
def test_edits_that_queries_and_keys_do_not_show_are_refused(
    kind: Kind, name: str, hook: str
) -> None:
    model = kind(name)
    tokens = given_to(model)["input"]
    with model.hooks([(hook, lambda x, hook: x)]):
        with pytest.raises(InputError, match=f"{hook} is: record hook_pattern"):
            attention_statistics(model, tokens)
        other = 1 - int(hook.split(".")[1])
        attention_statistics(model, tokens, layers=[other])
    assert not any(p.is_watched for p in model.hook_points())


@pytest.mark.parametrize("hook", ["blocks.1.attn.hook_pattern", "blocks.0.attn.hook_attn_scores"])
def test_what_changes_gradients_alone_is_no_edit(kind: Kind, hook: str) -> None:
    model = kind("gpt2")
    tokens = given_to(model)["input"]
    expected = attention_statistics(model, tokens, statistics=["entropy"]).entropy
    with model.hooks(bwd_hooks=[(hook, lambda x, hook: 0 * x)]):
        found = attention_statistics(model, tokens, statistics=["entropy"]).entropy
    assert found is not None and expected is not None
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_attention_stays_fused_and_later_layers_do_not_run(kind: Kind, monkeypatch: Any) -> None:
    model = kind("neox")
    tokens = given_to(model)["input"]
    ran = []
    for i, block in enumerate(model.blocks):
        fused = block.attn._attend_fused
        monkeypatch.setattr(
            block.attn, "_attend_fused", lambda *a, i=i, fused=fused: ran.append(i) or fused(*a)
        )
        monkeypatch.setattr(block.attn, "_attend_explicitly", None)
    attention_statistics(model, tokens, layers=[0])
    assert ran == [0]


def test_inside_a_hook_and_after_an_error(kind: Kind) -> None:
    """Runs inside runs keep their own recorders, and nothing stays attached."""
    model = kind("gpt2")
    tokens = given_to(model)["input"]
    expected = attention_statistics(model, tokens, statistics=["entropy"])
    inner: list[PatternStatistics] = []

    def start_another(x: Tensor, hook: Any) -> None:
        if not inner:
            inner.append(expected)  # the run within passes here too
            inner.append(attention_statistics(model, tokens, statistics=["entropy"]))

    with model.hooks([("blocks.0.hook_resid_post", start_another)]):
        outer = attention_statistics(model, tokens, statistics=["entropy"])
    assert torch.equal(inner[1]["entropy"], expected["entropy"])
    assert torch.equal(outer["entropy"], expected["entropy"])

    def fail(x: Tensor, hook: Any) -> None:
        raise RuntimeError("on purpose")

    with (
        model.hooks([("blocks.1.hook_resid_pre", fail)]),
        pytest.raises(RuntimeError, match="on purpose"),
    ):
        attention_statistics(model, tokens)
    assert not any(p.is_watched for p in model.hook_points())


def test_one_row_without_a_batch_axis(kind: Kind) -> None:
    model = kind("t5")
    run = given_to(model)
    whole = attention_statistics(model, **run, statistics=["entropy"])["entropy"]
    row = attention_statistics(
        model, run["input"][0], decoder_input=run["decoder_input"][0], statistics=["entropy"]
    )
    assert row["entropy"].shape == (1, 1, 4, 4)
    torch.testing.assert_close(row["entropy"], whole[:, :1], rtol=0, atol=1e-12)
    output = model.encode(run["input"])
    again = attention_statistics(
        model, encoder_output=output, decoder_input=run["decoder_input"], statistics=["entropy"]
    )
    torch.testing.assert_close(again["entropy"], whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("gpt2", {"layers": [2]}, "layers must lie in -2 … 1"),
        ("gpt2", {"layers": []}, "at least one"),
        ("gpt2", {"layers": [True]}, "layers must lie"),
        ("gpt2", {"statistics": ["pattern"]}, "unknown statistic"),
        ("gpt2", {"part": "encoder"}, "one stack"),
        ("gpt2", {"input": None}, "input must be"),
        ("gpt2", {"decoder_input": torch.zeros(1, 2, dtype=torch.int64)}, "no meaning"),
        ("gpt2", {"route": "kernel"}, "the kernel takes"),
        ("t5", {"part": "source"}, "part must be"),
        ("t5", {"decoder_input": None}, "needs decoder_input"),
        ("t5", {"part": "encoder"}, "the encoder's statistics"),
    ],
)
def test_refuses(kind: Kind, name: str, change: dict[str, Any], message: str) -> None:
    model = kind(name)
    with pytest.raises(InputError, match=message):
        attention_statistics(model, **{**given_to(model), **change})
    assert not any(p.is_watched for p in model.hook_points())
