from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from interp.pretrained.tokenizers import load_tokenizer

pytest.importorskip("transformers", reason="needs the extra 'hf'")


def test_directory_without_a_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert load_tokenizer(tmp_path) is None


def test_directory_with_one(third_party: Callable[[str], Path]) -> None:
    tokenizer = load_tokenizer(third_party("gpt2-tokenizer"))
    assert tokenizer.encode("Hello world") == [15496, 995]
    assert tokenizer.bos_token_id == tokenizer.eos_token_id == 50256


def test_tokenizer_json_alone(third_party: Callable[[str], Path], tmp_path: Path) -> None:
    shutil.copy(third_party("gpt2-tokenizer") / "tokenizer.json", tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.encode("Hello world") == [15496, 995]
    assert tokenizer.bos_token_id is None
