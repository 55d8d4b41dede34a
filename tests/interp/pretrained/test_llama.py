from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from interp import HookedTransformer, InputError, load_model
from interp.pretrained.llama import make_config

SHAPES: dict[str, dict[str, Any]] = {
    "grouped": {},
    "one-kv-head-tied": {
        "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 8, "hidden_size": 21,
        "tie_word_embeddings": True, "rope_theta": 500.0,
    },
    "ungrouped": {
        "num_key_value_heads": 4, "head_dim": None, "hidden_size": 32, "num_hidden_layers": 3,
        "rms_norm_eps": 0.05,
    },
    "wide-heads": {
        "num_attention_heads": 6, "num_key_value_heads": 3, "head_dim": 16, "hidden_size": 12,
        "hidden_act": "gelu", "intermediate_size": 7, "vocab_size": 101,
    },
    "tanh": {"hidden_act": "gelu_pytorch_tanh", "num_hidden_layers": 1, "head_dim": 2},
    "relu": {"hidden_act": "relu", "num_key_value_heads": None, "rope_theta": 1e6},
}  # fmt: skip

shapes = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


def _tokens(shape: dict[str, Any], n_tokens: int = 9) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(shape.get("vocab_size", 37), (3, n_tokens), generator=generator)


def _hf(hf_llama: Any, shape: dict[str, Any], dtype: torch.dtype = torch.float32) -> Any:
    """transformers 5 takes the base of the rotary positions in `rope_parameters`."""
    fields = {k: v for k, v in shape.items() if k != "rope_theta"}
    base = shape.get("rope_theta", 10_000.0)
    return hf_llama(dtype, **fields, rope_parameters={"rope_type": "default", "rope_theta": base})


@shapes
def test_every_step_is_hugging_faces(
    shape: dict[str, Any], hf_llama: Any, assert_same_run: Any
) -> None:
    hf_model = _hf(hf_llama, shape)
    assert_same_run(HookedTransformer.from_hf(hf_model), hf_model, _tokens(shape))


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", ["grouped", "one-kv-head-tied"])
def test_padded_batches_are_hugging_faces(
    side: str,
    name: str,
    hf_llama: Any,
    assert_same_run: Any,
    padded_batch: Callable[..., tuple[Tensor, Tensor]],
) -> None:
    hf_model = _hf(hf_llama, SHAPES[name])
    assert_same_run(HookedTransformer.from_hf(hf_model), hf_model, *padded_batch(side, 37))


