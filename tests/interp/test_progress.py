"""Reports of progress, and the loops that make them."""

from __future__ import annotations

import pytest
import torch

from interp import InputError
from interp.patching import get_act_patch_resid_pre
from interp.progress import is_heard, listening, report, stage
from interp.training import progress
from interp.training.settings import TrainSettings
from interp.training.trainer import train


def test_reports_reach_whoever_listens_and_nobody_else():
    heard = []
    report(0.1, "unheard")
    with listening(lambda *told: heard.append(told)):
        assert is_heard()
        report(0.5, "half")
        with listening(None):
            assert not is_heard()
            report(0.6, "unheard")
    assert not is_heard()
    report(1.0, "unheard")
    assert heard == [(0.5, "half")]


def test_stages_share_the_whole_also_within_each_other():
    heard = []
    with listening(lambda *told: heard.append(told)):
        for number, name in enumerate(("first", "second")):
            with stage(number, 2, name):
                report(0.5, "half")
                with stage(1, 4, "inner"):
                    report(1.0)
    assert heard == [
        (0.0, "first"), (0.25, "first: half"), (0.125, "first: inner"), (0.25, "first: inner"),
        (0.5, "second"), (0.75, "second: half"), (0.625, "second: inner"), (0.75, "second: inner"),
    ]  # fmt: skip
    with stage(0, 1, "unheard"):
        report(1.0)
    with pytest.raises(InputError, match=r"must lie in 0 … 1\. Received 2"), stage(2, 2, "third"):
        pass


def test_a_listener_that_raises_ends_the_work():
    class Enough(Exception):
        pass

    def stop(done, line):
        raise Enough

    with pytest.raises(Enough), listening(stop):
        report(0.0)
    assert not is_heard()


def test_training_reports_its_steps_and_its_loss(monkeypatch):
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_UPDATES", 0.0)
    heard = []
    model = torch.nn.Linear(1, 1)
    with listening(lambda *told: heard.append(told)):
        history = train(
            model, lambda step, generator: torch.ones(1, 1), lambda m, x: m(x).square().sum(),
            TrainSettings(steps=4, log_every=1),
        )  # fmt: skip
    losses = history.frame()["loss"]
    assert [done for done, _ in heard] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert [line for _, line in heard] == [
        f"step {i} of 4, loss {loss:.4g}" for i, loss in enumerate(losses)
    ]


def test_a_training_that_nobody_hears_reads_no_loss(monkeypatch):
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_UPDATES", 0.0)
    with progress.progress_bar(3, 0, False) as advance:
        advance(1, None)  # which has no mean


def test_a_sweep_reports_its_runs(make_model):
    model = make_model()
    tokens = torch.tensor([[1, 2, 3]])
    _, cache = model.run_with_cache(torch.tensor([[1, 2, 4]]))
    heard = []
    with listening(lambda *told: heard.append(told)):
        get_act_patch_resid_pre(model, tokens, cache, lambda logits: logits[0, -1, 0])
    total = model.cfg.n_layers * 3
    assert heard[-1] == (1.0, f"{total} of {total} patched runs")
    assert all(0 < done <= 1 for done, _ in heard)
