"""Token ids in any form that people write them in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from interp.errors import InputError
from interp.tokenization.token_ids import token_ids


@pytest.mark.parametrize(
    "given",
    [
        [[1, 2], [3, 4]], np.array([[1, 2], [3, 4]], np.int16), torch.tensor([[1, 2], [3, 4]]),
        ((1, 2), (3, 4)), torch.tensor([[1, 2], [3, 4]], dtype=torch.uint8),
        np.array([[1, 2], [3, 4]], np.uint16),
    ],
    ids=lambda given: type(given).__name__,
)  # fmt: skip
def test_every_form_is_the_same(given: Any) -> None:
    found = token_ids(given, 5)
    assert found.dtype == torch.int64
    assert found.tolist() == [[1, 2], [3, 4]]


def test_one_and_none() -> None:
    assert token_ids(np.int64(4), 5).tolist() == 4
    assert token_ids([], 5).dtype == torch.int64


@pytest.mark.parametrize(
    "given",
    [
        None, "a", b"a", {"a": 1}, {1}, 1.5, True, [1.0], [None], ["a"], np.array(["a"]), 1j,
        [[1], [1, 2]],
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_no_whole_number_is_refused(given: Any) -> None:
    with pytest.raises(InputError, match=r"whole numbers\. Received"):
        token_ids(given, 5)


@pytest.mark.parametrize("given", [5, [-1, 2], 2**40, 2**70, np.uint16(5)])
def test_what_is_no_token_is_refused(given: Any) -> None:
    with pytest.raises(InputError, match="Received"):
        token_ids(given, 5)
