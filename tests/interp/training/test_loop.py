"""What a task may do beside AdamW's update, and when it is asked."""

import pytest
import torch
from torch import nn

from interp import InputError
from interp.training import Task, TrainSettings, run_task, train
from interp.training.randomness import step_generator


class Watched(nn.Module):
    """A model with a buffer of what its training knows of it."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))


class Doubled(Task):
    """Halves its loss, doubles gradients before they are clipped, and shifts weights afterwards."""

    def __init__(self, model, task):
        self.model, self.state, self._task = model, Watched(model), task
        self.calls, self.drawn, self.norms = [], [], []

    def loss(self, step, generator):
        self.calls.append(f"loss {step}")
        return self._task.loss(self.model, self._task.batch(step, generator)) / 2

    def columns(self):
        self.calls.append("columns")
        return {"seen": float(self.state.seen), "grad": float(torch.is_grad_enabled())}

    def change_gradients(self):
        for p in self.model.parameters():
            p.grad.mul_(2)
        self.calls.append("gradients")

    def after_update(self, step, generator, optimizer):
        self.calls.append(f"after {step}")
        self.drawn.append(torch.rand((), generator=generator).item())
        self.norms.append(
            torch.cat([p.grad.flatten() for p in self.model.parameters()]).norm().item()
        )
        self.state.seen += 1
        with torch.no_grad():
            self.model[0].bias.add_(0.125)


def test_a_task_is_asked_in_order(task):
    seen = []
    doubled = Doubled(task.model(), task)
    settings = TrainSettings(steps=2, log_every=2, max_grad_norm=0.01)
    history = run_task(
        doubled,
        settings,
        evaluate=lambda model: {"training": float(model.training)},
        callbacks=[lambda step, model: seen.append((step, model is doubled.model))],
    )
    first = ["loss 0", "columns", "gradients", "after 0"]
    assert doubled.calls == [*first, "loss 1", "gradients", "after 1", "loss 2", "columns"]
    assert seen == [(0, True), (1, True), (2, True)]
    assert doubled.norms == pytest.approx([0.01, 0.01], rel=1e-4)  # clipped after being doubled
    columns = ["step", "loss", "lr", "grad_norm", "seen", "grad", "training"]
    assert [list(row) for row in history.rows] == [columns, columns]
    assert [row["seen"] for row in history.rows] == [0, 2]
    assert [(row["grad"], row["training"]) for row in history.rows] == [(0, 0), (0, 0)]
    # The generator that follows an update is the one that its batch was drawn with.
    for step, drawn in enumerate(doubled.drawn):
        generator = step_generator(0, step)
        task.batch(step, generator)
        assert torch.rand((), generator=generator).item() == drawn


def test_a_task_trains_as_the_model_alone_but_for_what_it_does(task, settings):
    """Half the loss and twice the gradient leave a shift of a bias, which plain training lacks."""

    class Shiftless(Doubled):
        def after_update(self, step, generator, optimizer):
            return

    model, plain = task.model(), task.model()
    ours = run_task(Shiftless(model, task), settings)
    alone = train(plain, task.batch, task.loss, settings)
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), plain.parameters(), strict=True)
    )
    for a, b in zip(ours.rows, alone.rows, strict=True):
        assert 2 * a["loss"] == b["loss"] and a["grad_norm"] == b["grad_norm"]


def test_a_checkpoint_holds_the_state(task, settings, tmp_path):
    class StopError(Exception):
        pass

    def stop(step, model):
        if step == 20:
            raise StopError

    whole = Doubled(task.model(), task)
    expected = run_task(whole, settings)
    with pytest.raises(StopError):
        run_task(Doubled(task.model(), task), settings, callbacks=[stop], run_dir=tmp_path)
    again = Doubled(task.model(seed=1), task)
    history = run_task(again, settings, run_dir=tmp_path, resume=True)
    assert again.calls[0] == "loss 14"
    assert int(again.state.seen) == int(whole.state.seen) == 30
    assert history.rows == expected.rows
    for name, value in whole.state.state_dict().items():
        assert torch.equal(again.state.state_dict()[name], value), name


def test_columns_have_names_of_their_own(task, settings):
    with pytest.raises(InputError, match=r"names of their own\. Received \['lr', 'seen'\]"):
        run_task(
            Doubled(task.model(), task), settings, evaluate=lambda m: {"seen": 1, "lr": 1, "x": 1}
        )


def test_the_norm_is_measured_where_it_is_logged_and_changes_nothing(task):
    seldom, often = task.model(), task.model()
    unclipped = TrainSettings(steps=8, max_grad_norm=None, log_every=8)
    train(seldom, task.batch, task.loss, unclipped)
    logged = TrainSettings(steps=8, max_grad_norm=None, log_every=1)
    history = train(often, task.batch, task.loss, logged)
    assert all(
        torch.equal(a, b) for a, b in zip(seldom.parameters(), often.parameters(), strict=True)
    )
    assert all(row["grad_norm"] > 0 for row in history.rows[:-1])
