from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from interp import InputError
from interp.harvest.corpus import CorpusSettings


def test_one_path_is_a_corpus() -> None:
    assert CorpusSettings(files="a.txt").files == ("a.txt",)  # type: ignore[arg-type]
    assert CorpusSettings(files=[Path("a.txt"), "b.md"]).files == ("a.txt", "b.md")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.txt", "text"), ("A.TXT", "text"), ("a.md", "text"), ("a.txt.gz", "text"),
        ("a.jsonl", "jsonl"), ("b/a.jsonl.zst", "jsonl"), ("a.parquet", "parquet"), (".", "hf"),
    ],
)  # fmt: skip
def test_a_name_says_the_format(name: str, expected: str) -> None:
    assert CorpusSettings(files=(name,)).format_of(name) == expected


def test_the_given_format_counts_more_than_the_name() -> None:
    assert CorpusSettings(files=("a.txt",), format="jsonl").format_of("a.txt") == "jsonl"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"files": ()}, r"files must be one path or several. Received \(\)"),
        ({"files": 3}, "files must be one path or several. Received 3"),
        ({"files": (3,)}, r"files must be one path or several. Received \(3,\)"),
        ({"files": ("a.gone",)}, "files must exist. 'a.gone' does not"),
        ({"format": "csv"}, "format must be one of .* Received 'csv'"),
        ({"column": "", "format": "jsonl"}, "column must be a name. Received ''"),
        ({"documents": "word"}, "documents must be one of .* Received 'word'"),
        ({"layout": "dense"}, "layout must be one of .* Received 'dense'"),
        ({"length": 0}, "length must be a whole number of at least 1. Received 0"),
        ({"length": 2.0}, "length must be a whole number of at least 1. Received 2.0"),
        ({"max_tokens": 0}, "max_tokens must be a whole number of at least 1"),
        ({"max_documents": True}, "max_documents must be a whole number of at least 1"),
        ({"prepend_bos": 1}, "prepend_bos must be True, False or None. Received 1"),
        ({"separator": "sep"}, "separator must be .* Received 'sep'"),
        ({"separator": -1}, "separator must be .* Received -1"),
        ({"separator": True}, "separator must be .* Received True"),
        ({"incomplete": "keep"}, "incomplete must be one of .* Received 'keep'"),
        ({"overlong": "keep"}, "overlong must be one of .* Received 'keep'"),
    ],
)
def test_a_setting_that_breaks_a_rule_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        CorpusSettings(**{"files": ("a.txt",), **fields})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"files": ("a.parquet",), "documents": "line"}, "documents is for text files"),
        ({"column": "body"}, "column is for jsonl, parquet and hf"),
        ({"layout": "padded", "separator": "eos"}, "separator is for the packed layout"),
        ({"layout": "padded", "incomplete": "pad"}, "incomplete is for the packed layout"),
        ({"overlong": "split"}, "overlong is for the padded layout"),
    ],
)
def test_a_setting_without_a_use_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        CorpusSettings(**{"files": ("a.txt",), **fields})


def test_a_name_that_is_no_text_is_refused() -> None:
    with pytest.raises(InputError, match=r"files must have a name in UTF-8. Received .*udcff"):
        CorpusSettings(files=("a.txt", "\udcff.txt"))


def test_a_name_that_says_no_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a")
    with pytest.raises(InputError, match="format must be given for a file whose name"):
        CorpusSettings(files=(str(tmp_path / "a.csv"),))
