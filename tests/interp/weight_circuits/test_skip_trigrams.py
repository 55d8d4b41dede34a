from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from interp import HookedTransformer, InputError
from interp.weight_circuits import ov_circuit, qk_circuit, skip_trigrams
from interp.zoo import known
from tests.interp.kinds import KINDS

Make = Callable[..., HookedTransformer]
Check = Callable[..., None]


@pytest.mark.parametrize("kind", ["gpt2", "llama", "gpt2-folded", "gemma2"])
@pytest.mark.parametrize("rises", [True, False])
@pytest.mark.parametrize("chunk", [1, 7, None])
def test_of_all_triples(
    kind: str, rises: bool, chunk: Any, make_model: Make, assert_close: Check
) -> None:
    """Against every one of d_vocab² · d_vocab_out triples."""
    model = make_model(**{**KINDS[kind], "dtype": "float64"})
    distance = 2 if kind in ("llama", "gemma2") else 0
    k = 25
    found = skip_trigrams(model, 1, 2, k, rises, distance=distance, chunk=chunk)
    with torch.no_grad():
        qk = qk_circuit(model, 1, 2, distance=distance, scaled=True).AB
        ov = ov_circuit(model, 1, 2).AB
    likes = qk - qk.mean(1, keepdim=True)  # [destination, source]
    moves = ov - ov.mean(1, keepdim=True)  # [source, output]
    triples = likes.T.clamp(min=0)[:, :, None] * moves[:, None, :]
    wanted = (triples if rises else -triples).flatten().topk(k)
    sign = 1 if rises else -1
    assert_close(found.strength, wanted.values * sign)
    n, m = triples.shape[1:]
    places = zip(
        found.source.tolist(), found.destination.tolist(), found.output.tolist(), strict=True
    )
    assert [(s * n + d) * m + o for s, d, o in places] == wanted.indices.tolist()
    assert_close(found.attention, likes[found.destination, found.source])
    assert_close(found.logit, moves[found.source, found.output])
    assert_close(found.attention * found.logit, found.strength)


def test_only_what_moves() -> None:
    """A head that looks only at itself by position has no skip-trigrams of tokens."""
    truth = known.induction()
    assert len(skip_trigrams(truth.model, 1, 0)) == 0


def test_effective_rows(make_model: Make) -> None:
    model = make_model(dtype="float64")
    found = skip_trigrams(model, 1, 0, 3, rows="effective")
    with torch.no_grad():
        qk = qk_circuit(model, 1, 0, "effective", "effective", scaled=True).AB
        ov = ov_circuit(model, 1, 0, "effective", less_mean=True).AB
    likes = (qk - qk.mean(1, keepdim=True)).T.clamp(min=0)
    best = (likes.amax(1) * ov.amax(1)).max()
    assert float(found.strength[0]) == pytest.approx(float(best))


def test_bounds(make_model: Make) -> None:
    model = make_model()
    for call, message in (
        (lambda: skip_trigrams(model, 0, 0, 0), "k must be"),
        (lambda: skip_trigrams(model, 0, 0, chunk=0), "chunk must be"),
        (lambda: skip_trigrams(model, 0, 9), "head must lie"),
    ):
        with pytest.raises(InputError, match=message):
            call()
