from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from interp import InputError
from interp.generation import Sampling, sampling

VOCAB = 23


def _logits(seed: int, batch: int = 4, spread: float = 3.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(batch, VOCAB, generator=generator)


def _tokens(seed: int, batch: int = 4, n: int = 9) -> Tensor:
    return torch.randint(VOCAB, (batch, n), generator=torch.Generator().manual_seed(seed))


seeds = st.integers(0, 10_000)
shares = st.floats(0.01, 1.0)


# --- each filter is Hugging Face's ---------------------------------------------------------------


def _processor(name: str, *args: Any) -> Any:
    pytest.importorskip("transformers", reason="needs the extra 'hf'")
    from transformers.generation import logits_process

    return getattr(logits_process, name)(*args)


@given(seeds, st.integers(1, 30))
@settings(deadline=None, max_examples=40)
def test_top_k_is_hugging_faces(seed: int, k: int) -> None:
    logits = _logits(seed).round()  # with ties
    assert torch.equal(
        sampling.keep_top_k(logits, k), _processor("TopKLogitsWarper", k)(None, logits)
    )


@given(seeds, shares)
@settings(deadline=None, max_examples=40)
def test_top_p_is_hugging_faces(seed: int, p: float) -> None:
    logits = _logits(seed)
    assert torch.equal(
        sampling.keep_top_p(logits, p), _processor("TopPLogitsWarper", p)(None, logits)
    )


@given(seeds, shares)
@settings(deadline=None, max_examples=40)
def test_min_p_is_hugging_faces(seed: int, p: float) -> None:
    logits = _logits(seed)
    assert torch.equal(
        sampling.keep_min_p(logits, p), _processor("MinPLogitsWarper", p)(None, logits)
    )


@given(seeds, st.floats(0.2, 5.0))
@settings(deadline=None, max_examples=40)
def test_repetition_penalty_is_hugging_faces(seed: int, penalty: float) -> None:
    logits, tokens = _logits(seed), _tokens(seed)
    wanted = _processor("RepetitionPenaltyLogitsProcessor", penalty)(tokens, logits)
    assert torch.equal(sampling.repetition_penalty(logits, tokens, penalty), wanted)


@given(
    seeds,
    st.floats(0.5, 2.0),
    st.floats(0.2, 3.0),
    st.integers(1, VOCAB),
    st.floats(0.05, 0.99),
    st.floats(0.0, 0.9),
)
@settings(deadline=None, max_examples=40)
def test_all_filters_in_hugging_faces_order(
    seed: int, penalty: float, temperature: float, top_k: int, top_p: float, min_p: float
) -> None:
    transformers = pytest.importorskip("transformers", reason="needs the extra 'hf'")
    chosen: dict[str, Any] = {
        "temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p,
        "repetition_penalty": penalty,
    }  # fmt: skip
    config = transformers.GenerationConfig(do_sample=True, **chosen)
    model = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(n_layer=1, n_embd=2, n_head=1, vocab_size=VOCAB)
    )
    processors = model._get_logits_processor(config, input_ids_seq_length=9)
    logits, tokens = _logits(seed), _tokens(seed)
    wanted = processors(tokens, logits)
    found = Sampling(**chosen).filter(logits, tokens)
    assert torch.equal(found.isfinite(), wanted.isfinite())
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)


# --- what Hugging Face does not have -------------------------------------------------------------


def test_frequency_penalty_counts() -> None:
    """TransformerLens's definition, after the temperature and before top-k."""
    logits, tokens = _logits(0), _tokens(0)
    wanted = torch.stack(
        [
            row / 0.7 - 1.5 * torch.bincount(ids, minlength=VOCAB)
            for row, ids in zip(logits, tokens, strict=True)
        ]
    )
    chosen = Sampling(temperature=0.7, freq_penalty=1.5)
    torch.testing.assert_close(chosen.filter(logits, tokens), wanted)
    kept = Sampling(temperature=0.7, freq_penalty=1.5, top_k=3).filter(logits, tokens)
    assert torch.equal(kept.isfinite(), wanted >= wanted.topk(3).values[:, -1:])


