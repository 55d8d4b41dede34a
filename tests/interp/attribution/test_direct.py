from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from interp import ActivationCache, HookedTransformer, InputError
from interp.attribution import (
    LogitDirection,
    direct_logit_attribution,
    mlp_bias_attribution,
    neuron_attribution,
    source_attribution,
)
from interp.attribution.direct import hooks_needed
from tests.interp.attribution.recorded import TOKENS, WITH_NEURONS, run
from tests.interp.kinds import given_to

MakeModel = Callable[..., HookedTransformer]
AssertClose = Callable[..., None]

MODELS: dict[str, dict[str, Any]] = {
    "LN": {},
    "LNPre": {"normalization_type": "LNPre"},
    "RMS": {"normalization_type": "RMS", "positional_embedding_type": "rotary"},
    "RMSPre": {"normalization_type": "RMSPre"},
    "bare": {"normalization_type": None},
    "llama": {
        "normalization_type": "RMS", "positional_embedding_type": "rotary", "gated_mlp": True,
        "act_fn": "silu", "n_key_value_heads": 2, "tie_word_embeddings": True,
    },
    "one-kv-head": {"n_key_value_heads": 1, "positional_embedding_type": "none"},
    "parallel": {"parallel_attn_mlp": True},
    "attn-only": {"attn_only": True},
    "encoder": {"attention_dir": "bidirectional", "d_vocab_out": 9},
    "no-layers": {"n_layers": 0},
    "ungrouped": {"n_key_value_heads": 2, "ungroup_grouped_query_attention": True},
}  # fmt: skip
models = pytest.mark.parametrize("fields", MODELS.values(), ids=MODELS)
targets = pytest.mark.parametrize(("right", "wrong"), [(3, None), (3, 7), (5, 5)])


def _wanted(logits: Tensor, right: int, wrong: int | None) -> Tensor:
    return logits[..., right] - (0.0 if wrong is None else logits[..., wrong])


@models
@targets
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_parts_sum_to_the_logit(
    fields: dict[str, Any],
    right: int,
    wrong: int | None,
    dtype: str,
    make_model: MakeModel,
    assert_close: AssertClose,
) -> None:
    """At every position, from the hooks that it says it needs and no others."""
    model = make_model(dtype=dtype, **fields)
    logits, cache = run(model, hooks_needed(model))
    found = direct_logit_attribution(model, cache, right, wrong)
    assert found.values.shape == (len(found.components), 3, 7)
    tolerance = 1e-4 if dtype == "float32" else 1e-10
    assert_close(found.total(), _wanted(logits, right, wrong), tolerance=tolerance)


