"""Head detection beside TransformerLens's own, on the same weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from interp import HookedTransformer, InputError, load_model
from interp.behaviour import HEAD_NAMES, detect_head

TEXTS = ("k T 4 w Z m 9 b k T 4 w", "a b a b a b b b", "c d e f g h c d e f g i")


def of_texts(model: Any, texts: Sequence[str]) -> Any:
    return list(texts) if len(texts) > 1 else texts[0]


@pytest.fixture(scope="module")
def induction() -> HookedTransformer:
    return load_model("zoo:induction", device="cpu")


@pytest.mark.parametrize("texts", [TEXTS[:1], TEXTS[1:2], TEXTS], ids=len)
@pytest.mark.parametrize("exclude", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("name", HEAD_NAMES)
def test_equals_transformer_lens_on_the_model(
    induction: HookedTransformer, name: Any, exclude: tuple[bool, bool], texts: Sequence[str]
) -> None:
    lens = pytest.importorskip("transformer_lens.head_detector", reason="needs the extra 'lens'")
    options = {"exclude_bos": exclude[0], "exclude_current_token": exclude[1]}
    seq = of_texts(induction, texts)
    theirs = lens.detect_head(induction, seq, name, **options)
    assert (detect_head(induction, seq, name, **options) - theirs).abs().max() <= 1e-5
    theirs = lens.detect_head(induction, seq, name, error_measure="abs", **options)
    ours = detect_head(induction, seq, name, error_measure="abs", **options)
    assert (ours - theirs).abs().max() <= 5.1e-4  # theirs are rounded to three digits


def test_equals_transformer_lens_on_its_own_model(hf_gpt2: Callable[..., Any]) -> None:
    """Their bridge and our model of one Hugging Face model."""
    lens = pytest.importorskip("transformer_lens.head_detector", reason="needs the extra 'lens'")
    builder = pytest.importorskip("transformer_lens.model_bridge.sources._bridge_builder")
    hf = hf_gpt2()
    ours = HookedTransformer.from_hf(hf)
    theirs = builder.build_bridge_from_module(hf, "GPT2LMHeadModel", hf_config=hf.config)
    tokens = torch.tensor([3, 9, 4, 3, 9, 4, 4, 7, 3, 9])
    _, cache = theirs.run_with_cache(tokens[None], remove_batch_dim=True)
    for name in HEAD_NAMES:
        pattern = getattr(lens, f"get_{name}_detection_pattern")(tokens[None])
        found = detect_head(ours, tokens, name)
        for layer in range(2):
            for head in range(3):
                expected = lens.compute_head_attention_similarity_score(
                    cache["pattern", layer][head],
                    detection_pattern=pattern,
                    exclude_bos=False,
                    exclude_current_token=False,
                    error_measure="mul",
                )
                assert abs(float(found[layer, head]) - expected) <= 1e-5


def test_finds_the_heads_of_the_zoo(induction: HookedTransformer) -> None:
    found = detect_head(induction, TEXTS[0], "previous_token_head")
    assert found.argmax().item() in (1, 2)  # L0H1, L0H2
    # Of eleven tokens after BOS only four have an earlier copy, so that no share is near 1.
    found = detect_head(induction, TEXTS[0], "induction_head")
    assert bool((found[1] > 5 * found[0]).all())


def test_chosen_heads_and_a_cache(induction: HookedTransformer) -> None:
    tokens = induction.to_tokens(TEXTS[0])[0]
    every = detect_head(induction, tokens, "induction_head")
    some = detect_head(induction, tokens, "induction_head", heads=[(1, 2), (0, 3)])
    assert torch.equal(
        some, detect_head(induction, TEXTS[0], "induction_head", heads={1: [2], 0: [3]})
    )
    assert (some[1, 2], some[0, 3]) == (every[1, 2], every[0, 3])
    assert int((some == -1).sum()) == 6
    _, cache = induction.run_with_cache(tokens[None], remove_batch_dim=True)
    before = cache["pattern", 1].clone()
    options: dict[str, Any] = {"exclude_bos": True, "exclude_current_token": True}
    detect_head(induction, tokens, "induction_head", cache=cache, **options)
    assert torch.equal(cache["pattern", 1], before)
    assert torch.equal(detect_head(induction, tokens, "induction_head", cache=cache), every)


def test_a_pattern_of_ones_own(induction: HookedTransformer) -> None:
    tokens = induction.to_tokens(TEXTS[1])[0]
    n = len(tokens)
    assert (
        detect_head(induction, tokens, torch.ones(n, n).tril()).tolist()
        == [[pytest.approx(1.0, abs=1e-6)] * 4] * 2
    )
    _, cache = induction.run_with_cache(tokens[None], remove_batch_dim=True)
    its_own = cache["pattern", 1][2]
    found = detect_head(induction, tokens, its_own, error_measure="abs")
    assert float(found[1, 2]) == pytest.approx(1.0, abs=1e-6)


def test_bad_input(induction: HookedTransformer) -> None:
    tokens = induction.to_tokens(TEXTS[0])[0]
    with pytest.raises(InputError, match="detection_pattern must be one of"):
        detect_head(induction, tokens, "copying_head")  # type: ignore[arg-type]
    for pattern in (torch.ones(13, 13), torch.ones(5, 5).tril()):
        with pytest.raises(InputError, match="lower triangle"):
            detect_head(induction, tokens, pattern)
    with pytest.raises(InputError, match="error_measure"):
        detect_head(induction, tokens, "induction_head", error_measure="l2")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="heads must lie"):
        detect_head(induction, tokens, "induction_head", heads=[(2, 0)])
    with pytest.raises(InputError, match="2 … 64 tokens"):
        detect_head(induction, tokens[:1], "induction_head")
    _, cache = induction.run_with_cache(tokens[None], remove_batch_dim=True)
    with pytest.raises(InputError, match="several texts"):
        detect_head(induction, list(TEXTS), "induction_head", cache=cache)
    with pytest.raises(InputError, match="patterns"):
        detect_head(induction, tokens[:-1], "induction_head", cache=cache)
    with pytest.raises(InputError, match="causal"):
        detect_head(load_model("zoo:brackets", device="cpu"), tokens, "induction_head")
