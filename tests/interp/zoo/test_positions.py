"""The fourteen models with their encodings, on rows that neither training nor entries have used."""

from __future__ import annotations

import functools
import itertools
import json
import math

import pytest
import torch

from interp import InputError, load_model, zoo
from interp.behaviour import repeated_tokens
from interp.zoo.recipes import positions
from interp.zoo.recipes.positions import (
    MULTIPLES,
    NAMES,
    STEPS,
    evaluate,
    make_entry,
    make_model,
    measure,
    model_name,
    train_model,
)
from interp.zoo.tasks import ENCODINGS, TASKS, task_of

SEED = 20_250
ALL = [model_name(task, encoding) for task, encoding in NAMES]
TABLES = [name for name in ALL if name.endswith(("-learned", "-shortformer"))]
LONGER = [name for name in ALL if name not in TABLES]


@functools.cache
def model(name):
    return zoo.load(name, device="cpu")


@functools.cache
def entries():
    return zoo.entries()


def score(name, length, n=256, offsets=None):
    """Loss and accuracy, in the plainest way, each with how far 512 other rows may be from it."""
    rows = task_of(name).rows(n, length, SEED, offsets)
    with torch.no_grad():
        chances = model(name)(rows.tokens).log_softmax(-1)
    losses = -chances.gather(-1, rows.targets[..., None])[..., 0]
    right = (chances.argmax(-1) == rows.targets).float()
    found = []
    for values in (losses, right):
        values = values.masked_fill(~rows.scored, 0)
        mean = values.sum() / rows.scored.sum()
        # Of rows, not of tokens: those of a row stand or fall together.
        residual = (values.sum(1) - mean * rows.scored.sum(1)) / rows.scored.sum(1).float().mean()
        error = residual.std().item() * math.sqrt(1 / n + 1 / positions.N_ROWS)
        found.append(pytest.approx(mean.item(), abs=0.002 + 4 * error))
    return found


# --- the shipped models --------------------------------------------------------------------------


def test_there_is_one_of_each():
    assert len(ALL) == 14
    assert {name for name in entries() if name.startswith(("zoo:copy-", "zoo:count-"))} == set(ALL)


@pytest.mark.parametrize("name", ALL)
def test_a_model_does_what_its_entry_says(name):
    metrics = entries()[name].metrics
    loss, accuracy = score(name, None)
    assert metrics["loss"] == loss
    assert metrics["accuracy"] == accuracy


@pytest.mark.parametrize("name", LONGER)
def test_it_does_so_on_longer_rows(name):
    metrics = entries()[name].metrics
    task = task_of(name)
    for offsets in task.offsets:
        key = "2x" if offsets == "scaled" else "2x_trained_offsets"
        loss, accuracy = score(name, 2 * task.trained_length, 128, offsets)
        assert metrics[f"loss_{key}"] == loss
        assert metrics[f"accuracy_{key}"] == accuracy
    assert all(f"accuracy_{times}x" in metrics for times in MULTIPLES[1:])
    assert "beyond" not in metrics


@pytest.mark.parametrize("name", TABLES)
def test_learned_tables_refuse_longer_rows(name):
    task, metrics = task_of(name), entries()[name].metrics
    with pytest.raises(InputError, match=r"learned positions end at n_ctx \(48\). Received 49"):
        model(name)(task.rows(1, 49).tokens)
    assert metrics["beyond"] == "learned positions end at 48 tokens"
    beyond = [value for key, value in metrics.items() if "x" in key]
    assert len(beyond) == (12 if task.name == "copy" else 6) and set(beyond) == {None}


def test_which_encodings_learn_which_task():
    """As the documentation of the recipe has it."""
    reached = {name: entries()[name].metrics["accuracy"] for name in ALL}
    for encoding in ENCODINGS:
        assert (reached[f"zoo:copy-{encoding}"] > 0.95) == (encoding != "none"), encoding
        whole = encoding not in ("none", "alibi")
        assert (reached[f"zoo:count-{encoding}"] > 0.99) == whole, encoding
    assert reached["zoo:copy-none"] < 0.1
    assert 0.5 < reached["zoo:count-none"] < 0.95


@torch.no_grad()
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_how_far_they_count(encoding):
    """Without learning all of it two count exactly, and then guess, as their descriptions say."""
    name, task = f"zoo:count-{encoding}", TASKS["count"]
    last = entries()[name].metrics["right_up_to"]
    rows = task.rows(300, None, SEED)
    right = (model(name)(rows.tokens).argmax(-1) == rows.targets).double().mean(0)
    assert right[1:last].min() > 0.9
    if encoding in ("alibi", "none"):
        assert 27 <= last <= 32 and f"up to position {last} only" in entries()[name].description
        assert right[1:28].min() > 0.99 and right[36:].mean() < 0.3
    else:
        assert last == 47