@models
@targets
def test_each_part_is_its_output_through_the_frozen_norm(
    fields: dict[str, Any],
    right: int,
    wrong: int | None,
    make_model: MakeModel,
    assert_close: AssertClose,
) -> None:
    """Each component's vector, normalised with the final stream's own scale, times W_U."""
    model = make_model(dtype="float64", **fields)
    _, cache = run(model)
    kind, weights = model.cfg.normalization_type, model.state_dict()
    stream = (
        cache["hook_embed"]
        if not model.cfg.n_layers
        else cache["resid_post", model.cfg.n_layers - 1]
    )
    if not model.cfg.n_layers and "hook_pos_embed" in cache:
        stream = stream + cache["hook_pos_embed"]
    if kind is not None and kind.startswith("LN"):
        scale = (stream.var(-1, unbiased=False, keepdim=True) + model.cfg.eps).sqrt()
    elif kind is not None:
        scale = (stream.square().mean(-1, keepdim=True) + model.cfg.eps).sqrt()
    else:
        scale = torch.ones(3, 7, 1, dtype=torch.float64)

    def through(x: Tensor) -> Tensor:
        if kind is not None and kind.startswith("LN"):
            x = x - x.mean(-1, keepdim=True)
        x = x / scale
        if "ln_final.w" in weights:
            x = x * weights["ln_final.w"]
        return _wanted(x @ model.W_U, right, wrong)

    expected: dict[tuple[str, int | None, int | None], Tensor] = {}
    biases = torch.zeros(24, dtype=torch.float64)
    for layer, block in enumerate(model.blocks):
        z = cache["z", layer]
        for head in range(4):
            expected["head", layer, head] = through(z[:, :, head] @ block.attn.W_O[head])
        biases = biases + block.attn.b_O
        if not model.cfg.attn_only:
            expected["mlp", layer, None] = through(cache["mlp_out", layer])
    found = direct_logit_attribution(model, cache, right, wrong)
    values = dict(zip(found.components, found.values, strict=True))
    for part, value in values.items():
        if part.kind in ("head", "mlp"):
            assert_close(value, expected.pop((part.kind, part.layer, part.head)), part.label)
    assert not expected
    by_label = {part.label: value for part, value in values.items()}
    assert_close(by_label["embed"], through(cache["hook_embed"]))
    if model.cfg.positional_embedding_type == "standard":
        assert_close(by_label["pos_embed"], through(cache["hook_pos_embed"].expand(3, 7, 24)))
    constant = _wanted(model.b_U, right, wrong)
    if "ln_final.b" in weights:
        constant = constant + _wanted(weights["ln_final.b"] @ model.W_U, right, wrong)
    bias = sum(value for part, value in values.items() if part.kind == "bias")
    assert_close(bias, through(biases.expand(3, 7, 24)) + constant, "biases")
    assert len(by_label) == len(found.components)
    assert_close(found.scale, scale)
    if model.cfg.n_layers:
        assert_close(found.heads(model.cfg.n_layers, 4)[1, 2], by_label["L1H2"])


@pytest.mark.parametrize("name", ["LN", "RMS", "llama", "parallel", "attn-only"])
def test_as_the_cache_computes_it_on_a_folded_model(
    name: str, make_model: MakeModel, assert_close: AssertClose
) -> None:
    """TransformerLens's way: stack the results of heads, then `logit_attrs`."""
    model = make_model(dtype="float64", **MODELS[name]).process_weights()
    _, cache = run(model)
    stack = cache.stack_head_results(2)
    for right, wrong in ((3, None), (3, 7)):
        expected = cache.logit_attrs(stack, right, wrong)
        found = direct_logit_attribution(model, cache, right, wrong)
        assert_close(found.heads(2, 4).flatten(0, 1), expected)


@models
def test_sources_sum_to_the_head(
    fields: dict[str, Any], make_model: MakeModel, assert_close: AssertClose
) -> None:
    model = make_model(dtype="float64", **fields)
    _, cache = run(model)
    found = direct_logit_attribution(model, cache, 3, 7)
    for part, value in zip(found.components, found.values, strict=True):
        if part.kind != "head":
            continue
        assert part.layer is not None
        assert part.head is not None
        sources = source_attribution(model, cache, found, part.layer, part.head)
        assert sources.shape == (3, 7, 7)
        assert_close(sources.sum(-1), value, part.label)
        if model.cfg.attention_dir == "causal":
            assert (sources.triu(1) == 0).all()


