from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from interp import HookedTransformer, InputError
from interp.harvest.corpus import CorpusSettings, batches
from interp.harvest.corpus.batches import token_batches
from tests.interp.harvest.corpus.reference import corpora

MakeModel = Callable[..., HookedTransformer]


@pytest.fixture(scope="module")
def bare(make_model: MakeModel) -> HookedTransformer:
    """A model of 31 tokens without a tokenizer."""
    return make_model()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("corpus")


def _write(folder: Path, *files: Sequence[Any], **fields: Any) -> CorpusSettings:
    paths = []
    for number, contents in enumerate(files):
        paths.append(str(folder / f"{number}.jsonl"))
        lines = "".join(json.dumps({"text": content}) + "\n" for content in contents)
        Path(paths[-1]).write_text(lines)
    return CorpusSettings(files=tuple(paths), **fields)


@settings(deadline=None)
@given(
    corpora(), corpora(), st.none() | st.integers(1, 12), st.none() | st.integers(1, 60),
    st.integers(1, 4), st.integers(1, 60),
)  # fmt: skip
@example([[1]] * 6, [[2]], 3, None, 2, 60)  # the last batch holds more than is wanted
@example([[1, 2], [3, 4], [], [5, 6]], [[7]], None, 4, 4, 60)
def test_documents_are_taken_up_to_the_most(
    bare: HookedTransformer,
    folder: Path,
    first: list[list[int]],
    second: list[list[int]],
    max_documents: int | None,
    max_tokens: int | None,
    most_documents: int,
    most_content: int,
) -> None:
    expected, left = [], max_tokens
    for document in [*first, *second][:max_documents]:
        if left == 0:
            break
        expected.append(document[:left])
        left = None if left is None else left - len(expected[-1])
    settings = _write(folder, first, second, max_documents=max_documents, max_tokens=max_tokens)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "_MOST_DOCUMENTS", most_documents)
        patch.setattr(batches, "_MOST_CONTENT", most_content)
        made = list(token_batches(settings, bare, are_tokens=True))
    found = []
    for batch in made:
        assert len(batch.places) == len(batch.lengths) <= most_documents
        ends = np.cumsum(batch.lengths)
        found += [part.tolist() for part in np.split(batch.tokens, ends)[:-1]]
    assert found == expected
    done = [batch.done for batch in made]
    assert done == sorted(done)
    assert done[-1] == 1.0
    where = [(batch.path, place) for batch in made for place in batch.places]
    places = [
        (path, i + 1)
        for path, documents in zip(settings.files, (first, second), strict=True)
        for i in range(len(documents))
    ]
    assert where == places[: len(expected)]


@pytest.mark.parametrize("token", [31, -1, 10**30])
def test_a_token_that_the_model_does_not_know_is_refused(
    bare: HookedTransformer, tmp_path: Path, token: int
) -> None:
    settings = _write(tmp_path, [[0], [], [30, token]])
    with pytest.raises(InputError, match=rf"0\.jsonl:3: tokens .* in 0 … 30. Received {token}\."):
        list(token_batches(settings, bare, are_tokens=True))


def test_texts_and_tokens_do_not_mix(bare: HookedTransformer, tmp_path: Path) -> None:
    settings = _write(tmp_path, [[0]], ["a"])
    with pytest.raises(InputError, match=r"1\.jsonl:1: documents must be tokens .* a text"):
        list(token_batches(settings, bare, are_tokens=True))
    settings = _write(tmp_path, [[0]])
    with pytest.raises(InputError, match=r"0\.jsonl:1: documents must be texts .* tokens\."):
        list(token_batches(settings, bare, are_tokens=False))
