from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from interp import HookedTransformer, InputError, load_model
from interp.pretrained.bart import make_config
from tests.interp.pretrained.parity import NEW, Case, check_parity, parity_cases, random_model

transformers = pytest.importorskip("transformers", reason="needs the extra 'hf'")

FIELDS: dict[str, Any] = {
    "d_model": 30, "encoder_layers": 3, "decoder_layers": 2, "encoder_attention_heads": 3,
    "decoder_attention_heads": 3, "encoder_ffn_dim": 41, "decoder_ffn_dim": 41, "vocab_size": 37,
    "max_position_embeddings": 50, "decoder_start_token_id": 2, "forced_eos_token_id": None,
}  # fmt: skip


def _config(**fields: Any) -> Callable[[], Any]:
    return lambda: transformers.BartConfig(**{**FIELDS, **fields})


SHAPES = {
    "scaled": _config(scale_embedding=True),
    "relu": _config(
        activation_function="relu", d_model=20, encoder_layers=1, decoder_layers=3,
        encoder_attention_heads=5, decoder_attention_heads=5,
    ),
}  # fmt: skip


def _untied(config: Any) -> Any:
    hf_model = transformers.BartForConditionalGeneration(config)
    hf_model.lm_head.weight = nn.Parameter(hf_model.lm_head.weight.detach().clone())
    return hf_model


# Its positions count padding too, so Hugging Face is right for padding on the right only.


@parity_cases(SHAPES, auto="BartForConditionalGeneration")
def test_bart(case: Case, tmp_path: Path) -> None:
    figures = case.check(tmp_path, sides=("right",))
    assert figures.generation == [3 * NEW, 3 * NEW]


@parity_cases({"untied": _config()}, auto=_untied)
def test_own_unembedding(case: Case, tmp_path: Path) -> None:
    case.check(tmp_path, sides=("right",))


@parity_cases({"scaled": _config(scale_embedding=True)}, auto="BartModel")
def test_base_model_unembeds_with_its_embedding(case: Case, tmp_path: Path) -> None:
    hf_model = case.model()
    check_parity(
        hf_model,
        case.name,
        tmp_path,
        sides=("right",),
        logits_of=lambda out: out.last_hidden_state @ hf_model.shared.weight.T,
        generates=False,
    )


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("target_side", ["left", "right"])
def test_batch_is_its_rows(
    side: str,
    target_side: str,
    assert_close: Any,
    padded_batch: Callable[..., tuple[Tensor, Tensor]],
) -> None:
    """Each row by itself, without padding, is Hugging Face's."""
    hf_model = random_model(_config()(), auto=transformers.BartForConditionalGeneration)
    model = HookedTransformer.from_hf(hf_model)
    source, mask = padded_batch(side, 37)
    target, target_mask = (x.flip(0) for x in padded_batch(target_side, 37))
    logits = model(
        source,
        attention_mask=mask,
        decoder_input=target,
        decoder_attention_mask=target_mask,
    )
    for row in range(3):
        real, target_real = mask[row].bool(), target_mask[row].bool()
        with torch.no_grad():
            expected = hf_model(
                source[row : row + 1, real], decoder_input_ids=target[row : row + 1, target_real]
            )
        assert_close(logits[row, target_real], expected.logits[0])


def test_file_without_a_bias_of_the_logits(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    hf_model = random_model(_config()(), auto=transformers.BartForConditionalGeneration)
    hf_model.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    assert float(weights.pop("final_logits_bias").abs().max()) > 0
    weights["encoder.version"] = torch.tensor(3.0)
    save_file(weights, path, metadata={"format": "pt"})
    model = load_model(tmp_path, device="cpu")
    assert model.cfg.tie_word_embeddings
    assert not model.b_U.any()


def test_embeddings_of_each_stack_are_refused() -> None:
    config = _config(tie_word_embeddings=False)()
    hf_model = random_model(config, auto=transformers.BartForConditionalGeneration)
    with pytest.raises(InputError, match=r"embed_tokens\.weight must be the same as shared"):
        HookedTransformer.from_hf(hf_model)


def test_config() -> None:
    config = make_config(FIELDS)
    assert (config["n_layers"], config["n_encoder_layers"], config["embed_scale"]) == (2, 3, 1.0)
    assert config["decoder_start_token_id"] == 2
    assert make_config({**FIELDS, "scale_embedding": True})["embed_scale"] == 30**0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"normalize_before": True}, "normalize_before"),
        ({"add_final_layer_norm": True}, "add_final_layer_norm"),
        ({"normalize_embedding": False}, "normalize_embedding"),
        ({"static_position_embeddings": True}, "static_position_embeddings"),
        ({"decoder_attention_heads": 5}, "encoder_attention_heads and decoder_attention_heads"),
        ({"encoder_ffn_dim": 5}, "encoder_ffn_dim and decoder_ffn_dim"),
        ({"activation_function": "mish"}, "activation function"),
        ({"decoder_layers": None}, "decoder_layers"),
    ],
)
def test_config_refusals(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_config({**FIELDS, **change})
