"""The shipped model on every pair, by its own forward pass instead of the recipe's shortcut."""

import pytest
import torch
import torch.nn.functional as F

from interp import InputError, load_model, zoo
from interp.zoo.recipes import modular_addition
from interp.zoo.recipes.modular_addition import (
    EQUALS,
    FRACTION,
    MODULUS,
    SNAPSHOT_STEPS,
    answer_logits,
    answer_loss,
    make_entry,
    make_model,
    right_answers,
    split,
    table,
)
from tests.covering import every_nth, slow

NAME = "zoo:modular-addition"


@pytest.fixture(scope="module")
def model():
    return zoo.load(NAME, device="cpu")


@pytest.fixture(scope="module")
def entry():
    return zoo.entries()[NAME]


def accuracy(model, rows):
    """Of the model's answers, without the recipe's help."""
    with torch.no_grad():
        answers = model(rows)[:, -1].argmax(-1)
    return sum(
        (a + b) % 113 == answer
        for (a, b, _), answer in zip(rows.tolist(), answers.tolist(), strict=True)
    ) / len(rows)


def frequency_share(model, count):
    """How much of W_E's variance over the numbers the strongest Fourier frequencies hold."""
    power = torch.fft.rfft(model.W_E[:MODULUS].double(), dim=0)[1:].abs().square().sum(1)
    assert power.shape == (56,)
    return (power.topk(count).values.sum() / power.sum()).item()


def test_split_takes_every_pair_once():
    train, test = split(seed=7, fraction=0.25)
    assert len(train) == round(0.25 * MODULUS**2)
    pairs = [tuple(row) for row in torch.cat([train, test]).tolist()]
    assert len(pairs) == len(set(pairs)) == MODULUS**2
    assert set(pairs) == {(a, b, EQUALS) for a in range(113) for b in range(113)}


def test_split_depends_on_the_seed_alone():
    train, test = split(3)
    torch.manual_seed(0)
    same = split(3)
    assert torch.equal(train, same[0]) and torch.equal(test, same[1])
    assert not torch.equal(train, split(4)[0])
    # Both halves are a fair sample: every number is in either, on either side.
    for rows in (train, test):
        assert all(set(rows[:, side].tolist()) == set(range(113)) for side in (0, 1))


def test_right_answers():
    rows = torch.tensor([[0, 0, EQUALS], [17, 42, EQUALS], [112, 1, EQUALS], [112, 112, EQUALS]])
    assert right_answers(rows).tolist() == [0, 59, 0, 111]


def test_the_shortcut_is_the_models_own_forward(model):
    rows = table()
    for other in (model, make_model(seed=5)):
        with torch.no_grad():
            expected = other(rows)[:, -1]
            torch.testing.assert_close(
                answer_logits(other, rows), expected, rtol=1e-5, atol=1e-5 * expected.abs().max()
            )


def test_the_shortcut_has_the_same_gradients():
    fresh = make_model(seed=5).to(torch.float64)
    rows = table()[::50]
    with torch.no_grad():
        for parameter in fresh.parameters():  # biases begin as zeros
            parameter.add_(0.1 * torch.randn(parameter.shape, dtype=torch.float64))
    answer_loss(fresh, rows).backward()
    shortcut = {name: p.grad for name, p in fresh.named_parameters()}
    fresh.zero_grad()
    F.cross_entropy(fresh(rows)[:, -1], right_answers(rows)).backward()
    for name, parameter in fresh.named_parameters():
        torch.testing.assert_close(shortcut[name], parameter.grad, rtol=1e-9, atol=1e-12)


def test_it_adds_pairs_that_it_was_not_trained_on(model, entry):
    assert entry.training["fraction"] == FRACTION
    train, test = split(entry.training["seed"], entry.training["fraction"])
    assert len(test) > len(train)
    found = accuracy(model, test)
    assert found >= 0.999
    assert accuracy(model, train) == 1
    assert entry.metrics["test_accuracy"] == pytest.approx(found, abs=1e-4)
    assert entry.metrics["train_accuracy"] == 1


def test_without_weight_decay_it_learns_by_heart(entry):
    assert entry.control["weight_decay"] == 0 < entry.training["weight_decay"]
    assert entry.control["steps"] == entry.training["steps"]
    assert entry.control["train_accuracy"] == 1
    assert entry.control["test_accuracy"] < 0.2