def _restated(hf_model: Any, tokens: Tensor, base: float) -> dict[str, Tensor]:
    """Llama's formulas in fp64, head by head: Hugging Face computes norms and turns in fp32."""
    config, weights = hf_model.config, hf_model.state_dict()
    n_heads, d_head = config.num_attention_heads, config.head_dim
    group = n_heads // config.num_key_value_heads
    act = {"silu": F.silu, "gelu": F.gelu, "relu": F.relu}.get(
        config.hidden_act, lambda x: F.gelu(x, approximate="tanh")
    )

    def norm(x: Tensor, name: str) -> Tensor:
        scale = (x.pow(2).mean(-1, keepdim=True) + config.rms_norm_eps).sqrt()
        return x / scale * weights[name]

    pairs = torch.arange(d_head // 2, dtype=torch.float64)
    angles = torch.arange(tokens.shape[1])[:, None] * base ** (-2 * pairs / d_head)

    def turn(x: Tensor) -> Tensor:
        """Dimension i and dimension i + d_head/2 turn as one complex number."""
        a, b = x.chunk(2, -1)
        turned = torch.complex(a, b) * torch.polar(torch.ones_like(angles), angles)
        return torch.cat([turned.real, turned.imag], -1)

    future = torch.ones(tokens.shape[1], tokens.shape[1]).triu(1).bool()
    resid = weights["model.embed_tokens.weight"][tokens]
    out: dict[str, Tensor] = {}
    for i in range(config.num_hidden_layers):
        name = f"model.layers.{i}."
        x = norm(resid, name + "input_layernorm.weight")
        q, k, v = (
            (x @ weights[f"{name}self_attn.{p}_proj.weight"].T).split(d_head, -1) for p in "qkv"
        )
        z, patterns = [], []
        for head in range(n_heads):
            keys, values = k[head // group], v[head // group]
            scores = turn(q[head]) @ turn(keys).mT / d_head**0.5
            pattern = scores.masked_fill(future, -torch.inf).softmax(-1)
            patterns.append(pattern)
            z.append(pattern @ values)
        out[f"blocks.{i}.attn.hook_pattern"] = torch.stack(patterns, 1)
        resid = resid + torch.cat(z, -1) @ weights[name + "self_attn.o_proj.weight"].T
        out[f"blocks.{i}.hook_resid_mid"] = resid
        x = norm(resid, name + "post_attention_layernorm.weight")
        gate, up = (x @ weights[f"{name}mlp.{p}_proj.weight"].T for p in ("gate", "up"))
        resid = resid + (act(gate) * up) @ weights[name + "mlp.down_proj.weight"].T
        out[f"blocks.{i}.hook_resid_post"] = resid
    out["logits"] = norm(resid, "model.norm.weight") @ weights["lm_head.weight"].T
    return out


@shapes
def test_every_step_is_the_formulas_in_fp64(
    shape: dict[str, Any], hf_llama: Any, assert_close: Any
) -> None:
    hf_model = _hf(hf_llama, shape, torch.float64)
    tokens = _tokens(shape)
    model = HookedTransformer.from_hf(hf_model)
    assert model.cfg.dtype == torch.float64
    logits, cache = model.run_with_cache(tokens)
    expected = _restated(hf_model, tokens, shape.get("rope_theta", 10_000.0))
    assert_close(model(tokens), expected["logits"], "logits, attention fused")
    assert_close(logits, expected.pop("logits"), "logits")
    for name, value in expected.items():
        assert_close(cache[name], value, name)


def test_past_the_context(hf_llama: Any, assert_same_run: Any) -> None:
    """Rotary positions go on past `max_position_embeddings`, as they do in transformers."""
    hf_model = hf_llama(max_position_embeddings=4)
    model = HookedTransformer.from_hf(hf_model)
    model(_tokens({}, 3))
    assert_same_run(model, hf_model, _tokens({}, 30))


FIELDS: dict[str, Any] = {
    "num_hidden_layers": 1, "hidden_size": 24, "num_attention_heads": 4, "vocab_size": 7,
    "max_position_embeddings": 5, "intermediate_size": 9,
}  # fmt: skip


def test_config() -> None:
    config = make_config(FIELDS)
    assert (config["d_head"], config["n_key_value_heads"], config["act_fn"]) == (6, 4, "silu")
    assert (config["eps"], config["tie_word_embeddings"]) == (1e-6, False)
    assert make_config({**FIELDS, "head_dim": 10})["d_head"] == 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rope_scaling": {"type": "longrope", "factor": 2.0}}, "longrope"),
        ({"rope_parameters": {"rope_type": "su"}}, "su"),
        ({"mlp_bias": True}, "mlp_bias"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
        ({"hidden_act": "quick_gelu"}, "activation function"),
        ({"intermediate_size": None}, "intermediate_size"),
    ],
)
def test_config_refusals(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_config({**FIELDS, **change})


@pytest.mark.parametrize(
    "change", [{"mlp_bias": True}, {"rope_parameters": {"partial_rotary_factor": 0.5}}]
)
def test_models_in_memory_are_refused_too(change: dict[str, Any], hf_llama: Any) -> None:
    with pytest.raises(InputError, match="is not supported yet"):
        HookedTransformer.from_hf(hf_llama(**change))


# --- a real model --------------------------------------------------------------------------------

PUBLISHED = (
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. "
    "One day, she saw a big, red ball. She wanted to play with it, but it was too high."
)


@pytest.fixture(scope="module")
def stories(third_party: Callable[[str], Path]) -> HookedTransformer:
    return load_model(third_party("stories260K"), device="cpu")


@pytest.mark.parametrize("use_past_kv_cache", [True, False])
def test_real_model_tells_its_published_story(
    stories: HookedTransformer, use_past_kv_cache: bool
) -> None:
    bos = torch.tensor([[1]])
    tokens = stories.generate(
        bos, max_new_tokens=80, do_sample=False, use_past_kv_cache=use_past_kv_cache
    )
    assert tokens.shape == (1, 81)
    text = stories.to_string(tokens[0, 1:])
    assert isinstance(text, str)
    assert text.strip().startswith(PUBLISHED)


def test_real_model_tells_it_from_an_empty_text(stories: HookedTransformer) -> None:
    text = stories.generate("", max_new_tokens=80, do_sample=False)
    assert text.strip().startswith(PUBLISHED)


def test_real_model_is_hugging_faces(
    stories: HookedTransformer, third_party: Callable[[str], Path], assert_same_run: Any
) -> None:
    import transformers

    hf_model = transformers.LlamaForCausalLM.from_pretrained(
        third_party("stories260K"), attn_implementation="eager"
    )
    tokens = stories.to_tokens([PUBLISHED, PUBLISHED[:60]], padding_side="left")
    mask = torch.ones_like(tokens)
    mask[1] = (tokens[1] == 1).cumsum(0)  # the second row is padding up to its BOS
    assert 0 < int(mask[1].sum()) < tokens.shape[1]
    assert_same_run(stories, hf_model.eval(), tokens, mask)


def test_real_model_predicts_the_name(stories: HookedTransformer) -> None:
    logits = stories("Once upon a time, there was a little girl named")
    assert int(logits[0, -1].argmax()) == stories.to_single_token(" Lily")
