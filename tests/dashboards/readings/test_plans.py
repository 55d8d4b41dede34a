"""Plans: made once, within limits, and never seen by another session."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("streamlit", reason="needs the extra 'dashboard'")

from dashboards import edits
from dashboards.page.subject import Subject, open_model, read
from dashboards.readings import base, interventions, plans
from dashboards.readings.predictions import predictions
from interp import InputError
from interp.interventions import applied
from tests.dashboards.screen import PROMPT

OTHER = "the dog sat on a mat the cat"
STEERED = "steer:L0.resid_post+50%*contrast"


@pytest.fixture
def loaded(words_model, fresh_caches):
    return open_model(str(words_model))


@pytest.fixture
def lines(loaded):
    return read(loaded, PROMPT, True), read(loaded, OTHER, True)


def test_a_direction_is_measured_once(loaded, lines, monkeypatch):
    made = []
    plan = edits.plan
    monkeypatch.setattr(plans, "plan", lambda *args: made.append(args[0]) or plan(*args))
    line, other = lines
    first = plans.planned(loaded, STEERED, line, other, None)
    assert plans.planned(loaded, STEERED, line, other, None) is first
    assert first == edits.plan(STEERED, loaded.model, line.tokens, other.tokens)
    changed = plans.planned(loaded, STEERED, line, read(loaded, "the dog", True), None)
    assert changed != first and made == [STEERED, STEERED]
    for i in range(plans.KEPT + 3):
        plans.planned(loaded, f"scale:L0H0*{i}", line, other, None)
    assert len(loaded.plans) == plans.KEPT and not loaded.lock._is_owned()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("scale:L0H0*1e300", "beyond the range of float32: take smaller amounts"),
        ("noise:embed+1e38", "beyond the range of float32"),
        ("noise:L0H0.pattern+1", "no meaning at hook_pattern"),
        ("steer:L0H0+1*unembed(3)", "must have 6 dims"),
    ],
)
def test_what_only_a_run_shows_is_told(loaded, lines, text, message):
    with pytest.raises(InputError, match=message):
        plans.planned(loaded, text, *lines, None)
    assert not loaded.plans


def test_work_and_memory_are_limited(loaded, lines, monkeypatch):
    line, other = lines
    n, cfg = len(line.tokens), loaded.model.cfg
    assert (n, cfg.n_heads, cfg.n_layers) == (9, 4, 2)
    patterns = "hold:L*H*.pattern;mean(both):L0MLP"  # 2·4·9·9 numbers, and two rows of 9·24
    monkeypatch.setattr(base, "MOST_NUMBERS", 2 * 4 * 9 * 9 + 2 * 9 * 24)
    assert plans.planned(loaded, patterns, line, other, None)
    monkeypatch.setattr(base, "MOST_NUMBERS", 2 * 4 * 9 * 9 + 2 * 9 * 24 - 1)
    with pytest.raises(InputError, match="would hold 1,080 numbers"):
        plans.planned(loaded, f"{patterns};zero:L0H0", line, other, None)
    weights = sum(p.numel() for p in loaded.model.parameters())
    monkeypatch.setattr(base, "MOST_WORK", 4 * 3 * n * weights)
    three = ";".join(f"resample({seed}):L0H0" for seed in range(3))
    assert len(plans.planned(loaded, three, line, other, None)) == 3
    for text in (f"{three};patch:L1H0", f"patch:L1H0;mean(both):L0MLP;{STEERED}"):
        with pytest.raises(InputError, match=r"of 9 tokens takes about .* fewer seeds"):
            plans.planned(loaded, text, line, other, None)


def test_sessions_at_once_see_their_own_interventions(loaded, lines):
    line, other = lines
    texts = [f"zero:L{i % 2}H{i % 4};scale:L{i % 2}MLP*{i}" for i in range(6)] + [STEERED, ""]
    bare = Subject(loaded, line, True, other)
    found: dict[tuple[int, int], tuple] = {}
    gate = threading.Barrier(len(texts))

    def session(i: int) -> None:
        gate.wait()
        for turn in range(2):
            plan = plans.planned(loaded, texts[i], line, other, None) if texts[i] else ()
            subject = replace(bare, edits=texts[i], plan=plan)
            # Another position each turn: what is kept would show nothing of other sessions.
            effects = interventions.compared(subject, turn, False)
            found[i, turn] = (predictions(subject).predictions, effects.outcome)

    threads = [threading.Thread(target=session, args=(i,)) for i in range(len(texts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tokens = torch.tensor([line.tokens])
    model = loaded.model
    assert len(found) == 2 * len(texts)
    for (i, turn), (shown, outcome) in found.items():
        plan = edits.plan(texts[i], model, line.tokens, other.tokens)
        with torch.no_grad():
            before = model(tokens)[0]
            with applied(model, plan, tokens):
                after = model(tokens)[0]
        top = shown[shown["rank"] == 1].sort_values("position")["probability"]
        np.testing.assert_allclose(top, after.softmax(-1).amax(-1), atol=1e-6)
        target = int(before[turn].argmax())
        np.testing.assert_allclose(outcome["before"][0], before[turn, target], atol=1e-5)
        np.testing.assert_allclose(outcome["after"][0], after[turn, target], atol=1e-5)
