"""Tokenizers that `train_bpe` makes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.errors import InputError
from interp.pretrained.tokenizers import load_tokenizer
from interp.tokenization import SPECIAL_TOKENS, train_bpe
from tests.covering import slow

pytest.importorskip("tokenizers", reason="needs the extra 'hf'")
pytest.importorskip("transformers", reason="needs the extra 'hf'")

TEXTS = [
    "The cat sleeps on the table.",
    "O gato não dorme na mesa; ele está à espera.",
    "Where are the cats? – They aren't here!",
    "«Onde estão os gatos?», perguntou-lhe a avó.",
    "It cost 12,50 on the 3rd\tof May.\n",
] * 3
ALPHABET = sorted({character for text in TEXTS for character in text})


@pytest.fixture(scope="module")
def joint() -> Any:
    return train_bpe(TEXTS, 200)


@pytest.fixture(scope="module")
def of_bytes() -> Any:
    return train_bpe(TEXTS, 320, byte_level=True)


def _there_and_back(tokenizer: Any, text: str) -> str:
    ids = tokenizer.encode(text, add_special_tokens=True)
    return tokenizer.decode(ids, skip_special_tokens=True)


# --- the vocabulary ------------------------------------------------------------------------------


def test_special_tokens_then_alphabet_then_merges(joint: Any) -> None:
    tokens = joint.convert_ids_to_tokens(range(len(joint)))
    assert tokens[:4] == list(SPECIAL_TOKENS.values())
    letters = sorted({"▁", *ALPHABET} - {" "})
    assert tokens[4 : 4 + len(letters)] == letters
    merges = json.loads(joint.backend_tokenizer.to_str())["model"]["merges"]
    assert tokens[4 + len(letters) :] == ["".join(pair) for pair in merges]
    assert (joint.pad_token_id, joint.bos_token_id, joint.eos_token_id) == (0, 1, 2)
    assert joint.unk_token_id == 3


def test_words_are_marked_where_they_begin(joint: Any) -> None:
    text = "the cat, the cats and the gato."
    tokens = joint.tokenize(text)
    assert tokens[:2] == joint.tokenize("the") + joint.tokenize("cat") == ["▁the", "▁cat"]
    assert tokens[2:4] == [",", "▁the"]
    assert tokens[-2:] == ["▁gato", "."]


def test_frequency_bounds_the_vocabulary() -> None:
    often = train_bpe(["ab ab cd"], 100, min_frequency=2)
    assert "▁ab" in often.get_vocab() and "cd" not in often.get_vocab()
    assert "▁cd" in train_bpe(["ab ab cd"], 100, min_frequency=1).get_vocab()


def test_more_letters_than_the_texts_have() -> None:
    tokenizer = train_bpe(["ab"], 20, alphabet="xyz")
    assert _there_and_back(tokenizer, "xaz by") == "xaz by"
    assert _there_and_back(train_bpe(["ab"], 20), "xaz by") == "a b"


def test_other_special_tokens() -> None:
    specials = {"unk": "?", "mask": "[MASK]", "eos": "<end>"}
    tokenizer = train_bpe(["ab ab"], 20, special_tokens=specials)
    assert tokenizer.convert_ids_to_tokens([0, 1, 2]) == ["?", "[MASK]", "<end>"]
    assert (tokenizer.mask_token_id, tokenizer.eos_token_id, tokenizer.pad_token) == (1, 2, None)
    assert tokenizer.tokenize("ab[MASK]") == ["▁ab", "[MASK]"]


# --- encoding ------------------------------------------------------------------------------------


def test_template(joint: Any) -> None:
    bare = joint.encode("the cat", add_special_tokens=False)
    assert bare and min(bare) > 3
    assert joint.encode("the cat") == [*bare, 2]
    assert joint.encode("the cat", "the cat") == [*bare, 2, *bare, 2]
    both = train_bpe(TEXTS, 200, template="bos-eos")
    assert both.encode("the cat") == [1, *bare, 2]
    assert both.encode("the cat", "the cat") == [1, *bare, 2, 1, *bare, 2]
    none = train_bpe(TEXTS, 200, template=None)
    assert none.encode("the cat") == none.encode("the cat", add_special_tokens=False) == bare
    assert none.encode("the cat", "the cat") == [*bare, *bare]


def test_batches_are_padded(joint: Any) -> None:
    batch = joint(["the", "the cat"], padding=True)
    the, cat = joint.convert_tokens_to_ids(["▁the", "▁cat"])
    assert batch["input_ids"] == [[the, 2, 0], [the, cat, 2]]
    assert batch["attention_mask"] == [[1, 1, 0], [1, 1, 1]]
    assert set(batch) == {"input_ids", "attention_mask"}


def test_the_unknown(joint: Any, of_bytes: Any) -> None:
    assert joint.convert_ids_to_tokens(joint.encode("cat 日")) == ["▁cat", "▁", "<unk>", "</s>"]
    assert _there_and_back(of_bytes, "cat 日") == "cat 日"


def test_byte_level_needs_no_unknown_token() -> None:
    specials = {"eos": "<end>"}
    tokenizer = train_bpe(TEXTS, 300, byte_level=True, special_tokens=specials)
    assert tokenizer.unk_token is None
    assert len(tokenizer) == 300
    assert _there_and_back(tokenizer, "日 ▁") == "日 ▁"


# --- properties ----------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None, derandomize=True)
@given(text=st.text(ALPHABET, max_size=40))
def test_decoding_gives_the_text_back(joint: Any, text: str) -> None:
    assert _there_and_back(joint, text) == text
    assert joint.decode(joint.encode(text, add_special_tokens=False)) == text


@settings(max_examples=200, deadline=None, derandomize=True)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_bytes_give_any_text_back(of_bytes: Any, text: str) -> None:
    assert _there_and_back(of_bytes, text) == text


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    texts=st.lists(st.text("abé .\n", max_size=20), min_size=1, max_size=5).filter(any),
    lowercase=st.booleans(),
    byte_level=st.booleans(),
)
def test_any_training_text_comes_back(texts: list[str], lowercase: bool, byte_level: bool) -> None:
    texts = [text + text.upper() for text in texts]
    tokenizer = train_bpe(texts, 400, lowercase=lowercase, byte_level=byte_level, min_frequency=1)
    for text in texts:
        assert _there_and_back(tokenizer, text) == (text.lower() if lowercase else text)


_SCRIPT = """
import json, sys
from interp.tokenization import train_bpe
texts = json.loads(sys.argv[1])
for byte_level in (False, True):
    text = train_bpe(texts, 300, byte_level=byte_level).backend_tokenizer.to_str()
    sys.stdout.buffer.write(text.encode() + b"\\n")
