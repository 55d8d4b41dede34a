"""`interp tokenize`."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("transformers", reason="needs the extra 'hf'")

from interp.tokenization import learn_merges, trace_tokenizer, train_bpe


@pytest.fixture(scope="module")
def tokenizer():
    return train_bpe(["the cat sat on the mat", "the cats sat"], 40)


@pytest.fixture(scope="module")
def saved(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save_pretrained(folder)
    return folder


def rows(out):
    """The table's, without its title, header and rules."""
    lines = [line.split() for line in out.splitlines()]
    return [tuple(line) for line in lines if line and line[0].isdigit() and len(line) == 3]


def test_merges_are_learned_from_the_text(call):
    code, out, err = call("tokenize", "banana", "--trace")
    assert (code, err) == (0, "")
    assert out.startswith("b a n a n a\nb a na na     (n a: 2)\n")
    assert out.startswith(f"{learn_merges('banana', 10)}\n")
    assert "1 token by merges learned from this text alone" in out
    assert rows(out) == [("0", "banana", "6")]


def test_as_many_merges_as_asked(call):
    # The alphabet is a, b, n; the first merge makes "na".
    code, out, _ = call("tokenize", "banana", "--merges", 1)
    assert code == 0 and "(n a" not in out
    assert rows(out) == [("0", "b", "1"), ("1", "a", "0"), ("2", "na", "3"), ("3", "na", "3")]
    _, out, _ = call("tokenize", "banana", "--merges", 0, "--json")
    assert json.loads(out)["tokens"] == list("banana")


def test_words_stand_as_in_the_text(call):
    _, out, _ = call("tokenize", "na  ba\nna", "--merges", 1, "--json")
    document = json.loads(out)
    assert document == {
        "text": "na  ba\nna",
        "model": None,
        "tokens": ["na", "b", "a", "na"],
        "ids": [3, 1, 0, 3],
    }
    _, out, _ = call("tokenize", "na ba na", "--merges", 1, "--json", "--trace")
    assert json.loads(out)["trace"] == {
        "start": {"na": ["n", "a"], "ba": ["b", "a"]},
        "merges": [{"pair": ["n", "a"], "count": 2, "changed": {"na": ["na"]}}],
    }


def test_markup_is_text(call):
    code, out, _ = call("tokenize", "[b] [/b]", "--trace")
    assert code == 0
    assert out.startswith(f"{learn_merges('[b] [/b]', 10)}\n")
    assert rows(out) == [("0", "[b]", "5"), ("1", "[/b]", "7")]


def test_a_models_tokens(call, saved, tokenizer):
    text = "the mats"
    code, out, err = call("tokenize", text, "--model", saved, "--trace")
    assert (code, err) == (0, "")
    assert out.startswith(f"{trace_tokenizer(tokenizer, text)}\n")
    ids = tokenizer.encode(text)
    tokens = tokenizer.convert_ids_to_tokens(ids)
    assert tokens[-1] == "</s>"
    expected = enumerate(zip(tokens, ids, strict=True))
    assert rows(out) == [(str(i), token, str(number)) for i, (token, number) in expected]
    code, out, _ = call("tokenize", text, "--model", saved, "--trace", "--json")
    document = json.loads(out)
    assert (document["tokens"], document["ids"]) == (tokens, ids)
    first = document["trace"][0]
    assert (first["word"], first["start"]) == ("▁the", ["▁", "t", "h", "e"])
    assert first["merges"][-1]["symbols"] == ["▁the"]


def test_a_zoo_models_tokens(call):
    code, out, _ = call("tokenize", "q f", "--model", "zoo:induction", "--json")
    assert code == 0 and json.loads(out)["tokens"][-2:] == ["q", "f"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["", "--merges", "3"], "words must hold a word"),
        (["a", "--merges", "-1"], "Invalid value for '--merges'"),
        (["a", "--merges", "3", "--model", "zoo:induction"], "--merges is for learning"),
        (["a", "--model", "zoo:inducton"], "unknown zoo model 'zoo:inducton'; did you mean"),
        (["q", "--model", "zoo:induction", "--trace"], "the tokenizer must be a byte-pair"),
        (["((", "--model", "zoo:induction"], "the tokenizer cannot read '(('"),
        (["a", "--model", "./absent"], "there is no tokenizer './absent' to be had"),
    ],
)
def test_bad_requests_exit_2_with_one_line(call, args, message):
    code, out, err = call("tokenize", *args)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {message}") and err.count("\n") == 1
