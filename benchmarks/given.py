"""What all contenders of a shape are given: the same weights and the same tokens."""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from benchmarks.shapes import Shape


class Given:
    """Weights and inputs of one shape on one device; drawn from a fixed seed.

    Attributes:
        shape, device, dtype: Of the models.
        tokens: `[batch, pos]`.
        other_tokens: `[batch, pos]`: where a patch sweep takes its activations from.
        right, wrong: Two tokens whose logits are compared.
        layer, head: One in the middle, for what is done to a single one.
        compile_mode, compile_backend: What `torch.compile` is told.
        new_tokens: How many a generation adds.
    """

    def __init__(
        self,
        shape: Shape,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        compile_mode: str = "default",
        compile_backend: str = "inductor",
        new_tokens: int = 32,
    ) -> None:
        self.shape, self.device, self.dtype = shape, device, dtype
        self.compile_mode, self.compile_backend = compile_mode, compile_backend
        self.new_tokens = new_tokens
        generator = torch.Generator().manual_seed(1)
        drawn = torch.randint(0, shape.d_vocab, (2, shape.batch, shape.pos), generator=generator)
        self.tokens, self.other_tokens = drawn.to(device)
        self.right, self.wrong = 1, 2
        self.layer, self.head = shape.n_layers // 2, shape.n_heads // 2

    def pattern_name(self) -> str:
        """The pattern that a task records alone."""
        return f"blocks.{self.layer}.attn.hook_pattern"

    def z_name(self) -> str:
        """Where a task edits a head."""
        return f"blocks.{self.layer}.attn.hook_z"

    def logit_difference(self, logits: Tensor) -> Tensor:
        """Of full logits `[batch, pos, d_vocab]`: a scalar, as TransformerLens's sweeps take it."""
        return (logits[:, -1, self.right] - logits[:, -1, self.wrong]).mean()

    def config(self, attention: str) -> Any:
        """Hugging Face's configuration of the shape."""
        from transformers import GPT2Config

        shape = self.shape
        return GPT2Config(
            n_layer=shape.n_layers,
            n_embd=shape.d_model,
            n_head=shape.n_heads,
            n_positions=shape.n_ctx,
            vocab_size=shape.d_vocab,
            attn_implementation=attention,
            bos_token_id=None,
            eos_token_id=None,
        )

    @cached_property
    def weights(self) -> Any:
        """The Hugging Face model whose weights all others hold."""
        torch.manual_seed(0)
        model = self._empty("sdpa")
        _scramble(model, self.shape)
        return model

    def hugging_face(self, attention: str, shares_weights: bool = True) -> Any:
        """Another model for contenders that change what they are given.

        Its weights are in the same memory; or in its own, for those that change weights too.
        """
        model = self._empty(attention)
        weights = self.weights.state_dict(keep_vars=shares_weights)
        model.load_state_dict(weights, assign=shares_weights)
        model.tie_weights()
        return model

    def _empty(self, attention: str) -> Any:
        from transformers import GPT2LMHeadModel

        with torch.device(self.device):
            return GPT2LMHeadModel(self.config(attention)).eval().to(self.dtype)

    @cached_property
    def tokenizer(self) -> Any:
        """One word per token: some packages will not do without a tokenizer."""
        from tokenizers import Tokenizer, models, pre_tokenizers
        from transformers import PreTrainedTokenizerFast

        words = {f"t{i}": i for i in range(self.shape.d_vocab)}
        tokenizer = Tokenizer(models.WordLevel(words, unk_token="t0"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        special = dict.fromkeys(("bos_token", "eos_token", "unk_token", "pad_token"), "t0")
        return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


@torch.no_grad()
def _scramble(model: Any, shape: Shape) -> None:
    """Weights of the size that trained ones have; biases and norms that are not zeros and ones."""
    std = 0.7 / math.sqrt(shape.d_model)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.normal_(0.0, 0.05)
        elif ".ln_" in name:
            parameter.normal_(1.0, 0.05)
        elif "c_proj" in name:  # as GPT-2: the stream must not grow with depth
            parameter.normal_(0.0, std / math.sqrt(2 * shape.n_layers))
        else:
            parameter.normal_(0.0, std)