@torch.no_grad()
def test_t5_copies_by_looking_eight_tokens_back():
    """As the recipe's text has it: one layer looks 8 and 9 back, the other where that is stored."""
    length = 20
    rows = repeated_tokens(model("zoo:copy-t5"), 16, length)
    _, cache = model("zoo:copy-t5").run_with_cache(rows.tokens)

    def looks_back(layer, distance, first):
        return cache["pattern", layer][:, :, first:].diagonal(first - distance, 2, 3).mean((0, 2))

    first = rows.start + length + 8  # so far into the repeat, all that is looked for is there
    one_back = cache["pattern", 0].diagonal(-1, 2, 3).mean((0, 2))
    far_back = looks_back(0, 8, first) + looks_back(0, 9, first)
    assert one_back.max() < 0.15 and far_back.min() > 0.25 and far_back.max() > 0.5
    induction, further_on = (looks_back(1, length - 1 - by, first) for by in (0, 8))
    assert induction.max() < 0.1 and further_on.min() > 0.8


@torch.no_grad()
def test_without_positions_the_first_layer_does_not_see_the_order():
    """Why `copy` is out of its reach: what comes before a token may be exchanged."""
    tokens = TASKS["copy"].rows(4, 12, SEED).tokens
    exchanged = tokens[:, [0, 3, 1, 2, 5, 4, 6, 7, 8, 9, 10, 11]]
    name = "blocks.0.hook_resid_post"
    for encoding, same in (("none", True), ("rotary", False)):
        of = model(f"zoo:copy-{encoding}")
        a, b = (of.run_with_cache(x, names_filter=name)[1][name] for x in (tokens, exchanged))
        assert torch.allclose(a[:, 6:], b[:, 6:], atol=1e-5) == same


@pytest.mark.parametrize("name", ALL)
def test_entries_are_complete(name):
    entry = entries()[name]
    task, encoding = name.removeprefix("zoo:").split("-")
    assert entry.recipe == f"interp.zoo.recipes.positions --task {task} --encoding {encoding}"
    assert entry.training["steps"] == STEPS[task] and entry.checkpoints == {}
    failed = {"copy": "Not learned: ", "count": "Learned up to position "}[task]
    assert (failed in entry.description) == (entry.metrics["accuracy"] < 0.95)
    assert entry.description == positions.describe(task, encoding, entry.metrics)
    assert entry.control["steps"] == 0
    assert entry.control["accuracy"] < 0.05
    guess = entry.control["loss_of_a_guess"]
    assert math.exp(-guess) == pytest.approx(entry.control["accuracy_of_a_guess"], abs=1e-4)
    history = entry.history()
    assert history["step"].tolist() == list(range(0, STEPS[task] + 1, 100))
    assert history["test_loss"].iloc[0] == pytest.approx(entry.control["loss"], abs=0.1)
    assert history["test_accuracy"].iloc[-1] == pytest.approx(entry.metrics["accuracy"], abs=0.03)
    size = sum(file.stat().st_size for file in entry.directory.rglob("*.*"))
    assert size < 270_000
    cfg = model(name).cfg
    assert cfg.model_name == name and cfg.n_ctx == TASKS[task].trained_length
    assert cfg.positional_embedding_type == ENCODINGS[encoding]


def test_all_else_is_the_same():
    for task in ("copy", "count"):
        names = [model_name(task, encoding) for encoding in ENCODINGS]
        fields = [vars(model(name).cfg) for name in names]
        differ = {key for key in fields[0] for each in fields if each[key] != fields[0][key]}
        free = {"embed_scale", "rotary_dim", "_filled_in"}  # what an encoding brings with it
        assert differ <= free | {"model_name", "positional_embedding_type"}
        scales = {name: cfg["embed_scale"] for name, cfg in zip(names, fields, strict=True)}
        assert scales.pop(f"zoo:{task}-sinusoidal") == 8 and set(scales.values()) == {1}
        timeless = [
            {k: v for k, v in entries()[name].training.items() if k != "seconds"} for name in names
        ]
        assert all(each == timeless[0] for each in timeless)
        assert {cfg["seed"] for cfg in fields} == {0}


def test_load_model_gives_the_same_model():
    name = "zoo:copy-rotary"
    same = load_model(name, device="cpu")
    assert all(torch.equal(w, same.state_dict()[k]) for k, w in model(name).state_dict().items())
    assert same.to_tokens("q f B 7").shape == (1, 5)


