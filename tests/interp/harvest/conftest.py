"""Corpora that are tokens already, so that models without a tokenizer can read them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from interp.harvest.corpus import CorpusSettings


@pytest.fixture
def token_corpus(tmp_path: Path) -> Callable[..., CorpusSettings]:
    """A corpus of these documents; keyword arguments are settings."""

    def make(documents: Sequence[Sequence[int]], **settings: Any) -> CorpusSettings:
        path = tmp_path / "corpus.jsonl"
        path.write_text("".join(json.dumps({"text": list(d)}) + "\n" for d in documents))
        return CorpusSettings(files=(str(path),), **settings)

    return make
