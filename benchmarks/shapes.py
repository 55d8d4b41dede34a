"""The shapes of model and input that are timed."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Shape:
    """A GPT-2 of some size, and a batch of prompts.

    Attributes:
        name: What the command line and the tables call it.
        n_layers, d_model, n_heads, d_vocab, n_ctx: As in `HookedTransformerConfig`.
        batch, pos: How many prompts, and of how many tokens.
    """

    name: str
    n_layers: int
    d_model: int
    n_heads: int
    d_vocab: int
    batch: int
    pos: int
    n_ctx: int = 1024

    @property
    def d_head(self) -> int:
        """Of each head."""
        return self.d_model // self.n_heads

    def describe(self) -> str:
        """In words, for a heading."""
        return (
            f"{self.n_layers} layers, d_model {self.d_model}, {self.n_heads} heads, "
            f"vocabulary {self.d_vocab:,}, {self.batch} × {self.pos:,} tokens"
        )


TINY = Shape("tiny", 2, 32, 4, 101, 2, 12, n_ctx=64)
SMALL = Shape("small", 4, 256, 4, 1000, 1, 32)
SMALL_GPT2_VOCAB = replace(SMALL, name="small-gpt2-vocab", d_vocab=50257)
SMALL_BATCH = replace(SMALL, name="small-8x128", batch=8, pos=128)
SMALL_PROMPT = replace(SMALL, name="small-1x8", pos=8)
GPT2 = Shape("gpt2-8x128", 12, 768, 12, 50257, 8, 128)
GPT2_PROMPT = replace(GPT2, name="gpt2-1x32", batch=1, pos=32)
GPT2_LONG = replace(GPT2, name="gpt2-32x512", batch=32, pos=512)
GPT2_XL = Shape("gpt2-xl-4x512", 48, 1600, 25, 50257, 4, 512)
# Attention alone: only heads, d_head, positions and how often tokens repeat.
HEADS_2K = Shape("heads-2k", 1, 768, 12, 1000, 1, 2048)
HEADS_512 = replace(HEADS_2K, name="heads-512", pos=512)
HEADS_8K = replace(HEADS_2K, name="heads-8k", pos=8192)
HEADS_32K = replace(HEADS_2K, name="heads-32k", pos=32768)
