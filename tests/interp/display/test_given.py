"""Display functions take tensors, NumPy arrays and plain numbers alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from interp import HookedTransformer, load_model
from interp.display import show_attention, show_attribution, show_tokens
from interp.errors import InputError

PATTERNS = torch.tensor([[[1.0, 0.0], [0.25, 0.75]]])
NO_ARRAYS: list[Any] = [None, "text", {"a": 1}, [[1.0], [1.0, 2.0]], np.array([1 + 2j, 0]), [None]]


@pytest.fixture(scope="module")
def model() -> HookedTransformer:
    return load_model("zoo:induction")


@pytest.mark.parametrize("form", [np.asarray, torch.Tensor.tolist, torch.Tensor.bfloat16])
def test_every_form_shows_the_same(form: Any) -> None:
    expected = show_attention(["a", "b"], PATTERNS)
    assert (show_attention(["a", "b"], form(PATTERNS)).levels == expected.levels).all()
    values = PATTERNS[0, 1]
    assert show_attribution(["a", "b"], form(values)).values == [0.25, 0.75]


def test_lists_of_tensors_and_arrays_that_run_backwards() -> None:
    for given in (PATTERNS[0, 1].bfloat16().unbind(), np.array([0.75, 0.25])[::-1]):
        assert show_attribution(["a", "b"], given).values == [0.25, 0.75]
    assert show_attention(["a", "b"], list(PATTERNS.numpy())).levels.shape == (1, 2, 2)


def test_token_ids_of_numpy(model: HookedTransformer) -> None:
    ids = np.array([[5, 3], [1, 2]])
    assert show_tokens(model, ids).ids == ids.tolist()
    assert show_tokens(model, ids[0]).ids == [[5, 3]]
    for amiss in (ids / 2, ids + 10**6, np.array(3), np.array(["a", "b"])):
        with pytest.raises(InputError):
            show_tokens(model, amiss)


@pytest.mark.parametrize("amiss", NO_ARRAYS, ids=repr)
def test_what_is_no_array_of_numbers_is_refused(amiss: Any, model: HookedTransformer) -> None:
    with pytest.raises(InputError, match="Received"):
        show_attention(["a", "b"], amiss)
    with pytest.raises(InputError, match="Received"):
        show_attribution(["a", "b"], amiss)
    with pytest.raises(InputError, match="Received"):
        show_attribution("ab" if isinstance(amiss, str) else amiss, [1.0, 2.0])
    if not isinstance(amiss, str):
        with pytest.raises(InputError):
            show_tokens(model, amiss)
