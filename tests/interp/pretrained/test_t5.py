from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from interp import HookedTransformer, InputError, load_model
from interp.pretrained.t5 import make_config
from interp.run.kv_cache import KeyValueCache
from tests.interp.pretrained.parity import NEW, Case, check_parity, parity_cases, random_model

transformers = pytest.importorskip("transformers", reason="needs the extra 'hf'")

FIELDS: dict[str, Any] = {
    "d_model": 30, "d_kv": 7, "d_ff": 41, "num_layers": 3, "num_decoder_layers": 2, "num_heads": 3,
    "vocab_size": 37, "decoder_start_token_id": 0, "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 12,
}  # fmt: skip


def _config(kind: str = "T5", **fields: Any) -> Callable[[], Any]:
    return lambda: getattr(transformers, f"{kind}Config")(**{**FIELDS, **fields})


TIED = {
    "v1.0": _config(),
    "v1.0, one head, default buckets": _config(
        num_heads=1, num_layers=1, num_decoder_layers=3, d_kv=13, layer_norm_epsilon=0.01,
        relative_attention_num_buckets=32, relative_attention_max_distance=128,
    ),
    "v1.1 with tied embeddings": _config(feed_forward_proj="gated-gelu", tie_word_embeddings=False),
}  # fmt: skip
UNTIED = {
    "v1.1": _config(feed_forward_proj="gated-gelu", tie_word_embeddings=False),
    "v1.0 with its own unembedding": _config(),
    "gated silu": _config(
        feed_forward_proj="gated-silu", tie_word_embeddings=False, num_layers=1, num_heads=5
    ),
}


def _untied(config: Any) -> Any:
    """transformers 5 ties every T5 that it makes; one that it reads may have its own matrix."""
    kind = type(config).__name__.removesuffix("Config")
    hf_model = getattr(transformers, f"{kind}ForConditionalGeneration")(config)
    hf_model.lm_head.weight = nn.Parameter(hf_model.lm_head.weight.detach().clone())
    return hf_model


# Hugging Face's cache has as many layers as the encoder, too few for a deeper decoder.


@parity_cases(TIED, auto="T5ForConditionalGeneration")
def test_tied(case: Case, tmp_path: Path) -> None:
    figures = case.check(tmp_path, length=21, hf_cache=False)
    assert figures.generation == [3 * NEW, 3 * NEW]


@parity_cases(UNTIED, auto=_untied)
def test_untied(case: Case, tmp_path: Path) -> None:
    case.check(tmp_path, hf_cache=False)


@parity_cases({"untied": _config("MT5")}, auto=_untied)
def test_mt5(case: Case, tmp_path: Path) -> None:
    case.check(tmp_path)


@parity_cases({"v1.0": _config()}, auto="T5Model")
def test_base_model_unembeds_with_its_embedding(case: Case, tmp_path: Path) -> None:
    hf_model = case.model()
    check_parity(
        hf_model,
        case.name,
        tmp_path,
        logits_of=lambda out: out.last_hidden_state @ hf_model.shared.weight.T * 30**-0.5,
        generates=False,
    )


def test_cache_changes_nothing(assert_close: Any) -> None:
    hf_model = random_model(_config()(), auto=transformers.T5ForConditionalGeneration)
    model = HookedTransformer.from_hf(hf_model)
    source, mask = torch.arange(10).view(2, 5), torch.tensor([[1] * 5, [1] * 3 + [0] * 2])
    encoded = model.encode(source, attention_mask=mask)
    past = KeyValueCache.init_cache(model.cfg, "cpu", 2)
    tokens = torch.zeros(2, 1, dtype=torch.long)
    for _ in range(32):
        logits = model(encoder_output=encoded, decoder_input=tokens)[:, -1]
        cached = model(encoder_output=encoded, decoder_input=tokens[:, -1:], past_kv_cache=past)
        assert_close(cached[:, 0], logits)
        tokens = torch.cat([tokens, logits.argmax(-1, keepdim=True)], 1)


@pytest.mark.parametrize("kept", ["encoder", "decoder"])
def test_file_whose_embedding_has_another_name(kept: str, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    hf_model = random_model(_config()(), auto=transformers.T5ForConditionalGeneration)
    hf_model.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    weights[f"{kept}.embed_tokens.weight"] = weights.pop("shared.weight")
    unread = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
    weights[unread] = torch.zeros(8, 3)
    save_file(weights, path, metadata={"format": "pt"})
    model = load_model(tmp_path, device="cpu")
    assert torch.equal(model.W_E, hf_model.shared.weight)


def test_embeddings_of_each_stack_are_refused() -> None:
    hf_model = random_model(_config()(), auto=transformers.T5ForConditionalGeneration)
    separate = hf_model.shared.weight.detach() + 1
    hf_model.decoder.embed_tokens = nn.Embedding.from_pretrained(separate)
    message = r"decoder\.embed_tokens\.weight must be the same as shared\.weight"
    with pytest.raises(InputError, match=message):
        HookedTransformer.from_hf(hf_model)


# --- its config ----------------------------------------------------------------------------------


def test_config() -> None:
    config = make_config(FIELDS)
    assert (config["n_layers"], config["n_encoder_layers"], config["d_head"]) == (2, 3, 7)
    assert (config["act_fn"], config["gated_mlp"]) == ("relu", False)
    assert config["logit_scale"] == 30**-0.5
    assert make_config({**FIELDS, "num_decoder_layers": None})["n_layers"] == 3
    later = make_config({**FIELDS, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False})
    assert (later["act_fn"], later["gated_mlp"], later["logit_scale"]) == ("gelu_new", True, 1.0)
    resaved = {**FIELDS, "tie_word_embeddings": True, "scale_decoder_outputs": False}
    assert make_config(resaved)["logit_scale"] == 1.0
    started = {**FIELDS, "decoder_start_token_id": None, "pad_token_id": 3}
    assert make_config(started)["decoder_start_token_id"] == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"feed_forward_proj": "gated-mish"}, "activation function"),
        ({"feed_forward_proj": "double-gelu"}, "feed_forward_proj"),
        ({"d_kv": None}, "d_kv"),
    ],
)
def test_config_refusals(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_config({**FIELDS, **change})


# --- text ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """Words, and an EOS after every text, as T5 has it."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = ["<pad>", "</s>", "<unk>", "the", "house", "is", "small", "das", "Haus", "ist", "klein"]
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


@pytest.mark.parametrize("side", ["left", "right"])
def test_text(side: str, tokenizer: Any, assert_close: Any) -> None:
    hf_model = random_model(_config()(), auto=transformers.T5ForConditionalGeneration)
    model = HookedTransformer.from_hf(hf_model, tokenizer)
    sources, targets = ["the house is small", "house", "is small"], ["das Haus", "ist", ""]
    assert model.to_str_tokens("the house") == ["the", "house", "</s>"]
    logits = model(sources, decoder_input=targets, padding_side=side)
    assert logits.shape == (3, 3, 37)
    for row, (source, target) in enumerate(zip(sources, targets, strict=True)):
        start = tokenizer(target, add_special_tokens=False).input_ids
        given = {**tokenizer(source, return_tensors="pt")}
        given = {k: given[k] for k in ("input_ids", "attention_mask")}
        with torch.no_grad():
            expected = hf_model(**given, decoder_input_ids=torch.tensor([[0, *start]])).logits
        alone = model(source, decoder_input=target)
        assert_close(alone, expected, source)
        n = alone.shape[1]
        assert_close(logits[row, :n] if side == "right" else logits[row, -n:], alone[0], source)
