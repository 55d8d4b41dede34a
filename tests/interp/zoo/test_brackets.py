"""The shipped model on strings that neither training nor its entry has used, and its generator."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interp import InputError, load_model, zoo
from interp.zoo.recipes import brackets
from interp.zoo.recipes.brackets import (
    CLOSE,
    CLS,
    MAX_LENGTH,
    OPEN,
    PAD,
    SHORTEST_HELD_OUT,
    SNAPSHOT_STEPS,
    _balanced,
    draw,
    evaluate,
    heights,
    is_balanced,
    is_held_out,
    make_entry,
    make_tokenizer,
)
from tests.covering import EXHAUSTIVE, slow

NAME = "zoo:brackets"
SEED = 20_241
N = 5000 if EXHAUSTIVE else 2000  # strings


def drawn(n, held_out, seed=SEED):
    return draw(torch.Generator().manual_seed(seed), n, held_out)


def as_tokens(text):
    return [CLS, *(OPEN if bracket == "(" else CLOSE for bracket in text)]


def as_text(row):
    return "".join({OPEN: "(", CLOSE: ")"}.get(token, "") for token in row.tolist())


def balanced_by_stack(text):
    """The textbook's way, which knows nothing of heights."""
    stack = []
    for bracket in text:
        if bracket == "(":
            stack.append(bracket)
        elif not stack or stack.pop() != "(":
            return False
    return not stack


# --- the generator -------------------------------------------------------------------------------


@given(st.lists(st.sampled_from("()"), min_size=1, max_size=MAX_LENGTH), st.integers(0, 5))
def test_balance_is_what_a_stack_finds(text, padding):
    row = torch.tensor([as_tokens(text) + [PAD] * padding])
    assert is_balanced(row).item() == balanced_by_stack(text)
    opened = [text[: i + 1].count("(") - text[: i + 1].count(")") for i in range(len(text))]
    assert heights(row)[0].tolist() == [0, *opened, *opened[-1:] * padding]


@pytest.mark.parametrize("length", [2, 4, 6, 8, 10])
def test_balanced_strings_of_a_length_are_equally_likely(length):
    every = {
        "".join(text) for text in itertools.product("()", repeat=length) if balanced_by_stack(text)
    }
    n = 1000 * len(every)
    generator = torch.Generator().manual_seed(SEED)
    rows = _balanced(generator, torch.full((n,), length))[:, :length]
    texts = [as_text(row) for row in rows]
    counts = {text: texts.count(text) for text in set(texts)}
    assert set(counts) == every
    surprise = sum((count - 1000) ** 2 / 1000 for count in counts.values())
    freedom = len(every) - 1  # chi-square has this mean, and a variance of twice as much
    assert abs(surprise - freedom) <= 4 * math.sqrt(2 * freedom)


def test_strings_are_as_they_are_told_to_be():
    strings = drawn(9000, held_out=False)
    texts = [as_text(row) for row in strings.tokens]
    assert strings.tokens.shape == (9000, 1 + MAX_LENGTH)
    assert [as_tokens(t) + [PAD] * (MAX_LENGTH - len(t)) for t in texts] == strings.tokens.tolist()
    assert strings.mask.sum(1).tolist() == [1 + len(t) for t in texts]
    assert strings.balanced.tolist() == [balanced_by_stack(t) for t in texts]
    lengths = torch.tensor([len(t) for t in texts])
    assert lengths.unique().tolist() == list(range(2, MAX_LENGTH + 1, 2))
    # A third is made balanced, and more is balanced by chance; each kind of fault is there.
    assert 1 / 3 < strings.balanced.float().mean() < 0.6
    wrong_order = (heights(strings.tokens)[:, -1] == 0) & ~strings.balanced
    wrong_count = heights(strings.tokens)[:, -1] != 0
    assert wrong_order.float().mean() > 0.08
    assert wrong_count.float().mean() > 0.2


def test_training_never_shows_what_is_held_out():
    trained, tested = drawn(N, held_out=False), drawn(N, held_out=True)
    assert tested.tokens.shape == trained.tokens.shape
    assert not is_held_out(trained.tokens).any()
    assert is_held_out(tested.tokens).all()
    assert not {as_text(r) for r in trained.tokens} & {as_text(r) for r in tested.tokens}
    assert tested.mask.sum(1).min() == 1 + SHORTEST_HELD_OUT
    # It is the brackets that decide, however they are padded.
    for tokens in (trained.tokens[:50], tested.tokens[:50]):
        alone = [is_held_out(row[row != PAD][None]).item() for row in tokens]
        assert alone == is_held_out(tokens).tolist()


def test_the_shortest_strings_are_trained_on():
    for length in range(2, SHORTEST_HELD_OUT, 2):
        every = torch.tensor([[CLS, *b] for b in itertools.product((OPEN, CLOSE), repeat=length)])
        assert not is_held_out(every).any()


def test_drawing_depends_on_the_generator_alone():
    first = drawn(50, held_out=False)
    torch.manual_seed(0)
    assert torch.equal(first.tokens, drawn(50, held_out=False).tokens)
    assert not torch.equal(first.tokens, drawn(50, held_out=False, seed=1).tokens)


