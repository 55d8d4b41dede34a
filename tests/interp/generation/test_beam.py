from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from interp import HookedTransformer
from tests.covering import covering
from tests.interp.generation.fakes import SEQ2SEQ, FakeTokenizer, some_tokens

MakeModel = Callable[..., HookedTransformer]

FIELDS: dict[str, dict[str, Any]] = {
    "gpt2": {"n_ctx": 40},
    "rotary": {"positional_embedding_type": "rotary", "n_key_value_heads": 2},
    "seq2seq": SEQ2SEQ,
}
kinds = pytest.mark.parametrize("fields", FIELDS.values(), ids=FIELDS)


def _log_probs(model: HookedTransformer, prompt: Tensor, new: Tensor) -> Tensor:
    """The log-probability of each token of these rows after the prompt."""
    n, prompts = new.shape[1], prompt.expand(len(new), -1)
    if model.cfg.architecture == "encoder-decoder":
        starts = torch.full((len(new), 1), model.cfg.decoder_start_token_id)
        logits = model(prompts, decoder_input=torch.cat([starts, new], 1))
    else:
        logits = model(torch.cat([prompts, new], 1))
    return logits[:, -n - 1 : -1].log_softmax(-1).gather(-1, new[:, :, None])[:, :, 0]


@pytest.mark.parametrize(
    ("kind", "length_penalty", "eos"), covering(list(FIELDS), [0.0, 1.0, -0.5], [None, 2])
)
@torch.no_grad()
def test_enough_beams_find_the_best_of_all(
    kind: str, length_penalty: float, eos: int | None, make_model: MakeModel
) -> None:
    """Against every continuation of up to three tokens in a vocabulary of five."""
    fields = FIELDS[kind]
    model = make_model(**{**fields, "d_vocab": 5})
    prompt = some_tokens(1)[0] % 5
    scores = {}
    for n in (1, 2, 3):
        every = list(itertools.product(range(5), repeat=n))
        totals = _log_probs(model, prompt, torch.tensor(every)).sum(1).tolist()
        for new, total in zip(every, totals, strict=True):
            if eos in new[:-1] or (n < 3 and new[-1] != eos):
                continue
            scores[new] = total / n**length_penalty
    expected = sorted(scores, key=scores.__getitem__, reverse=True)[:4]
    found = model.beam_search(
        prompt, 3, 75, early_stopping="never", length_penalty=length_penalty, eos_token_id=eos,
        num_return_sequences=4,
    )  # fmt: skip
    n_prompt = 1 if "architecture" in fields else 5
    new_tokens = [
        tuple(row[n_prompt : n_prompt + n].tolist())
        for row, n in zip(found.tokens, found.n_new, strict=True)
    ]
    assert new_tokens == expected
    torch.testing.assert_close(found.scores, torch.tensor([scores[s] for s in expected]))


@kinds
@pytest.mark.parametrize("early_stopping", [False, True, "never"])
def test_batch_is_its_rows_with_and_without_cache(
    fields: dict[str, Any], early_stopping: Any, make_model: MakeModel
) -> None:
    model = make_model(FakeTokenizer(0, 2, 1, "left"), **fields)
    texts = ["5 6 7 8 9", "11", "20 21 22"]
    options: dict[str, Any] = {
        "num_beams": 3, "eos_token_id": [2, 9, 14, 28], "early_stopping": early_stopping,
        "num_return_sequences": 2, "prepend_bos": False,
    }  # fmt: skip
    together = model.beam_search(texts, 8, **options)
    without = model.beam_search(texts, 8, use_past_kv_cache=False, **options)
    assert torch.equal(together.tokens, without.tokens)
    torch.testing.assert_close(together.scores, without.scores, rtol=0, atol=1e-5)
    for i, text in enumerate(texts):
        alone = model.beam_search(text, 8, **options)
        rows = slice(2 * i, 2 * i + 2)
        assert torch.equal(alone.n_new, together.n_new[rows])
        torch.testing.assert_close(alone.scores, together.scores[rows], rtol=0, atol=1e-5)
        for a, t, n in zip(alone.tokens, together.tokens[rows], alone.n_new, strict=True):
            start = together.tokens.shape[1] - int(together.n_new.max())
            first = alone.tokens.shape[1] - int(alone.n_new.max())
            assert torch.equal(a[first : first + n], t[start : start + n])


@kinds
def test_a_row_is_over_where_everything_ends(fields: dict[str, Any], make_model: MakeModel) -> None:
    """A stop text that every continuation contains ends all of them at their first token."""
    model = make_model(FakeTokenizer(0, 2, 1, "left"), **fields)
    found = model.beam_search(["5 6", "7"], 5, 2, stop=" ", num_return_sequences=2)
    expected = model.beam_search(["5 6", "7"], 1, 2, stop=" ", num_return_sequences=2)
    assert (found.n_new == 1).all()
    assert torch.equal(found.tokens, expected.tokens)
    assert torch.equal(found.scores, expected.scores)


def test_generate_gives_the_best(make_model: MakeModel) -> None:
    model = make_model(FakeTokenizer(None, 2, 1, "left"))
    found = model.beam_search(["5 6", "7"], 6, 3, num_return_sequences=3)
    options: dict[str, Any] = {"num_beams": 3, "return_type": "tokens"}
    assert torch.equal(
        model.generate(["5 6", "7"], 6, num_return_sequences=3, **options), found.tokens
    )
    best = model.generate(["5 6", "7"], 6, **options)
    assert torch.equal(best, found.tokens[::3, : best.shape[1]])
    texts = model.generate(["5 6", "7"], 6, num_beams=3)
    assert [text.split()[0] for text in texts] == ["5", "7"]
    assert isinstance(model.generate("5 6", 6, num_beams=3), str)
    assert len(model.generate("5 6", 6, num_beams=3, num_return_sequences=2)) == 2


def test_stop_ends_a_beam(make_model: MakeModel) -> None:
    model = make_model(n_ctx=40)
    found = model.beam_search(some_tokens(), 10, 4, stop=[[3], 8, [4, 9]], num_return_sequences=4)
    for row, n in zip(found.tokens, found.n_new.tolist(), strict=True):
        new = row[5 : 5 + n].tolist()
        ends = [i for i in range(n) if new[i] in (3, 8) or (i and new[i - 1 : i + 1] == [4, 9])]
        assert ends == [n - 1] or (not ends and n == 10)
        assert (row[5 + n :] == 0).all()
