from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings

from interp.harvest.corpus.layout import Layout
from tests.interp.harvest.corpus.reference import layouts


@settings(deadline=None)
@given(layouts())
def test_a_layout_survives_json(layout: Layout) -> None:
    assert Layout.from_dict(json.loads(json.dumps(layout.to_dict()))) == layout


def test_documents_without_tokens_take_no_place() -> None:
    layout = Layout(kind="packed", length=4, separator=0)
    assert layout.spans(np.array([0, 3, 0, 1])).tolist() == [0, 4, 0, 2]
    assert layout.stream_length(6) == 5
    padded = Layout(kind="padded", length=4, prefix=(1,), overlong="split")
    assert padded.spans(np.array([0, 3, 4, 7])).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(("incomplete", "expected"), [("drop", 2), ("pad", 3)])
def test_an_incomplete_sequence_is_dropped_or_padded(incomplete: str, expected: int) -> None:
    layout = Layout(kind="packed", length=4, incomplete=incomplete)  # type: ignore[arg-type]
    assert layout.n_sequences(9) == expected
    assert layout.n_sequences(8) == 2
