import dataclasses

import pytest
import torch
from torch import nn

from interp import InputError
from interp.training import TrainingDivergedError, TrainSettings, learning_rate, train
from interp.training.randomness import step_generator, step_seed


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def test_training_equals_a_loop_written_by_hand(task):
    settings = TrainSettings(steps=40, lr=1e-2, weight_decay=0.1, max_grad_norm=0.5)
    model = task.model().eval()  # train() must switch dropout on, and off again
    train(model, task.batch, task.loss, settings)
    assert not model.training

    expected = task.model()
    decayed = [p for p in expected.parameters() if p.ndim == 2]
    others = [p for p in expected.parameters() if p.ndim == 1]
    adamw = torch.optim.AdamW([{"params": decayed}, {"params": others, "weight_decay": 0.0}],
                              weight_decay=0.1)  # fmt: skip
    for step in range(40):
        for group in adamw.param_groups:
            group["lr"] = learning_rate(step, settings)
        with torch.random.fork_rng():
            torch.manual_seed(step_seed(0, step))
            loss = task.loss(expected, task.batch(step, step_generator(0, step)))
        adamw.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(expected.parameters(), 0.5)
        adamw.step()
    assert same_weights(model, expected)


def test_loss_falls(task):
    settings = TrainSettings(steps=100, lr=5e-2, log_every=100)
    history = train(task.model(), task.batch, task.loss, settings)
    first, last = history.rows
    assert last["loss"] < 0.3 * first["loss"]


def test_same_seed_same_weights_other_seed_other_weights(task, settings):
    models = [task.model() for _ in range(3)]
    for model, seed in zip(models, (5, 5, 6), strict=True):
        train(model, task.batch, task.loss, dataclasses.replace(settings, seed=seed))
    assert same_weights(models[0], models[1])
    assert not same_weights(models[0], models[2])


def test_looking_changes_nothing(task, settings):
    watched, alone = task.model(), task.model()
    often = dataclasses.replace(settings, log_every=1)
    train(watched, task.batch, task.loss, often, evaluate=lambda m: {"x": torch.rand(()).item()})
    train(alone, task.batch, task.loss, dataclasses.replace(settings, log_every=30))
    assert same_weights(watched, alone)


def test_global_random_state_is_neither_read_nor_moved(task, settings):
    models = [task.model(), task.model()]
    for seed, model in enumerate(models):
        torch.manual_seed(seed)
        before = torch.random.get_rng_state()
        train(model, task.batch, task.loss, settings)
        assert torch.equal(torch.random.get_rng_state(), before)
    assert same_weights(*models)


def test_gradients_are_clipped_to_the_norm(task):
    # AdamW's update does not show the gradient's norm, so look at what the last step left behind.
    norms = []

    def loss(model, batch):
        if model[0].weight.grad is not None:
            norms.append(torch.cat([p.grad.flatten() for p in model.parameters()]).norm().item())
        return 1e3 * task.loss(model, batch)

    settings = TrainSettings(steps=5, max_grad_norm=0.25, log_every=1)
    history = train(task.model(), task.batch, loss, settings)
    assert norms == pytest.approx([0.25] * 5, rel=1e-4)
    assert all(row["grad_norm"] > 10 for row in history.rows[:-1])  # as it was before

    norms.clear()
    unclipped = dataclasses.replace(settings, max_grad_norm=None)
    history = train(task.model(), task.batch, loss, unclipped)
    assert norms == pytest.approx([row["grad_norm"] for row in history.rows[:-1]], rel=1e-5)


def test_history_has_a_row_per_logged_step_and_one_at_the_end(task, settings):
    modes = []

    def evaluate(model):
        modes.append((model.training, torch.is_grad_enabled()))
        return {"answer": 42.0}

    seen = []
    history = train(
        task.model(), task.batch, task.loss, settings,
        evaluate=evaluate, callbacks=[lambda step, model: seen.append(step)],
    )  # fmt: skip
    frame = history.frame()
    assert frame["step"].tolist() == [0, 4, 8, 12, 16, 20, 24, 28, 30]
    assert list(frame.columns) == ["step", "loss", "lr", "grad_norm", "answer"]
    assert (frame["answer"] == 42).all()
    assert frame["lr"][:-1].tolist() == [learning_rate(s, settings) for s in frame["step"][:-1]]
    assert frame["grad_norm"].isna().tolist() == [False] * 8 + [True]
    assert seen == list(range(31))
    assert set(modes) == {(False, False)}


def test_frozen_weights_stay(task, settings):
    model = task.model()
    model[0].requires_grad_(False)
    before = model[0].weight.clone()
    train(model, task.batch, task.loss, settings)
    assert torch.equal(model[0].weight, before)
    with pytest.raises(InputError, match="must have parameters that require gradients"):
        train(model.requires_grad_(False), task.batch, task.loss, settings)


def test_bad_losses_are_refused(task, settings):
    with pytest.raises(InputError, match=r"must be a scalar. Received shape \(16, 1\)"):
        train(task.model(), task.batch, lambda m, b: m(b[0]), settings)
    with pytest.raises(TrainingDivergedError, match="the loss is nan at step 0"):
        train(task.model(), task.batch, lambda m, b: task.loss(m, b) * float("nan"), settings)


def test_progress_bar_shows_and_changes_nothing(task, settings, capsys):
    shown, hidden = task.model(), task.model()
    train(shown, task.batch, task.loss, settings, progress=True)
    assert "30/30" in capsys.readouterr().out
    train(hidden, task.batch, task.loss, settings)
    assert capsys.readouterr().out == ""
    assert same_weights(shown, hidden)