def test_one_source_by_hand(make_model: MakeModel, assert_close: AssertClose) -> None:
    model = make_model(dtype="float64", n_key_value_heads=2, normalization_type=None)
    _, cache = run(model)
    found = direct_logit_attribution(model, cache, 3)
    sources = source_attribution(model, cache, found, 1, 2)
    v = cache["v", 1][2, 4, 1]  # query head 2 reads key/value head 1
    expected = cache["pattern", 1][2, 2, 6, 4] * (v @ model.blocks[1].attn.W_O[2] @ model.W_U[:, 3])
    assert_close(sources[2, 6, 4], expected)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_rows(side: str, make_model: MakeModel, assert_close: AssertClose) -> None:
    model = make_model(dtype="float64", **MODELS["llama"])
    mask = torch.ones(3, 7, dtype=torch.long)
    mask[1, :4] = 0
    mask[2, 0] = 0
    mask = mask if side == "left" else mask.flip(1)
    logits, cache = run(model, mask=mask)
    found = direct_logit_attribution(model, cache, 3, 7)
    assert_close(found.total(), _wanted(logits, 3, 7))
    sources = source_attribution(model, cache, found, 0, 1)
    assert_close(sources.sum(-1), found.heads(2, 4)[0, 1])
    assert (sources[(mask == 0)[:, None, :].expand_as(sources)] == 0).all()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_summed_in_fp32(dtype: str, make_model: MakeModel) -> None:
    model = make_model(dtype=dtype)
    logits, cache = run(model)
    found = direct_logit_attribution(model, cache, 3, 7)
    assert found.values.dtype == torch.float32
    expected = _wanted(logits, 3, 7).float()
    scale = logits.abs().max().float()
    rounding = torch.finfo(getattr(torch, dtype)).eps * scale
    assert (found.total() - expected).abs().max() <= 8 * rounding


def test_edits_are_part_of_what_is_explained(
    make_model: MakeModel, assert_close: AssertClose
) -> None:
    """A knocked-out head adds nothing, and the rest sums to the edited logit."""
    model = make_model(dtype="float64")

    def knock_out(z: Tensor, hook: Any) -> Tensor:
        z[:, :, 2] = 0.0
        return z

    with model.hooks([("blocks.0.attn.hook_z", knock_out)]):
        logits, cache = run(model)
    found = direct_logit_attribution(model, cache, 3, 7)
    assert_close(found.total(), _wanted(logits, 3, 7))
    assert (found.heads(2, 4)[0, 2] == 0).all()


def test_direction(make_model: MakeModel, assert_close: AssertClose) -> None:
    model = make_model(dtype="float64")
    both, right, wrong = (LogitDirection.of(model, *t) for t in ((3, 7), (3,), (7,)))
    for name in ("direction", "norm_bias", "unembed_bias"):
        assert_close(getattr(both, name), getattr(right, name) - getattr(wrong, name), name)


@pytest.mark.parametrize(("right", "wrong"), [(-1, None), (31, None), (0, 31), (0, -1)])
def test_tokens_outside_the_vocabulary(
    right: int, wrong: int | None, make_model: MakeModel
) -> None:
    model = make_model()
    _, cache = run(model)
    with pytest.raises(InputError, match=r"0 … 30"):
        direct_logit_attribution(model, cache, right, wrong)


def test_caches_that_do_not_do(make_model: MakeModel) -> None:
    model = make_model()
    _, cache = model.run_with_cache(TOKENS[:1], remove_batch_dim=True)
    with pytest.raises(InputError, match="batch axis"):
        direct_logit_attribution(model, cache, 3)
    _, cache = run(model, ["hook_embed"])
    with pytest.raises(KeyError, match="names_filter"):
        direct_logit_attribution(model, cache, 3)


@pytest.mark.parametrize(("layer", "head"), [(2, 0), (0, 4), (-3, 0)])
def test_heads_that_are_not_there(layer: int, head: int, make_model: MakeModel) -> None:
    model = make_model()
    _, cache = run(model)
    found = direct_logit_attribution(model, cache, 3)
    with pytest.raises(InputError, match="must lie in 0 …"):
        source_attribution(model, cache, found, layer, head)


def test_heads_counted_from_the_end(make_model: MakeModel) -> None:
    model = make_model(n_key_value_heads=2)
    _, cache = run(model)
    found = direct_logit_attribution(model, cache, 3)
    for head in range(4):
        expected = source_attribution(model, cache, found, 1, head)
        assert torch.equal(source_attribution(model, cache, found, -1, head - 4), expected)