"""


@slow
def test_the_same_texts_give_the_same_tokenizer(joint: Any) -> None:
    again = train_bpe(iter(TEXTS), 200)
    assert again.backend_tokenizer.to_str() == joint.backend_tokenizer.to_str()
    # Hash tables are seeded anew in another process.
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    there = subprocess.run(
        [sys.executable, "-c", _SCRIPT, json.dumps(TEXTS)],
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": seed},
    ).stdout
    here = [train_bpe(TEXTS, 300, byte_level=b).backend_tokenizer.to_str() for b in (False, True)]
    assert there.decode().splitlines() == "\n".join(here).splitlines()


@pytest.mark.parametrize("byte_level", [False, True])
def test_saving(tmp_path: Path, byte_level: bool) -> None:
    tokenizer = train_bpe(TEXTS, 300, byte_level=byte_level, lowercase=True)
    tokenizer.save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path)
    text = "  O gato, the  cat.\n"
    assert loaded.encode(text) == tokenizer.encode(text)
    assert _there_and_back(loaded, text) == text.lower()
    assert loaded.get_vocab() == tokenizer.get_vocab()
    assert loaded.pad_token_id == 0
    assert set(loaded(text)) == {"input_ids", "attention_mask"}


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        ("one text", {}, "several texts, not one"),
        ([], {}, "some text to learn from"),
        ([""], {}, "some text to learn from"),
        (["a", 3], {}, "texts must be strings. Received 3"),
        (["a▁b"], {}, "must not hold '▁'"),
        (TEXTS, {"vocab_size": 10}, r"special tokens and the alphabet, \d\d together. Received 10"),
        (TEXTS, {"vocab_size": 0}, "vocab_size must be a whole number"),
        (TEXTS, {"min_frequency": 0}, "min_frequency must be a whole number"),
        (TEXTS, {"template": "bos"}, "template must be one of 'eos', 'bos-eos', None"),
        (TEXTS, {"alphabet": ["ab"]}, "alphabet must be single characters"),
        (TEXTS, {"special_tokens": {"end": "</s>"}}, "role must be one of .* Received 'end'"),
        (TEXTS, {"special_tokens": {"eos": "", "unk": "?"}}, "a text each"),
        (TEXTS, {"special_tokens": {"eos": "?", "unk": "?"}}, "no two the same"),
        (TEXTS, {"special_tokens": {"unk": "?"}}, "one for 'eos'"),
        (TEXTS, {"special_tokens": {"eos": "</s>"}}, "one for 'unk'"),
        (TEXTS, {"special_tokens": {"eos": "1", "unk": "2"}, "template": "bos-eos"}, "for 'bos'"),
    ],
)
def test_refusals(texts: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        train_bpe(texts, **{"vocab_size": 200, **options})