# --- their default prompts -----------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("name", ALL)
def test_default_prompts_have_answers(name):
    """The rules that make the prompts say what comes next; a model that has learned says so too."""
    of, task = model(name), task_of(name).name
    prompt = zoo.defaults(name, "logit-lens")["prompt"]
    pairs = zoo.defaults(name, "activation-patching")

    def answer(text):
        symbols = text.split()
        if task == "count":
            return str((int(symbols[0]) + len(symbols) - 1) % 5)
        return symbols[symbols.index(symbols[-1]) + 1]

    expected = [
        (prompt, answer(prompt)),
        *zip(pairs["clean"], pairs["right"], strict=True),
        *zip(pairs["corrupted"], pairs["wrong"], strict=True),
    ]
    assert all(answer(text) == right for text, right in expected)
    found = [of.to_string(of(text)[0, -1].argmax()) for text, _ in expected]
    hits = sum(text == right for text, (_, right) in zip(found, expected, strict=True))
    if name == "zoo:copy-none":
        assert hits <= 2, (found, expected)
    else:  # those that count no further than thirty count these
        assert hits == len(expected), (found, expected)
    for clean, corrupted in zip(pairs["clean"], pairs["corrupted"], strict=True):
        changed = sum(map(str.__ne__, clean.split(), corrupted.split()))
        assert changed == (1 if task == "count" else 2)


# --- the recipe ----------------------------------------------------------------------------------


@torch.no_grad()
def test_scores_are_those_of_a_plain_loop():
    name, task = "zoo:count-alibi", TASKS["count"]
    found = evaluate(model(name), task, 60, SEED, 70)  # more than one batch
    rows = task.rows(70, 60, SEED)
    losses, right = [], 0
    for row, t in itertools.product(range(70), range(1, 60)):
        logits = model(name)(rows.tokens[row : row + 1])[0] if t == 1 else logits
        chances = logits[t].softmax(-1)
        losses.append(-chances[rows.targets[row, t]].log().item())
        right += int(chances.argmax() == rows.targets[row, t])
    assert found["loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    assert found["accuracy"] == right / len(losses)


def test_measures_are_of_every_length(monkeypatch):
    monkeypatch.setattr(positions, "evaluate", lambda *a: {"loss": a[2], "accuracy": a[5]})
    monkeypatch.setattr("builtins.round", lambda value, digits: value)
    found = measure(make_model("copy", "none"), TASKS["copy"], 1)
    assert found["loss"] == 48 and found["accuracy"] == "scaled"
    assert found["loss_8x"] == found["loss_8x_trained_offsets"] == 384
    assert found["accuracy_8x"] == "scaled" and found["accuracy_8x_trained_offsets"] == "trained"
    assert len(found) == 14
    assert len(measure(make_model("count", "t5"), TASKS["count"], 1)) == 9


def test_training_teaches(monkeypatch):
    """Counting with learned positions is a matter of a hundred small steps; a guess is 0.2."""
    monkeypatch.setattr(positions, "N_ROWS", 16)
    monkeypatch.setattr(positions, "BATCH", 8)
    trained = train_model("count", "learned", positions.settings_for(100))
    assert trained.metrics["accuracy"] > 0.5
    assert trained.history.rows[0]["test_accuracy"] < 0.1


def test_the_recipe_is_reproducible(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(positions, "N_ROWS", 8)
    arguments = ["--task", "copy", "--encoding", "t5", "--steps", "3"]
    assert positions.main([*arguments, "--out", str(tmp_path / "a")]) == 0
    printed = capsys.readouterr().out
    assert "trained: loss=4." in printed and "untrained: steps=0, loss=4." in printed
    made = zoo.read_entry(tmp_path / "a")
    assert made.name == "zoo:copy-t5" and made.history()["step"].tolist() == [0, 3]
    assert made.load(device="cpu").to_tokens("q f").shape == (1, 3)
    torch.manual_seed(5)  # the global generator has no part in it
    again = make_entry(tmp_path / "b", "copy", "t5", steps=3)
    assert (again.sha256, again.metrics) == (made.sha256, made.metrics)
    assert json.loads((tmp_path / "b" / "entry.json").read_text())["checkpoints"] == {}


def test_all_are_made_each_in_its_directory(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(positions, "make_entry", lambda out, *a, **k: made.append((out, *a)))
    monkeypatch.setattr(positions, "print_entry", lambda *a: None)
    assert positions.main(["--all", "--steps", "7", "--out", str(tmp_path)]) == 0
    assert made == [(tmp_path / f"{t}-{e}", t, e, 7) for t, e in NAMES]


@pytest.mark.parametrize(
    "arguments",
    [[], ["--task", "copy"], ["--encoding", "t5"], ["--all", "--task", "copy"], ["--task", "x"]],
)
def test_the_command_says_which(arguments, capsys):
    with pytest.raises(SystemExit):
        positions.main([*arguments, "--out", "nowhere"])
    assert "--task" in capsys.readouterr().err


def test_unknown_models_are_refused():
    with pytest.raises(InputError, match=r"task must be one of 'copy', 'count'\. Received 'x'"):
        make_model("x", "none")
    with pytest.raises(InputError, match=r"encoding must be one of .*\. Received 'standard'"):
        make_model("copy", "standard")
