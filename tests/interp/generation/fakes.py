"""What tests of generation share: a tokenizer of numbers, and some tokens."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor


class FakeTokenizer:
    """Digits to tokens, 0 to 30; only what generation asks for."""

    def __init__(self, pad: int | None, eos: int, bos: int, side: str) -> None:
        self.pad_token_id, self.eos_token_id, self.bos_token_id = pad, eos, bos
        self.padding_side = side
        self.eos_token = str(eos)

    def get_vocab(self) -> dict[str, int]:
        return {str(i): i for i in range(31)}

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        return [int(part) for part in text.split()] + [self.eos_token_id] * add_special_tokens

    def decode(self, ids: list[int], skip_special_tokens: bool = False, **kwargs: Any) -> str:
        special = {self.pad_token_id, self.eos_token_id, self.bos_token_id}
        return " ".join(str(i) for i in ids if not (skip_special_tokens and i in special))


def some_tokens(batch: int = 3, n: int = 5) -> Tensor:
    """Random tokens, always the same."""
    return torch.randint(31, (batch, n), generator=torch.Generator().manual_seed(0))


SEQ2SEQ: dict[str, Any] = {
    "architecture": "encoder-decoder", "n_encoder_layers": 3, "decoder_start_token_id": 1,
    "normalization_type": "RMS", "positional_embedding_type": "relative_positional_bias",
}  # fmt: skip
"""Fields of a small encoder–decoder."""


@torch.no_grad()
def random_hf(kind: str, std: float = 0.4, seed: int = 0) -> Any:
    """A small Hugging Face model with random numbers everywhere, biases and norms too."""
    transformers = pytest.importorskip("transformers", reason="needs the extra 'hf'")
    fields: dict[str, Any] = {
        "GPT2LMHeadModel": {
            "n_layer": 2, "n_embd": 24, "n_head": 3, "n_positions": 48, "vocab_size": 37,
        },
        "LlamaForCausalLM": {
            "num_hidden_layers": 2, "hidden_size": 24, "num_attention_heads": 4,
            "num_key_value_heads": 2, "head_dim": 10, "intermediate_size": 31, "vocab_size": 37,
            "max_position_embeddings": 48,
        },
        "T5ForConditionalGeneration": {
            "d_model": 24, "d_kv": 7, "d_ff": 31, "num_layers": 2, "num_decoder_layers": 2,
            "num_heads": 4, "vocab_size": 37, "decoder_start_token_id": 0,
            "relative_attention_num_buckets": 8, "relative_attention_max_distance": 12,
        },
        "BartForConditionalGeneration": {
            "d_model": 24, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 3,
            "decoder_attention_heads": 3, "encoder_ffn_dim": 31, "decoder_ffn_dim": 31,
            "vocab_size": 37, "max_position_embeddings": 48, "decoder_start_token_id": 2,
        },
    }[kind]  # fmt: skip
    cls = getattr(transformers, kind)
    model = cls(cls.config_class(**fields, attn_implementation="eager"))
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        drawn = torch.empty(parameter.shape).normal_(0.0, std, generator=generator)
        is_scale = ("ln" in name or "norm" in name) and name.endswith("weight")
        parameter.copy_(drawn + 1.0 if is_scale else drawn)
    model.generation_config = transformers.GenerationConfig()
    return model.eval()
