"""The shipped translator on sentences with combinations of words that it was never shown."""

from __future__ import annotations

import pytest
import torch

from interp import load_model, zoo
from interp.zoo.recipes import translation
from interp.zoo.recipes.parallel_grammar import example_sentences, held_out_sentences, parse
from interp.zoo.recipes.translation import (
    BOS,
    EOS,
    PAD,
    Corpus,
    alignment_scores,
    exact_match,
    loss,
    make_entry,
    translate,
)
from tests.covering import EXHAUSTIVE, slow

NAME = "zoo:translation"
SEED = 20_242
EXAMPLE = "Lucas is visiting Chile in January."
N = 300 if EXHAUSTIVE else 150  # sentences


@pytest.fixture(scope="module")
def entry():
    return zoo.entries()[NAME]


@pytest.fixture(scope="module")
def model():
    return zoo.load(NAME, device="cpu")


@pytest.fixture(scope="module")
def sentences():
    """Others than the recipe's."""
    reported = held_out_sentences(torch.Generator().manual_seed(translation.FINAL_SEED), 1000)
    seen = {sentence.english for sentence in reported}
    drawn = held_out_sentences(torch.Generator().manual_seed(SEED), 4 * N // 3)
    return [sentence for sentence in drawn if sentence.english not in seen][:N]


# --- the shipped model ---------------------------------------------------------------------------


def test_it_does_what_its_entry_says(model, entry, sentences):
    assert len(sentences) == N
    found = exact_match(model, sentences)
    assert found >= 0.95
    assert entry.metrics["exact_match"] == pytest.approx(found, abs=0.03)


def test_a_head_finds_the_words(model, entry, sentences):
    best = entry.metrics["alignment_head"]
    scores = alignment_scores(model, sentences[: 150 if EXHAUSTIVE else 100])
    assert scores[best] >= 0.9
    assert entry.metrics["alignment"] == pytest.approx(scores[best], abs=0.03)
    for name, score in entry.metrics["alignment_by_head"].items():
        assert score == pytest.approx(scores[name], abs=0.05), name


def test_it_translates_the_examples(model):
    assert translate(model, [EXAMPLE]) == ["Lucas está visitando o Chile em janeiro."]
    assert model.generate(EXAMPLE, max_new_tokens=48, num_beams=4, do_sample=False) == (
        "Lucas está visitando o Chile em janeiro."
    )
    fronted = "In January, Lucas is visiting Chile."
    assert translate(model, [fronted]) == ["Lucas está visitando o Chile em janeiro."]
    examples = example_sentences()
    expected = [parse(example).portuguese for example in examples]
    found = translate(model, examples)
    assert sum(map(str.__eq__, found, expected)) >= len(examples) - 1, found


def test_beams_find_what_is_at_least_as_likely(model, sentences):
    english = [sentence.english for sentence in sentences[: 60 if EXHAUSTIVE else 20]]

    def score(portuguese):
        """As the search has it: log-probability per token."""
        rows = zip(english, portuguese, strict=True)
        return torch.stack([log_probability(model, *row) for row in rows])

    greedy, beams = score(translate(model, english, 1)), score(translate(model, english, 4))
    assert (beams >= greedy - 1e-4).all()


@torch.no_grad()
def log_probability(model, english, portuguese):
    target = model.tokenizer.encode(portuguese)
    logits = model(english, decoder_input=torch.tensor([[BOS, *target[:-1]]]))[0]
    return logits.log_softmax(-1)[range(len(target)), target].mean()


@torch.no_grad()
def test_a_batch_is_its_sentences(model, sentences):
    english = [sentence.english for sentence in sentences[: 40 if EXHAUSTIVE else 12]]
    for beams in (1, 4):
        together = translate(model, english, beams)
        assert together == [translate(model, [text], beams)[0] for text in english]


@torch.no_grad()
def test_the_encoder_is_run_once(model, assert_close):
    seen = []
    with model.hooks([("encoder.hook_embed", lambda x, hook: seen.append(tuple(x.shape[:2])))]):
        model.generate([EXAMPLE, "I read a book."], max_new_tokens=20, num_beams=3, do_sample=False)
    assert len(seen) == 1 and seen[0][0] == 2
    target = torch.tensor([[BOS, *model.tokenizer.encode("Lucas está")[:-1]]])
    encoded = model.encode(EXAMPLE)
    with model.hooks([("encoder.hook_embed", lambda x, hook: pytest.fail("encoded again"))]):
        found = model(encoder_output=encoded, decoder_input=target)
    assert_close(found, model(EXAMPLE, decoder_input=target))


def test_load_model_gives_the_same_model(model):
    same = load_model(NAME, device="cpu")
    assert same.cfg.model_name == NAME
    assert all(torch.equal(w, same.state_dict()[name]) for name, w in model.state_dict().items())
    assert same.tokenizer("a")["input_ids"][-1] == EOS


def test_history_is_of_its_training(model, entry, sentences):
    test_loss = loss(model, Corpus(model.tokenizer, sentences).batch(seeded(0), 200)).item()
    assert entry.control["steps"] == 0 and entry.control["test_loss"] > 5
    history = entry.history()
    assert history["step"].iloc[-1] == entry.training["steps"]
    assert history["test_loss"].iloc[0] > 5 > 0.1 > history["test_loss"].iloc[-1]
    assert history["test_loss"].iloc[-1] == pytest.approx(test_loss, abs=0.02)


def test_the_files_are_small(entry):
    assert sum(file.stat().st_size for file in entry.directory.rglob("*.*")) < 2.5e6


# --- the recipe ----------------------------------------------------------------------------------


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def test_batches_are_sentences_from_start_to_end(sentences):
    tokenizer = translation.make_tokenizer(sentences)
    pairs = Corpus(tokenizer, sentences[:5]).batch(seeded(3), 40)
    known = {
        (tuple(tokenizer.encode(s.english)), (BOS, *tokenizer.encode(s.portuguese)))
        for s in sentences[:5]
    }
    found = set()
    for source, source_mask, target, target_mask in zip(*pairs, strict=True):
        assert (source[source_mask == 0] == PAD).all() and (target[target_mask == 0] == PAD).all()
        row = tuple(source[source_mask == 1].tolist()), tuple(target[target_mask == 1].tolist())
        assert row[0][-1] == row[1][-1] == EOS
        found.add(row)
    assert found == known
    assert pairs.source_mask.any(0).all() and pairs.target_mask.any(0).all()  # no wider than needed


@slow
def test_the_recipe_is_reproducible(tmp_path, monkeypatch, capsys):
    real = translation.measure
    monkeypatch.setattr(translation, "measure", lambda model: real(model, 2, 2))
    monkeypatch.setattr(translation, "N_SENTENCES", 400)
    assert translation.main(["--steps", "3", "--out", str(tmp_path / "a")]) == 0
    assert "untrained: steps=0, test_loss=" in capsys.readouterr().out
    made = zoo.read_entry(tmp_path / "a")
    assert made.history()["step"].tolist() == [0, 3]
    assert made.load(device="cpu").tokenizer("a")["input_ids"][-1] == EOS
    torch.manual_seed(5)  # the global generator has no part in it
    again = make_entry(tmp_path / "b", steps=3)
    assert again.sha256 == made.sha256
    assert again.metrics == made.metrics
