import dataclasses
import os

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from interp import HookedTransformer, HookedTransformerConfig, InputError
from interp.training import train


class InterruptError(Exception):
    pass


def stop_at(limit):
    def callback(step, model):
        if step == limit:
            raise InterruptError

    return callback


def language_model():
    cfg = HookedTransformerConfig(
        n_layers=1, d_model=16, n_heads=2, n_ctx=12, d_vocab=9, act_fn="relu",
        tie_word_embeddings=True, device="cpu",
    )  # fmt: skip
    return HookedTransformer(cfg)


def token_batch(step, generator):
    return torch.randint(9, (4, 12), generator=generator)


def next_token_loss(model, tokens):
    return model(tokens, return_type="loss")


@pytest.mark.parametrize(
    ("kind", "interruption"),
    [("with dropout", 7), ("with dropout", 28), ("transformer with tied weights", 16)],
)
def test_a_resumed_run_ends_with_the_same_bits(task, settings, tmp_path, interruption, kind):
    if kind == "with dropout":
        make, batch, loss = task.model, task.batch, task.loss
    else:
        make, batch, loss = language_model, token_batch, next_token_loss
    whole = make()
    expected = train(whole, batch, loss, settings, run_dir=tmp_path / "whole")

    with pytest.raises(InterruptError):
        train(make(), batch, loss, settings, run_dir=tmp_path / "cut",
              callbacks=[stop_at(interruption)])  # fmt: skip
    resumed = make()
    torch.manual_seed(123)  # of no consequence
    visited = []
    history = train(resumed, batch, loss, settings, run_dir=tmp_path / "cut", resume=True,
                    callbacks=[lambda step, model: visited.append(step)])  # fmt: skip

    last_checkpoint = (interruption - 1) // 7 * 7  # the one of its own step was not written
    assert visited[0] == last_checkpoint
    for (name, a), b in zip(whole.named_parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b), name
    assert history.rows == expected.rows
    written = pd.read_parquet(tmp_path / "cut" / "history.parquet")
    pd.testing.assert_frame_equal(written, expected.frame())
    assert sorted(os.listdir(tmp_path / "cut")) == ["checkpoint", "history.parquet"]


def test_a_finished_run_resumes_to_itself(task, settings, tmp_path):
    first, second = task.model(), task.model()
    expected = train(first, task.batch, task.loss, settings, run_dir=tmp_path)
    history = train(second, task.batch, task.loss, settings, run_dir=tmp_path, resume=True)
    assert torch.equal(first[0].weight, second[0].weight)
    assert history.rows == expected.rows


@pytest.mark.parametrize("name", ["weight", "exp_avg"])
def test_numbers_that_are_not_finite_are_refused(task, settings, tmp_path, name):
    """A run that diverges ends with an error; it leaves none."""
    model = task.model()
    train(model, task.batch, task.loss, settings, run_dir=tmp_path)
    folder = tmp_path / "checkpoint"
    if name == "weight":
        weights = load_file(folder / "model.safetensors")
        weights["0.weight"].view(-1)[0] = torch.nan
        save_file(weights, folder / "model.safetensors")
    else:
        training = torch.load(folder / "training.pt")
        training["optimizer"]["state"][0][name].view(-1)[0] = torch.inf
        torch.save(training, folder / "training.pt")
    with pytest.raises(InputError, match=rf"has 1 NaN or infinite of \d+ in .*{name}"):
        train(task.model(), task.batch, task.loss, settings, run_dir=tmp_path, resume=True)


def test_resume_without_a_checkpoint_begins_at_the_beginning(task, settings, tmp_path):
    history = train(task.model(), task.batch, task.loss, settings, run_dir=tmp_path, resume=True)
    assert history.rows[0]["step"] == 0
    with pytest.raises(InputError, match="resume needs the run_dir"):
        train(task.model(), task.batch, task.loss, settings, resume=True)


def test_checkpoints_of_other_settings_or_models_are_refused(task, settings, tmp_path):
    train(task.model(), task.batch, task.loss, settings, run_dir=tmp_path)

    def resume(model, settings):
        train(model, task.batch, task.loss, settings, run_dir=tmp_path, resume=True)

    with pytest.raises(InputError, match=r"other ones: lr: 0.01 → 0.02"):
        resume(task.model(), dataclasses.replace(settings, lr=0.02))
    with pytest.raises(InputError, match="does not fit this model"):
        resume(nn.Linear(4, 1), settings)
    resume(task.model(), dataclasses.replace(settings, log_every=3))  # only how often to look
    (tmp_path / "checkpoint" / "training.pt").write_bytes(b"half")
    with pytest.raises(InputError, match="not a whole checkpoint"):
        resume(task.model(), settings)
