from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch

from interp import HookedTransformer, InputError
from tests.interp.generation.fakes import SEQ2SEQ, FakeTokenizer, some_tokens

MakeModel = Callable[..., HookedTransformer]


@pytest.mark.parametrize("fields", [{}, SEQ2SEQ], ids=["decoder", "seq2seq"])
def test_a_stream_is_what_generate_gives(fields: dict[str, Any], make_model: MakeModel) -> None:
    model = make_model(FakeTokenizer(0, 2, 1, "left"), **fields)
    texts = ["5 6 7", "8", "9 10"]
    options: dict[str, Any] = {"eos_token_id": [2, 9, 14, 28, 11, 12], "seed": 3}
    whole = model.generate(texts, 9, return_type="tokens", **options)
    steps = list(model.generate_stream(texts, 9, **options))
    assert [step.step for step in steps] == list(range(len(steps)))
    assert torch.equal(torch.stack([step.tokens for step in steps], 1), whole[:, -len(steps) :])
    pieces = ["".join(row) for row in zip(*(s.texts for s in steps if s.texts), strict=True)]
    starts = [""] * 3 if fields else texts
    found = [start + piece for start, piece in zip(starts, pieces, strict=True)]
    assert [f.strip() for f in found] == model.generate(texts, 9, **options)
    assert all(step.cache is None for step in steps)
    for before, after in itertools.pairwise(steps):
        assert (before.finished <= after.finished).all()


def test_tokens_come_when_asked_for(make_model: MakeModel) -> None:
    """And the model is free, as it was, in between."""
    model, seen = make_model(), []
    model.add_hook("hook_embed", lambda x, hook: seen.append(x.shape[1]))
    stream = model.generate_stream(some_tokens(), 3, return_cache=True, do_sample=False)
    assert seen == []
    first = next(stream)
    assert seen == [5]
    assert torch.is_grad_enabled()
    assert first.texts is None
    assert not model.blocks[0].hook_resid_pre.is_watched
    model(some_tokens())
    next(stream)
    assert seen == [5, 5, 1]


def test_activations_of_each_step(make_model: MakeModel) -> None:
    model = make_model(**SEQ2SEQ)
    names = ["encoder.blocks.0.hook_resid_post", "decoder.blocks.1.attn.hook_pattern"]
    stream = model.generate_stream(some_tokens(), 3, names, return_cache=True, do_sample=False)
    caches = [step.cache for step in stream]
    assert [sorted(cache or {}) for cache in caches] == [sorted(names), names[1:], names[1:]]
    for n, cache in enumerate(caches, 1):
        assert cache is not None
        assert cache[names[1]].shape == (3, 4, 1, n)


def test_bad_calls_fail_at_once(make_model: MakeModel) -> None:
    model = make_model()
    for message, options in (
        ("beam search", {"num_beams": 2}),
        ("return_cache", {"names_filter": "hook_embed"}),
        ("top_p", {"top_p": 2.0}),
        ("hook is called", {"names_filter": "hook_nothing", "return_cache": True}),
    ):
        with pytest.raises(InputError, match=message):
            model.generate_stream(some_tokens(), 3, **options)
    with pytest.raises(TypeError, match="top_q"):
        model.generate_stream(some_tokens(), top_q=1)
