"""The shipped model, measured on sequences that neither training nor its entry has used."""

import json
import shutil

import pytest
import torch

from interp import InputError, load_model, zoo
from interp.zoo.recipes import induction
from interp.zoo.recipes.induction import make_entry
from interp.zoo.recipes.repeats import evaluate

NAME = "zoo:induction"
SEED = 20_240


@pytest.fixture(scope="module")
def model():
    return zoo.load(NAME, device="cpu")


@pytest.fixture(scope="module")
def entry():
    return zoo.entries()[NAME]


def test_it_does_what_its_entry_says(model, entry):
    scores = evaluate(model, SEED)
    assert scores.loss < 0.1
    assert scores.previous_token[0].max() >= 0.8
    assert scores.induction[1].max() >= 0.8
    assert entry.metrics["repeat_loss"] == pytest.approx(scores.loss, abs=0.01)
    for name, layer in (("previous_token", 0), ("induction", 1)):
        table = getattr(scores, name)
        best = f"L{layer}H{table[layer].argmax()}"
        assert entry.metrics[f"{name}_head"] == best
        assert entry.metrics[name] == pytest.approx(table.max().item(), abs=0.02)


@pytest.mark.parametrize("length", [4, 9, 31])
def test_it_does_so_at_every_length(model, length):
    scores = evaluate(model, SEED, lengths=[length])
    assert scores.loss < 0.1
    assert scores.induction[1].max() >= 0.8


def test_one_layer_cannot(entry):
    assert entry.control["n_layers"] == 1
    assert entry.control["repeat_loss"] > 1
    assert entry.control["induction"] < 0.4


def test_snapshots_show_the_phase_change(entry):
    steps = zoo.checkpoints(NAME)
    assert len(steps) >= 10
    assert steps[0] == 0
    assert steps[-1] == entry.training["steps"]
    scores = [
        evaluate(zoo.load(NAME, device="cpu", checkpoint=step), SEED, batch=16) for step in steps
    ]
    loss = dict(zip(steps, (s.loss for s in scores), strict=True))
    assert loss[0] > 4
    assert loss[250] - loss[0] == pytest.approx(0, abs=0.2)
    assert loss[350] - loss[500] > 3  # most of the fall, in a twenty-seventh of the training
    assert loss[steps[-1]] < 0.1
    induction = [s.induction[-1].max().item() for s in scores]
    assert induction[0] < 0.1 < 0.8 < induction[-1]


def test_history_is_of_the_same_training(entry):
    history = entry.history()
    assert history["step"].iloc[-1] == entry.training["steps"]
    assert history["repeat_loss"].iloc[0] > 4 > 0.1 > history["repeat_loss"].iloc[-1]
    assert {"loss", "lr", "grad_norm", "previous_token.L0H0", "induction.L1H3"} <= set(history)


def test_load_model_gives_the_same_model(model):
    assert model.cfg.model_name == NAME
    tokens = model.to_tokens("q f B 7 q f")
    assert tokens.shape == (1, 7)
    same = load_model(NAME, device="cpu")
    assert torch.equal(model(tokens), same(tokens))
    assert model.to_string(model(tokens)[0, -1].argmax()) == "B"
    assert zoo.load(NAME, device="cpu", dtype="float64").W_E.dtype == torch.float64


def test_the_default_prompt_ends_where_the_next_token_is_certain(model):
    prompt = zoo.defaults(NAME, "head-attribution")["prompt"]
    symbols = prompt.split()
    earlier = symbols.index(symbols[-1])
    assert earlier < len(symbols) - 1
    prediction = model(prompt)[0, -1].softmax(-1)
    assert model.to_string(prediction.argmax()) == symbols[earlier + 1]
    assert prediction.max() > 0.9


def test_defaults_of_others_are_empty():
    assert zoo.defaults(NAME, "no-such-analysis") == {}
    assert zoo.defaults("gpt2", "head-attribution") == {}


def test_unknown_names_and_steps_are_refused():
    with pytest.raises(InputError, match="did you mean 'zoo:induction'"):
        zoo.load("zoo:inducton")
    with pytest.raises(InputError, match=r"snapshot of \(0, .*\). Received 7"):
        zoo.load(NAME, checkpoint=7)


def test_changed_weights_are_refused(entry, tmp_path):
    copy = tmp_path / "entry"
    shutil.copytree(entry.directory, copy)
    assert zoo.read_entry(copy).load(device="cpu").cfg.model_name == NAME
    for file in ("checkpoints/step_00000.safetensors", "model.safetensors"):
        content = bytearray((copy / file).read_bytes())
        content[-1] ^= 1
        (copy / file).write_bytes(content)
        with pytest.raises(InputError, match=r"is not the file that this entry was made with"):
            zoo.read_entry(copy).load(device="cpu", checkpoint=0)
    (copy / "entry.json").write_text(json.dumps({"name": NAME}))
    with pytest.raises(InputError, match=r"entry.json is damaged"):
        zoo.read_entry(copy)


def test_the_files_are_small(entry):
    sizes = {f.relative_to(entry.directory): f.stat().st_size for f in entry.directory.rglob("*.*")}
    assert (entry.directory / "model.safetensors").stat().st_size < 1e6
    assert sum(sizes.values()) < 2.5e6


def test_the_recipe_runs_from_the_command_line_and_is_reproducible(tmp_path, run_as_command):
    told = run_as_command(induction, "--steps", "3", "--out", str(tmp_path / "a"))
    assert "two layers: repeat_loss=4." in told
    assert "one layer: n_layers=1" in told

    made = zoo.read_entry(tmp_path / "a")
    assert list(made.checkpoints) == [0, 3]
    assert made.history()["step"].tolist() == [0, 3]
    assert made.load(device="cpu", checkpoint=3).to_tokens("q f").shape == (1, 3)

    again = make_entry(tmp_path / "b", steps=3)
    assert (again.sha256, again.checkpoints) == (made.sha256, made.checkpoints)
