"""`interp translate`, mostly with a translator that has hardly been trained."""

from __future__ import annotations

import json
import re
import shutil

import pytest
import torch

pytest.importorskip("transformers", reason="needs the extra 'hf'")

import dashboards.translation
from dashboards.translation import answer, ask, head_of, open_translator
from interp import InputError, zoo
from interp.zoo.recipes import translation
from interp.zoo.recipes.alignment import align, words_of_tokens
from interp.zoo.recipes.parallel_grammar import example_sentences, parse

EXAMPLE = "Lucas is visiting Chile in January."
PORTUGUESE = "Lucas está visitando o Chile em janeiro."


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """An entry of the recipe, after three steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(translation, "N_SENTENCES", 3000)
        score = translation.alignment_scores
        patch.setattr(translation, "alignment_scores", lambda model, of: score(model, of[:5]))
        measured = {"alignment_head": "L1C0", "alignment": 0.5}
        patch.setattr(translation, "measure", lambda model: measured)
        return translation.make_entry(tmp_path_factory.mktemp("zoo") / "tiny", steps=3).directory


@pytest.fixture
def knows(monkeypatch):
    """Have the translator write this."""

    def knows(portuguese):
        monkeypatch.setattr(
            dashboards.translation, "translate", lambda model, english, beams: [portuguese]
        )

    return knows


@pytest.fixture
def make_entry_with(directory, tmp_path):
    """A copy of the entry whose metrics are others."""

    def make(**metrics):
        copy = tmp_path / "copy"
        shutil.copytree(directory, copy)
        fields = json.loads((copy / "entry.json").read_text())
        (copy / "entry.json").write_text(json.dumps({**fields, "metrics": metrics}))
        return copy

    return make


def test_the_table_shows_where_each_word_comes_from(call, directory, knows, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    knows(PORTUGUESE)
    code, out, err = call("translate", EXAMPLE, "--model", directory)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == PORTUGUESE
    assert "note:" not in out
    assert "cross-attention of head L1C0, where each word is predicted" in out
    assert re.search(r"Portuguese +looks at +share +and at +comes from", out)
    words = ["Lucas", "está", "visitando", "o", "Chile", "em", "janeiro", "."]
    table = [line.split() for line in lines if "%" in line]
    assert [row[0] for row in table] == words
    gold = ["Lucas", "is", "visiting", "Chile", "Chile", "in", "January", "."]
    assert [row[-1] for row in table] == gold
    assert all(re.fullmatch(r"\d+%", row[2]) for row in table)


def test_the_shipped_model_is_the_default(call, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    code, out, err = call("translate", EXAMPLE)
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == PORTUGUESE
    assert "comes from" in out
    document = json.loads(call("translate", EXAMPLE, "--beams", 2, "--json")[1])
    assert (document["model"], document["beams"]) == ("zoo:translation", 2)
    assert document["head"] == zoo.entries()["zoo:translation"].metrics["alignment_head"]
    found = {word["word"]: word["looks_at"][0]["word"] for word in document["alignment"]}
    for portuguese, english in (("Lucas", "Lucas"), ("Chile", "Chile"), ("janeiro", "January")):
        assert found[portuguese] == english


def test_json_says_all_of_it(call, directory, knows):
    knows(PORTUGUESE)
    code, out, _ = call("translate", EXAMPLE, "--model", directory, "--json")
    document = json.loads(out)
    assert code == 0
    assert document["model"] == str(directory)
    assert (document["english"], document["portuguese"]) == (EXAMPLE, PORTUGUESE)
    assert document["in_grammar"] is document["as_grammar"] is True
    assert document["grammar"] == PORTUGUESE
    assert (document["head"], document["beams"]) == ("L1C0", 4)
    assert document["english_words"][-2:] == [".", "</s>"]
    for word, row in zip(document["alignment"], document["word_attention"], strict=True):
        assert sum(row) == pytest.approx(1, abs=1e-3)
        top = word["looks_at"][0]
        assert top["share"] == max(row)
        assert document["english_words"][row.index(max(row))] == top["word"]
        assert all(other["share"] >= 0.1 for other in word["looks_at"][1:])
    assert document["alignment"][4]["comes_from"] == ["Chile"]


def test_words_have_the_attention_of_their_tokens(directory, knows):
    """By loops over tokens."""
    english, portuguese = "Ana's sister is drawing a small turtle.", "A irmã de Ana está dormindo."
    knows(portuguese)
    translator = open_translator(str(directory))
    found = answer(translator, ask(english), 1)
    model = translator.model
    pattern = align(model, english, portuguese)[1, 0]
    assert torch.equal(found.attention, pattern)
    source = words_of_tokens(model.tokenizer, english, found.english_words[:-1])
    source.append(source[-1] + 1)
    target = words_of_tokens(model.tokenizer, portuguese, found.portuguese_words)
    assert len(source) > len(set(source)) and len(target) > len(set(target))
    for word in range(len(found.portuguese_words)):
        first = target.index(word)
        for other in range(len(found.english_words)):
            columns = [s for s, place in enumerate(source) if place == other]
            share = sum(pattern[first, s].item() for s in columns)
            assert found.word_attention[word, other].item() == pytest.approx(share, abs=1e-6)


def test_what_it_writes_itself_is_shown(call, directory):
    for beams in (1, 3):
        code, out, err = call("translate", EXAMPLE, "--model", directory, "--beams", beams)
        assert (code, err) == (0, "")
        model = zoo.read_entry(directory).load(device="cpu")
        assert out.splitlines()[0] == translation.translate(model, [EXAMPLE], beams)[0]
        assert f"note: the grammar has: {PORTUGUESE}" in out
        assert "comes from" not in out


def test_an_empty_translation_has_no_rows(call, directory, knows):
    knows(" ")
    code, out, _ = call("translate", EXAMPLE, "--model", directory, "--json")
    assert code == 0 and json.loads(out)["alignment"] == []
    assert call("translate", EXAMPLE, "--model", directory)[0] == 0
    code, _, err = call("translate", EXAMPLE, "--model", directory, "--heatmap", "x.svg")
    assert (code, err) == (2, "error: the translation is empty: there is no attention to draw\n")


def test_unknown_words_are_named(call):
    code, out, err = call("translate", "The zebra is visiting [b]Chile[/b] with a zebra.")
    assert (code, out) == (2, "")
    assert err.startswith("error: every word must be one that the grammar has. It lacks 'zebra',")
    assert err.count("'zebra'") == 1 and err.count("\n") == 1
    for example in example_sentences()[:2]:
        assert example in err


def test_a_sentence_outside_the_grammar_is_translated_with_a_note(call, directory):
    code, out, _ = call("translate", "January Chile visiting is.", "--model", directory)
    assert code == 0
    assert "note: the sentence is outside the training grammar\n" in out
    assert "comes from" not in out
    code, out, _ = call("translate", EXAMPLE.rstrip("."), "--model", directory)
    assert code == 0
    assert 'outside the training grammar, whose sentences end with "." or "?"\n' in out
    code, out, _ = call("translate", "January Chile visiting is.", "--model", directory, "--json")
    document = json.loads(out)
    assert document["in_grammar"] is False
    assert document["grammar"] is document["as_grammar"] is None
    assert document["alignment"][0]["comes_from"] is None


def test_a_sentence_is_read_as_the_grammar_writes_it():
    for text, english in (
        ("  the dog is\tsleeping . ", "The dog is sleeping."),
        ("Ana’s  sister sleeps.", "Ana's sister sleeps."),
    ):
        question = ask(text)
        assert question.english == english
        assert question.known is not None and question.known == parse(english)


def test_a_heatmap_is_drawn(call, directory, knows, tmp_path):
    pytest.importorskip("seaborn", reason="needs the extra 'plots'")
    knows(PORTUGUESE)
    file = tmp_path / "new" / "attention.svg"
    code, out, err = call("translate", EXAMPLE, "--model", directory, "--heatmap", file)
    assert (code, err) == (0, "")
    assert out.endswith(f"saved to {file}\n")
    drawn = file.read_text(encoding="utf-8")
    assert "<title>Cross-attention of head L1C0</title>" in drawn
    assert EXAMPLE in drawn and "▁Chile" in drawn and "English token" in drawn
    _, out, _ = call("translate", EXAMPLE, "--model", directory, "--heatmap", file, "--json")
    assert json.loads(out)["portuguese"] == PORTUGUESE


@pytest.mark.parametrize(
    ("head", "shown"),
    [
        ("L0C1", "head L0C1"),
        ("L1 mean", "all heads of layer 1 (mean)"),
        ("mean", "all heads (mean)"),
    ],
)
def test_the_entry_names_the_head(call, make_entry_with, knows, head, shown):
    knows(PORTUGUESE)
    copy = make_entry_with(alignment_head=head)
    code, out, _ = call("translate", EXAMPLE, "--model", copy)
    assert code == 0 and f"cross-attention of {shown}, where" in out


def test_without_an_entry_all_heads_are_read(call, directory, make_entry_with, knows):
    knows(PORTUGUESE)
    copy = make_entry_with()
    assert json.loads(call("translate", EXAMPLE, "--model", copy, "--json")[1])["head"] == "mean"
    (copy / "entry.json").unlink()
    assert json.loads(call("translate", EXAMPLE, "--model", copy, "--json")[1])["head"] == "mean"


def test_heads_are_found_by_name():
    patterns = torch.arange(2 * 3 * 4.0).reshape(2, 3, 2, 2)
    assert torch.equal(head_of(patterns, "L1C2"), patterns[1, 2])
    assert torch.equal(head_of(patterns, "L0 mean"), patterns[0].mean(0))
    assert torch.equal(head_of(patterns, "mean"), patterns.mean((0, 1)))
    for name, message in (
        ("L2C0", "there are 2 layers of 3 heads. Received 'L2C0'"),
        ("L0C3", "there are 2 layers of 3 heads"),
        ("L0H1", "a head must be named like L1C0"),
        ("C1", "a head must be named like L1C0"),
    ):
        with pytest.raises(InputError, match=message):
            head_of(patterns, name)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([" "], "a sentence must have words. It can be one like 'Lucas is visiting"),
        ([EXAMPLE, "--beams", "0"], "Invalid value for '--beams'"),
        ([EXAMPLE, "--heatmap", "a.png"], "--heatmap takes the name of an SVG file, got 'a.png'"),
        ([EXAMPLE, "--model", "zoo:induction"], "a translator is an encoder–decoder"),
        ([EXAMPLE, "--model", "zoo:translatoin"], "unknown zoo model 'zoo:translatoin'"),
        ([EXAMPLE, "--model", "./absent"], "there is no directory absent"),
    ],
)
def test_bad_requests_exit_2_with_one_line(call, args, message):
    code, out, err = call("translate", *args)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {message}") and err.count("\n") == 1


def test_a_sentence_that_is_too_long_is_refused(call, directory):
    sentence = "The dog and " * 40 + "the dog."
    code, out, err = call("translate", sentence, "--model", directory)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