# --- the tokenizer -------------------------------------------------------------------------------


def test_the_tokenizer_begins_with_cls():
    tokenizer = make_tokenizer()
    assert tokenizer("(())")["input_ids"] == as_tokens("(())")
    assert tokenizer("( ()\n)")["input_ids"] == as_tokens("(())")
    padded = tokenizer(["()", "(())"], padding=True)
    assert padded["input_ids"][0] == [*as_tokens("()"), PAD, PAD]
    assert padded["attention_mask"][0] == [1, 1, 1, 0, 0]
    assert tokenizer.decode(as_tokens("(())"), skip_special_tokens=True) == "(())"


# --- the shipped model ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model():
    return zoo.load(NAME, device="cpu")


@pytest.fixture(scope="module")
def entry():
    return zoo.entries()[NAME]


def test_it_does_what_its_entry_says(model, entry):
    found = evaluate(model, SEED, N)
    assert found["accuracy"] >= 0.999
    assert found["accuracy_balanced"] >= 0.999
    assert found["accuracy_wrong_order"] >= 0.99
    for name, value in found.items():
        assert entry.metrics[name] == pytest.approx(value, abs=0.003), name


@torch.no_grad()
def test_it_is_right_about_short_strings(model):
    for length in range(2, 11, 2):
        texts = ["".join(text) for text in itertools.product("()", repeat=length)]
        answers = model(torch.tensor([as_tokens(text) for text in texts])).argmax(-1)
        wrong = [
            text
            for text, answer in zip(texts, answers.tolist(), strict=True)
            if bool(answer) != balanced_by_stack(text)
        ]
        assert len(wrong) <= len(texts) // 200, wrong
    assert model("()").argmax() == 1
    assert model(")(").argmax() == 0


def test_without_positions_order_is_beyond_it(entry):
    assert entry.control["positions"] == "none"
    assert entry.control["accuracy"] < 0.95
    assert entry.control["accuracy_wrong_order"] < 0.1


@torch.no_grad()
def test_text_is_tokens(model):
    tokens = torch.tensor([as_tokens("(())()")])
    assert torch.equal(model.to_tokens("(())()"), tokens)
    assert torch.equal(model("(())()"), model(tokens))
    assert torch.equal(model("( () ) ()"), model(tokens))
    assert model.to_str_tokens("()") == ["<cls>", "(", ")"]
    with pytest.raises(InputError, match="the tokenizer cannot read"):
        model("(a)")


@torch.no_grad()
def test_a_padded_batch_is_its_rows(model, assert_close):
    strings = drawn(60, held_out=True)
    texts = [as_text(row) for row in strings.tokens]
    assert len({len(text) for text in texts}) > 5
    together = model(strings.tokens, attention_mask=strings.mask)
    alone = torch.cat([model(torch.tensor([as_tokens(text)])) for text in texts])
    assert_close(together, alone)
    assert_close(model(texts), alone)
    assert_close(model(strings.tokens), alone)  # whose padding the tokenizer tells


def test_load_model_gives_the_same_model(model):
    assert model.cfg.model_name == NAME
    same = load_model(NAME, device="cpu")
    assert torch.equal(model("(()"), same("(()"))


def test_snapshots_and_history_are_of_its_training(entry):
    steps = zoo.checkpoints(NAME)
    assert steps == [*SNAPSHOT_STEPS, entry.training["steps"]]
    losses = [
        evaluate(zoo.load(NAME, device="cpu", checkpoint=step), SEED, 200)["test_loss"]
        for step in (steps[0], steps[-1])
    ]
    assert losses[0] > 0.5 and losses[1] < 0.05
    history = entry.history()
    assert history["step"].iloc[-1] == steps[-1]
    assert history["test_loss"].iloc[0] > 0.5 > 0.05 > history["test_loss"].iloc[-1]


def test_the_files_are_small(entry):
    sizes = [file.stat().st_size for file in entry.directory.rglob("*.*")]
    assert (entry.directory / "model.safetensors").stat().st_size < 1e6
    assert sum(sizes) < 2.5e6


# --- the recipe ----------------------------------------------------------------------------------


@slow
def test_the_recipe_is_reproducible(tmp_path, monkeypatch, capsys):
    real = brackets.evaluate
    monkeypatch.setattr(brackets, "evaluate", lambda model, seed, n: real(model, seed, 40))
    assert brackets.main(["--steps", "4", "--out", str(tmp_path / "a")]) == 0
    told = capsys.readouterr().out
    assert "brackets: test_loss=0." in told and "no positions: positions=none, steps=1" in told
    made = zoo.read_entry(tmp_path / "a")
    assert list(made.checkpoints) == [0, 4]
    assert made.load(device="cpu", checkpoint=4).to_tokens("()").tolist() == [[CLS, OPEN, CLOSE]]
    torch.manual_seed(5)  # the global generator has no part in it
    again = make_entry(tmp_path / "b", steps=4)
    assert (again.sha256, again.checkpoints) == (made.sha256, made.checkpoints)
    assert (again.metrics, again.control) == (made.metrics, made.control)
