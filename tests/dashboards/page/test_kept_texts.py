from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards.page import kept_texts
from dashboards.page.kept_texts import IN_ADDRESS, KeptTexts
from interp import InputError


@pytest.fixture
def texts(tmp_path):
    return KeptTexts(tmp_path / "runs")


def test_a_short_text_stands_as_it_is_and_nothing_is_written(texts):
    assert texts.shortened("the cat") == "the cat"
    assert texts.whole("the cat") == "the cat"
    assert not texts.folder.parent.exists()


def test_a_long_text_is_named_by_its_hash_and_read_back(texts):
    text = "é🙂 <b>\r\n" * IN_ADDRESS
    name = texts.shortened(text)
    assert re.fullmatch(r"sha256-[0-9a-f]{64}", name)
    assert texts.whole(name) == text
    assert texts.shortened(text) == name and len(list(texts.folder.iterdir())) == 1


def test_what_an_address_writes_with_many_signs_counts_as_long(texts):
    text = "🙂" * (IN_ADDRESS // 4)  # twelve signs each in an address
    assert len(text) < IN_ADDRESS
    assert texts.whole(texts.shortened(text)) == text != texts.shortened(text)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=3 * IN_ADDRESS))
def test_every_text_comes_back(tmp_path_factory, text):
    texts = KeptTexts(tmp_path_factory.mktemp("runs"))
    assert texts.whole(texts.shortened(text)) == text


def test_a_text_that_looks_like_a_name_is_not_taken_for_one(texts):
    text = f"sha256-{'0' * 64}"
    assert texts.shortened(text) != text
    assert texts.whole(texts.shortened(text)) == text


@pytest.mark.parametrize("name", [f"sha256-{'0' * 64}", f"sha256-{'f' * 64}"])
def test_an_unknown_name_is_told(texts, name):
    with pytest.raises(InputError, match=name):
        texts.whole(name)


def test_only_names_are_looked_up(texts, tmp_path):
    for value in ("../secret", "sha256-../../secret", "/etc/passwd", "sha256-" + "0" * 63):
        assert texts.whole(value) == value


def test_a_damaged_text_is_told(texts):
    name = texts.shortened("x" * (IN_ADDRESS + 1))
    (texts.folder / name).write_text("something else")
    with pytest.raises(InputError, match="damaged"):
        texts.whole(name)


def test_a_text_beyond_all_bounds_is_refused(texts):
    with pytest.raises(InputError, match="200000 characters at most"):
        texts.shortened("x" * 200_001)
    assert not texts.folder.exists()


def test_the_oldest_make_room(texts, monkeypatch):
    import os

    monkeypatch.setattr(kept_texts, "MAX_KEPT", 3)
    names = []
    for i in range(5):
        names.append(texts.shortened(f"{i}" * (IN_ADDRESS + 1)))
        os.utime(texts.folder / names[-1], (i, i))
    assert sorted(file.name for file in texts.folder.iterdir()) == sorted(names[2:])
