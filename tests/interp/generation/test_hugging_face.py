"""What is generated is what Hugging Face's `generate` generates."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from interp import HookedTransformer
from tests.covering import covering
from tests.interp.generation.fakes import random_hf

transformers = pytest.importorskip("transformers", reason="needs the extra 'hf'")

KINDS = (
    "GPT2LMHeadModel",
    "LlamaForCausalLM",
    "T5ForConditionalGeneration",
    "BartForConditionalGeneration",
)


class Pair:
    """A Hugging Face model, ours with its weights, and prompts for both."""

    def __init__(self, kind: str) -> None:
        self.hf = random_hf(kind)
        self.ours = HookedTransformer.from_hf(self.hf)
        self.tokens = torch.randint(3, 37, (3, 6), generator=torch.Generator().manual_seed(1))
        self.mask = torch.ones_like(self.tokens)
        self.mask[1, :2], self.mask[2, :4] = 0, 0
        self.for_decoder: dict[str, Any] = {}
        if self.hf.config.is_encoder_decoder:
            # On the right: Hugging Face's encoders count padding as positions.
            self.mask = self.mask.flip(1)
            self.for_decoder["decoder_start_token_id"] = self.hf.config.decoder_start_token_id

    def by_hugging_face(self, mask: Tensor, eos: Any = None, **options: Any) -> Any:
        first = eos[0] if isinstance(eos, list) else eos
        config = transformers.GenerationConfig(
            do_sample=False,
            eos_token_id=eos,
            pad_token_id=0 if first is None else first,
            return_dict_in_generate=True,
            output_scores=True,
            **self.for_decoder,
            **options,
        )
        return self.hf.generate(self.tokens, attention_mask=mask, generation_config=config)


_pair = functools.cache(Pair)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_greedy_for_32_steps(kind: str, padded: bool) -> None:
    pair = _pair(kind)
    mask = pair.mask if padded else torch.ones_like(pair.mask)
    expected = pair.by_hugging_face(mask, max_new_tokens=32).sequences
    for cached in (True, False):
        found = pair.ours.generate(
            pair.tokens, 32, do_sample=False, attention_mask=mask, use_past_kv_cache=cached
        )
        assert torch.equal(found, expected), cached


@pytest.mark.parametrize(
    ("kind", "eos", "repetition_penalty"), covering(KINDS, [4, 20, [5, 11, 30]], [1.0, 1.4])
)
def test_greedy_until_eos(kind: str, eos: Any, repetition_penalty: float) -> None:
    pair = _pair(kind)
    options: dict[str, Any] = {"max_new_tokens": 16, "repetition_penalty": repetition_penalty}
    mask = torch.ones_like(pair.mask)
    found = pair.ours.generate(pair.tokens, eos_token_id=eos, do_sample=False, **options)
    assert torch.equal(found, pair.by_hugging_face(mask, eos, **options).sequences)


@pytest.mark.parametrize(
    ("kind", "length_penalty", "early_stopping", "num_beams", "eos"),
    covering(KINDS, [1.0, 0.0, -1.0, 2.0], [False, True, "never"], [2, 3, 5], [7, [5, 11, 30]]),
)
def test_beam_search(
    kind: str,
    length_penalty: float,
    early_stopping: Any,
    num_beams: int,
    eos: Any,
    assert_close: Callable[..., None],
) -> None:
    pair = _pair(kind)
    options: dict[str, Any] = {
        "max_new_tokens": 9, "num_beams": num_beams, "early_stopping": early_stopping,
        "length_penalty": length_penalty, "num_return_sequences": 2,
    }  # fmt: skip
    expected = pair.by_hugging_face(pair.mask, eos, **options)
    found = pair.ours.beam_search(
        pair.tokens, eos_token_id=eos, attention_mask=pair.mask, **options
    )
    assert torch.equal(found.tokens, expected.sequences)
    assert_close(found.scores, expected.sequences_scores)


@pytest.mark.parametrize("kind", KINDS)
def test_beam_search_with_a_repetition_penalty(
    kind: str, assert_close: Callable[..., None]
) -> None:
    pair = _pair(kind)
    options: dict[str, Any] = {"max_new_tokens": 9, "num_beams": 3, "repetition_penalty": 1.3}
    mask = torch.ones_like(pair.mask)
    expected = pair.by_hugging_face(mask, 7, **options)
    found = pair.ours.beam_search(pair.tokens, eos_token_id=7, **options)
    assert torch.equal(found.tokens, expected.sequences)
    assert_close(found.scores, expected.sequences_scores)