@pytest.mark.parametrize("mixture", [False, True])
def test_records_of_another_run_than_the_attribution(mixture: bool, make_model: MakeModel) -> None:
    """Other rows or positions would broadcast to numbers that mean nothing."""
    fields = {"gated_mlp": True, "num_experts": 4, "experts_per_token": 2} if mixture else {}
    model = make_model(**fields)
    _, cache = run(model)
    found = direct_logit_attribution(model, cache, 3)
    _, last = model.run_with_cache(TOKENS, pos_slice=-1)
    _, one_row = model.run_with_cache(TOKENS[:1])
    _, squeezed = model.run_with_cache(TOKENS[:1], remove_batch_dim=True)
    others = [
        (last, r"\[3, 7\] on cpu.* has \[3, 1\] on cpu"),
        (one_row, r"has \[1, 7\]"),
        (squeezed, "batch axis"),
        (cache.to("meta"), r"on cpu\. .* on meta"),
    ]
    asks: list[Callable[[ActivationCache], Tensor]] = [
        lambda other: source_attribution(model, other, found, 0, 1),
        lambda other: neuron_attribution(model, other, found, 0),
    ]
    if mixture:
        asks.append(lambda other: mlp_bias_attribution(model, other, found, 0))
    for other, text in others:
        for ask in asks:
            with pytest.raises(InputError, match=text):
                ask(other)
    with pytest.raises(InputError, match="batch axis"):
        mlp_bias_attribution(model, squeezed, found, 0)
    # Of one position throughout, a head still reads all: its v must be there.
    at_last = direct_logit_attribution(model, last, 3)
    with pytest.raises(InputError, match=r"every key position.* \[3, 7\].* \[3, 1\]"):
        source_attribution(model, last, at_last, 0, 1)
    neurons = neuron_attribution(model, last, at_last, 0)
    expected = neuron_attribution(model, cache, found, 0)[:, -1:]
    assert (neurons - expected).abs().max() <= 1e-5


@pytest.mark.parametrize("name", ["gpt2", "gemma2", "bert-lm", "t5", "mixture-sandwich"])
def test_it_is_where_the_records_are(name: str, make_model: MakeModel) -> None:
    """The model stays on its device, and only what is small leaves it."""
    model = make_model(**{**WITH_NEURONS, "bert-lm": {"norm_placement": "post"}}[name])
    with torch.no_grad():
        _, cache = model.run_with_cache(**given_to(model))
    expected = direct_logit_attribution(model, cache, 3, 7)
    cache = cache.to("meta")
    found = direct_logit_attribution(model, cache, 3, 7)
    assert found.components == expected.components
    results = [
        found.values,
        found.scale,
        found.total(),
        source_attribution(model, cache, found, 0, 1),
        neuron_attribution(model, cache, found, 0),
        mlp_bias_attribution(model, cache, found, 0),
    ]
    assert {r.device.type for r in results} == {"meta"}
    assert found.values.shape == expected.values.shape
    assert found.direction.direction.device.type == "cpu"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_records_beside_a_model_on_a_gpu(make_model: MakeModel, assert_close: AssertClose) -> None:
    model = make_model(dtype="float64", device="cuda")
    with torch.no_grad():
        logits, cache = model.run_with_cache(TOKENS.to("cuda"), device="cpu")
    found = direct_logit_attribution(model, cache, 3, 7)
    assert_close(found.total(), _wanted(logits, 3, 7).cpu())
    sources = source_attribution(model, cache, found, 0, 1)
    assert_close(sources.sum(-1), found.heads(2, 4)[0, 1])
    neurons = neuron_attribution(model, cache, found, 0).sum(-1)
    row = found.values[[c.label for c in found.components].index("L0MLP")]
    assert_close(neurons + mlp_bias_attribution(model, cache, found, 0), row)


def test_nothing_else_is_computed(make_model: MakeModel) -> None:
    """Neither patterns nor per-head results are needed."""
    for fields in MODELS.values():
        names = hooks_needed(make_model(**fields))
        assert not [n for n in names if "pattern" in n or "result" in n or "scores" in n]
        assert len(names) == len(set(names))