@given(seeds, st.integers(1, 8))
@settings(deadline=None, max_examples=20)
def test_padding_does_not_occur(seed: int, n_padding: int) -> None:
    """A penalised row is the row without its padding."""
    logits, tokens = _logits(seed), _tokens(seed)
    real = torch.ones_like(tokens, dtype=torch.bool)
    real[:, :n_padding] = False
    chosen = Sampling(freq_penalty=0.5, repetition_penalty=1.7)
    padded = chosen.filter(logits, tokens, real)
    assert torch.equal(padded, chosen.filter(logits, tokens[:, n_padding:]))


def test_tokens_that_are_never_written_are_not_counted() -> None:
    """Those that a model reads, but has no logit for."""
    tokens = torch.tensor([[1, 7, 30, 30]])
    assert sampling.count_tokens(tokens, 8).tolist() == [[0, 1, 0, 0, 0, 0, 0, 1]]


def test_filters_leave_their_input_alone() -> None:
    logits, tokens = _logits(0), _tokens(0)
    before = logits.clone()
    Sampling(
        top_k=3, top_p=0.5, min_p=0.2, temperature=0.4, repetition_penalty=2.0, freq_penalty=1.0
    ).filter(logits, tokens)
    assert torch.equal(logits, before)


# --- choosing ------------------------------------------------------------------------------------


def test_greedy_choice() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0], [5.0, -1.0, 4.0]])
    for chosen in (Sampling(do_sample=False), Sampling(temperature=0.0), Sampling(top_k=1)):
        assert chosen.choose(logits).tolist() == [1, 0]


def test_greedy_choice_heeds_the_repetition_penalty() -> None:
    chosen = Sampling(do_sample=False, repetition_penalty=3.0)
    assert chosen.choose(torch.tensor([[2.0, 1.5, -1.0]]), torch.tensor([[0]])).tolist() == [1]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0.5},
        {"temperature": 2.0},
        {"top_k": 4},
        {"top_p": 0.7},
        {"min_p": 0.2},
        {"temperature": 1.5, "top_k": 6, "top_p": 0.9, "min_p": 0.05},
    ],
)
def test_draws_follow_the_softmax(options: dict[str, Any]) -> None:
    """A chi-square test of 20,000 draws, at one in ten thousand."""
    logits, n_draws = _logits(3, batch=1, spread=1.5).double(), 20_000
    chosen = Sampling(**options)
    wanted = chosen.filter(logits).softmax(-1)[0]
    generator = torch.Generator().manual_seed(0)
    drawn = chosen.choose(logits.expand(n_draws, VOCAB), generator=generator)
    found = drawn.bincount(minlength=VOCAB).double()
    assert (found[wanted == 0] == 0).all()
    wanted, found = wanted[wanted > 0] * n_draws, found[wanted > 0]
    chi_square = float(((found - wanted) ** 2 / wanted).sum())
    degrees = torch.tensor(len(wanted) - 1.0, dtype=torch.float64)
    tail = 1 - torch.special.gammainc(degrees / 2, torch.tensor(chi_square / 2).double())
    assert float(tail) > 1e-4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_k": 0}, "top_k"),
        ({"top_k": 2.0}, "top_k"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
        ({"min_p": -0.1}, "min_p"),
        ({"min_p": 1.1}, "min_p"),
        ({"temperature": -0.1}, "temperature"),
        ({"repetition_penalty": 0.0}, "repetition_penalty"),
        ({"freq_penalty": -1.0}, "freq_penalty"),
        ({"freq_penalty": 1.0, "do_sample": False}, "draws only"),
        ({"freq_penalty": 1.0, "temperature": 0.0}, "draws only"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Sampling(**options)


def test_penalties_need_tokens() -> None:
    with pytest.raises(InputError, match="tokens so far"):
        Sampling(repetition_penalty=2.0).filter(_logits(0))
