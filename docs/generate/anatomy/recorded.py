"""The run that the page's pictures are of: one sentence, translated and recorded."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch

from interp import ActivationCache, HookedTransformer, load_model

ENGLISH = "The old teacher gave Ana a red book."
WORD = "red"  # whose query is followed through one head of the encoder
LAYER, HEAD = 1, 1


@dataclass(frozen=True)
class Recorded:
    """A translation with all that was recorded while the final text was read once.

    Attributes:
        model: `zoo:translation`.
        source, target: Tokens `[1, pos]`: what the encoder reads; what the decoder reads and, one
            place further on, has written.
        sources, targets: Their texts.
        logits: `[pos, d_vocab]`, of the token after each of the decoder's.
        cache: Every hook.
    """

    model: HookedTransformer
    source: torch.Tensor
    target: torch.Tensor
    sources: list[str]
    targets: list[str]
    logits: torch.Tensor
    cache: ActivationCache

    @property
    def reads(self) -> list[str]:
        """What the decoder has read where each token is predicted: all but the last."""
        return self.targets[:-1]

    @property
    def writes(self) -> list[str]:
        """The token predicted at each of those places."""
        return self.targets[1:]

    def at(self, word: str) -> int:
        """Where a word stands in the source."""
        return self.sources.index(word)


def texts(model: HookedTransformer, tokens: torch.Tensor) -> list[str]:
    """Tokens as the vocabulary writes them, `▁` where a word begins."""
    return list(model.tokenizer.convert_ids_to_tokens(tokens.tolist()))


@cache
@torch.no_grad()
def recorded() -> Recorded:
    """Translate the sentence greedily, and record one run over the whole of it."""
    model = load_model("zoo:translation", device="cpu")
    source = model.to_tokens(ENGLISH)
    target = model.generate(source, max_new_tokens=40, do_sample=False)
    logits, kept = model.run_with_cache(source, decoder_input=target[:, :-1])
    return Recorded(
        model,
        source,
        target,
        texts(model, source[0]),
        texts(model, target[0]),
        logits[0],
        kept,
    )
