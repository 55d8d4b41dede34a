"""On models by construction: exactly the heads that were made to attend so, and no others."""

from __future__ import annotations

import pytest

from interp.behaviour import found_heads, head_scores, offset_scores, repeated_tokens
from interp.zoo import known

EXPECTED_AS = {
    "previous_token": "previous_token_heads",
    "duplicate_token": "duplicate_token_heads",
    "induction": "induction_heads",
    "first_token": "first_token_heads",
    "same_token": "current_token_heads",
}
MODELS = {
    "induction": known.induction,
    "saturated induction": lambda: known.induction(saturated=True),
    "previous token": known.previous_token,
    "name mover": known.name_mover,
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", MODELS)
def test_exactly_the_heads_that_were_made(name: str, seed: int) -> None:
    truth = MODELS[name]()
    repeated = repeated_tokens(truth.model, 32, seed=seed)
    scores = head_scores(truth.model, repeated.tokens)
    found = {f: {h.label for h in found_heads({f: of})} for f, of in scores.items()}
    named = {b: truth.expected[as_] for b, as_ in EXPECTED_AS.items() if as_ in truth.expected}
    assert named, "the truth says nothing of where heads look"
    for behaviour, heads in named.items():
        assert found[behaviour] == heads, behaviour


def test_the_constructed_previous_token_head_looks_one_back() -> None:
    truth = known.previous_token()
    repeated = repeated_tokens(truth.model, 8)
    offset, mass = offset_scores(truth.model, repeated.tokens).best()
    assert int(offset[0, 0]) == 1
    assert float(mass[0, 0]) > 0.9