def test_history_shows_memorisation_then_grokking_then_cleanup(entry):
    history = entry.history().set_index("step")
    assert history.index[-1] == entry.training["steps"]
    assert {"loss", "test_loss", "train_accuracy", "test_accuracy", "weight_norm"} <= set(history)
    by_heart = history.index[history["train_accuracy"] == 1][0]
    assert history["test_accuracy"][by_heart] < 0.1
    grokked = history.index[history["test_accuracy"] >= 0.999][0]
    assert grokked > 10 * by_heart
    assert (history["train_accuracy"][by_heart:] > 0.99).all()
    # Afterwards the weights go on shrinking.
    final = history["weight_norm"].iloc[-1]
    assert final < 0.85 * history["weight_norm"][grokked] < 0.85 * history["weight_norm"][by_heart]


def test_snapshots_show_it_too(entry):
    """Some by their own forward, the others by the shortcut, which gives the same."""
    steps = zoo.checkpoints(NAME)
    assert steps == [*SNAPSHOT_STEPS, entry.training["steps"]]
    assert len(steps) == 12
    train, test = split(entry.training["seed"], entry.training["fraction"])
    history = entry.history().set_index("step")
    found = {}
    forward = every_nth(steps, 5, 1)
    for step in steps:
        then = zoo.load(NAME, device="cpu", checkpoint=step)
        measure = accuracy if step in forward else modular_addition.accuracy
        found[step] = (measure(then, train), measure(then, test))
        assert found[step][0] == pytest.approx(history["train_accuracy"][step], abs=0.005)
        assert found[step][1] == pytest.approx(history["test_accuracy"][step], abs=0.005)
    assert max(found[0]) < 0.03
    assert sum(known == 1 and new < 0.5 for known, new in found.values()) >= 4
    assert sum(0.2 < new < 0.99 for _, new in found.values()) >= 2
    assert sum(new >= 0.999 for _, new in found.values()) >= 3


def test_its_embedding_has_few_frequencies(model):
    assert frequency_share(model, 10) > 0.9
    assert frequency_share(zoo.load(NAME, device="cpu", checkpoint=0), 10) < 0.25


def test_text_is_numbers_and_an_equals_sign(model):
    assert model.to_tokens("17 42 =").tolist() == [[17, 42, EQUALS]]
    assert model.to_string(table()[-1]) == "112 112 ="
    assert model.to_str_tokens(" 0  112\n=") == ["0", "112", "="]
    words = [*map(str, range(113)), "="]
    assert [model.to_single_token(word) for word in words] == list(range(114))
    for text in ("17 113 =", "1+2="):
        with pytest.raises(InputError, match="cannot read"):
            model.to_tokens(text)


def test_load_model_gives_the_same_model_and_the_default_prompt_its_answer(model):
    same = load_model(NAME, device="cpu")
    prompt = zoo.defaults(NAME, "head-attribution")["prompt"]
    logits = same(prompt)
    assert torch.equal(logits, model(prompt))
    assert logits.shape == (1, 3, 113)
    a, b, _ = prompt.split()
    answer = logits[0, -1].softmax(-1)
    assert same.to_string(answer.argmax()) == str((int(a) + int(b)) % 113)
    assert answer.max() > 0.99


def test_the_files_are_small(entry):
    sizes = [file.stat().st_size for file in entry.directory.rglob("*.*")]
    assert sum(sizes) < 5e6


@slow
def test_the_recipe_runs_from_the_command_line_and_is_reproducible(tmp_path, run_as_command):
    try:
        told = run_as_command(modular_addition, "--steps", "3", "--out", str(tmp_path / "a"))
    finally:
        torch.set_flush_denormal(False)
    assert "with weight decay: train_loss=4." in told
    assert "without: weight_decay=0.0, steps=3" in told

    made = zoo.read_entry(tmp_path / "a")
    assert list(made.checkpoints) == [0, 3]
    assert made.history()["step"].tolist() == [0, 3]
    assert made.load(device="cpu", checkpoint=3).to_tokens("1 2 =").shape == (1, 3)

    again = make_entry(tmp_path / "b", steps=3, run_dir=tmp_path / "run")
    resumed = make_entry(tmp_path / "c", steps=3, run_dir=tmp_path / "run")
    for other in (again, resumed):
        assert (other.sha256, other.checkpoints) == (made.sha256, made.checkpoints)
        assert other.history().equals(made.history())
        assert (other.metrics, other.control) == (made.metrics, made.control)
