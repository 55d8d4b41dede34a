"""Activations recorded while generating are those of one run over all the tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from interp import ActivationCache, HookedTransformer, InputError
from tests.covering import covering
from tests.interp.generation.fakes import SEQ2SEQ, FakeTokenizer, some_tokens

MakeModel = Callable[..., HookedTransformer]
Check = Callable[..., None]

FIELDS: dict[str, dict[str, Any]] = {
    "gpt2": {"n_ctx": 40},
    "rotary": {
        "normalization_type": "RMS", "positional_embedding_type": "rotary", "gated_mlp": True,
        "act_fn": "silu", "n_key_value_heads": 2, "qk_norm": "head", "norm_placement": "sandwich",
    },
    "alibi": {"positional_embedding_type": "alibi", "parallel_attn_mlp": True},
    "t5-bias": {"positional_embedding_type": "relative_positional_bias"},
    "shortformer": {"positional_embedding_type": "shortformer", "n_ctx": 40},
    "experts": {
        "num_experts": 3, "experts_per_token": 2, "act_fn": "silu", "gated_mlp": True,
        "positional_embedding_type": "rotary", "window_size": 4,
    },
    "stretched": {
        "positional_embedding_type": "rotary",
        "rotary_scaling": {"kind": "dynamic", "factor": 2.0, "original_n_ctx": 8},
    },
    "bidirectional": {"attention_dir": "bidirectional", "n_ctx": 40},
    "seq2seq": {**SEQ2SEQ, "qk_norm": "head"},
}  # fmt: skip
kinds = pytest.mark.parametrize("fields", FIELDS.values(), ids=FIELDS)


def _whole(
    model: HookedTransformer, source: Tensor, tokens: Tensor, mask: Tensor | None, names: Any
) -> ActivationCache:
    if model.cfg.architecture == "encoder-decoder":
        return model.run_with_cache(
            source, decoder_input=tokens, attention_mask=mask, names_filter=names
        )[1]
    if mask is not None:
        ones = mask.new_ones(len(mask), tokens.shape[1] - mask.shape[1])
        mask = torch.cat([mask, ones], 1)
    return model.run_with_cache(tokens, attention_mask=mask, names_filter=names)[1]


def _check_same(
    found: ActivationCache, expected: ActivationCache, n_rows: int, check: Check
) -> None:
    assert list(found) == list(expected)
    for name in expected:
        wanted = expected[name]
        assert wanted.shape[0] == n_rows, name
        if not wanted.is_floating_point():
            assert torch.equal(found[name], wanted), name
            continue
        check(found[name], wanted, name)


@pytest.mark.parametrize(
    ("kind", "padded", "use_past_kv_cache", "every_hook"),
    covering(list(FIELDS), [False, True], [True, False], [False, True]),
)
def test_every_hook(
    kind: str,
    padded: bool,
    use_past_kv_cache: bool,
    every_hook: bool,
    make_model: MakeModel,
    assert_close: Check,
) -> None:
    model = make_model(**FIELDS[kind])
    source, mask = some_tokens(), None
    if padded:
        mask = torch.ones_like(source)
        mask[1, :2], mask[2, :4] = 0, 0
    names = (lambda name: True) if every_hook else None
    tokens, found = model.generate_with_cache(
        source, 7, names, do_sample=False, attention_mask=mask, use_past_kv_cache=use_past_kv_cache
    )
    plain = model.generate(source, 7, do_sample=False, attention_mask=mask)
    assert torch.equal(tokens, plain)
    with torch.no_grad():
        expected = _whole(model, source, tokens, mask, names)
    _check_same(found, expected, 3, assert_close)


@kinds
@pytest.mark.parametrize("use_past_kv_cache", [True, False])
def test_interventions(
    fields: dict[str, Any], use_past_kv_cache: bool, make_model: MakeModel, assert_close: Check
) -> None:
    """Hooks that edit act while generating, and what is recorded is what flows on after them."""
    model = make_model(**fields)
    stack = "decoder." if "architecture" in fields else ""
    steering = torch.randn(24, generator=torch.Generator().manual_seed(0))

    def ablate(z: Tensor, hook: Any) -> None:
        z[:, :, 1] = 0.0

    edits: list[Any] = [
        (f"{stack}blocks.0.hook_resid_pre", lambda x, hook: x + steering),
        (f"{stack}blocks.1.attn.hook_z", ablate),
        (f"{stack}blocks.1.attn.hook_v", lambda v, hook: v * 2),
        (f"{stack}blocks.0.attn.hook_pattern", lambda p, hook: p * 0.5),
    ]
    if stack:
        edits.append(("encoder.blocks.1.hook_resid_post", lambda x, hook: x - steering))
        edits.append(("decoder.blocks.0.cross_attn.hook_k", lambda k, hook: k * 3))
    source = some_tokens()
    options: dict[str, Any] = {"do_sample": False, "use_past_kv_cache": use_past_kv_cache}
    with model.hooks(edits):
        tokens, found = model.generate_with_cache(source, 7, **options)
        assert torch.equal(model.generate(source, 7, do_sample=False), tokens)
        with torch.no_grad():
            expected = _whole(model, source, tokens, None, None)
    _check_same(found, expected, 3, assert_close)
    with torch.no_grad():
        unedited = _whole(model, source, tokens, None, "unembed.hook_out")["unembed.hook_out"]
    assert (found["unembed.hook_out"] - unedited).abs().amax((1, 2)).min() > 0.1


@pytest.mark.parametrize("kind", ["gpt2", "seq2seq"])
@pytest.mark.parametrize(
    "options",
    [
        {"num_beams": 3},
        {"num_beams": 3, "num_return_sequences": 2},
        {"num_return_sequences": 2, "seed": 0},
        {"do_sample": False, "eos_token_id": [2, 9, 14, 28]},
    ],
)
def test_of_texts(
    kind: str, options: dict[str, Any], make_model: MakeModel, assert_close: Check
) -> None:
    model = make_model(FakeTokenizer(0, 2, 1, "left"), **FIELDS[kind])
    texts = ["5 6 7 8 9", "11", "20 21 22"]
    n = options.get("num_return_sequences", 1)
    source, mask = model.tokenize(texts, None, "left")
    assert mask is not None
    tokens, found = model.generate_with_cache(texts, 6, **options)
    source, mask = source.repeat_interleave(n, 0), mask.repeat_interleave(n, 0)
    with torch.no_grad():
        expected = _whole(model, source, tokens, mask, None)
    _check_same(found, expected, 3 * n, assert_close)


def test_nothing_is_run_twice(make_model: MakeModel) -> None:
    model, seen = make_model(), []
    with model.hooks([("hook_embed", lambda x, hook: seen.append(x.shape[1]))]):
        model.generate_with_cache(some_tokens(), 4, "blocks.0.hook_resid_pre", do_sample=False)
    assert seen == [5, 1, 1, 1, 1]


def test_only_what_is_asked_for_and_without_copies(make_model: MakeModel) -> None:
    model = make_model()
    names = ["blocks.0.hook_resid_post", "blocks.1.hook_resid_pre"]
    _, cache = model.generate_with_cache(some_tokens(), 4, names, do_sample=False)
    assert list(cache) == names
    assert cache[names[0]].data_ptr() == cache[names[1]].data_ptr()
    heads = "blocks.0.hook_q_input"
    _, cache = model.generate_with_cache(some_tokens(), 4, heads, do_sample=False)
    assert cache[heads].shape == (3, 9, 4, 24)
    assert cache.nbytes == 3 * 9 * 24 * 4
    _, cache = model.generate_with_cache(some_tokens(), 4, names, device="cpu", do_sample=False)
    assert len(cache) == 2


def test_no_new_tokens(make_model: MakeModel, assert_close: Check) -> None:
    model = make_model()
    tokens, found = model.generate_with_cache(some_tokens(), 0)
    assert torch.equal(tokens, some_tokens())
    with torch.no_grad():
        _check_same(found, _whole(model, tokens, tokens, None, None), 3, assert_close)


def test_it_leaves_nothing_behind(make_model: MakeModel) -> None:
    model = make_model()
    model.generate_with_cache(some_tokens(), 2)
    assert not any(point.is_watched for point in model.hook_points())
    with pytest.raises(InputError, match="hook is called"):
        model.generate_with_cache(some_tokens(), 2, "blocks.7.hook_z")
    with (
        pytest.raises(RuntimeError, match="stop here"),
        model.hooks([("blocks.1.hook_resid_mid", _fail)]),
    ):
        model.generate_with_cache(some_tokens(), 2)
    assert not any(point.is_watched for point in model.hook_points())


def _fail(x: Tensor, hook: Any) -> None:
    raise RuntimeError("stop here")


def test_the_last_token_needs_a_position(make_model: MakeModel) -> None:
    model = make_model(n_ctx=8)
    assert model.generate(some_tokens(), 4).shape == (3, 9)
    with pytest.raises(InputError, match="n_ctx"):
        model.generate_with_cache(some_tokens(), 4)
