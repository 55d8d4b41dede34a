"""Readings: computed once for each model, input, interventions and arguments."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
import torch

pytest.importorskip("streamlit", reason="needs the extra 'dashboard'")

from dashboards import edits
from dashboards.page.subject import Subject, open_model, read
from dashboards.readings.base import MOST_NUMBERS, inputs_of, reading, require_room
from interp import InputError
from tests.dashboards.screen import PROMPT

calls: list[tuple] = []


@reading()
def last_logits(model, subject, *args):
    calls.append((subject.tokens, args, subject.loaded.lock._is_owned(), torch.is_grad_enabled()))
    return model(**inputs_of(subject))[0, -1].numpy()


@reading(grad=True)
def gradient(model, subject):
    calls.append((torch.is_grad_enabled(),))
    return torch.autograd.grad(model(**inputs_of(subject)).sum(), model.W_E)[0].numpy()


@pytest.fixture
def subject(words_model, fresh_caches):
    loaded = open_model(str(words_model))
    calls.clear()
    return Subject(loaded, read(loaded, PROMPT, True), True)


def test_the_same_is_computed_once(subject):
    first, again = last_logits(subject), last_logits(replace(subject))
    assert len(calls) == 1 and (first == again).all()
    first[0] = 7  # each caller's own
    assert last_logits(subject)[0] == again[0]
    assert calls[0][2:] == (True, False)  # locked, without gradients
    assert not subject.loaded.lock._is_owned()


def test_another_input_argument_or_function_is_computed_anew(subject):
    other = replace(subject, line=read(subject.loaded, "the cat", True))
    assert (last_logits(subject) != last_logits(other)).any()
    last_logits(subject, 1)
    last_logits(subject, "1")
    assert len(calls) == 4
    assert gradient(subject).shape == subject.loaded.model.W_E.shape
    assert calls[-1] == (True,)


def test_interventions_are_on_the_model_while_it_is_read_and_not_after(subject):
    plan = edits.plan("zero:L0H1", subject.loaded.model, subject.tokens)
    edited = replace(subject, edits="zero:L0H1", plan=plan)
    bare = last_logits(subject)
    found = last_logits(edited)

    def no_head(z, hook):
        z[:, :, 1] = 0
        return z

    model = subject.loaded.model
    with torch.no_grad():
        expected = model.run_with_hooks(
            **inputs_of(subject), fwd_hooks=[("blocks.0.attn.hook_z", no_head)]
        )[0, -1].numpy()
    assert (found == expected).all() and (found != bare).any()
    assert (last_logits(edited.unedited()) == bare).all()
    assert len(calls) == 2  # the bare ones were kept
    with torch.no_grad():
        assert (model(**inputs_of(subject))[0, -1].numpy() == bare).all()


def test_interventions_that_are_off_are_no_other_subject(subject):
    assert replace(subject, edits="zero:L0H1").key == subject.key


def test_what_activations_are_taken_from_is_part_of_the_key(subject):
    plan = edits.plan("zero:L0H1", subject.loaded.model, subject.tokens)
    on = replace(subject, edits="zero:L0H1", plan=plan)
    second = replace(on, other=read(subject.loaded, "the dog", True))
    assert on.key != second.key


def test_threads_wait_for_each_other(subject, monkeypatch):
    together, inside = threading.Barrier(4), []

    @reading()
    def slow(model, subject, i):
        inside.append(i)
        assert len(inside) == 1
        model(**inputs_of(subject))
        inside.remove(i)
        return i

    def go(i):
        together.wait()
        found.append(slow(subject, i))

    found: list[int] = []
    threads = [threading.Thread(target=go, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [0, 1, 2, 3]


def test_the_second_prompt_can_be_read_like_the_first(subject):
    with pytest.raises(InputError, match="there is no second prompt"):
        subject.with_other()
    second = read(subject.loaded, "the dog", True)
    swapped = replace(subject, other=second).with_other()
    assert (swapped.line, swapped.other) == (second, subject.line)


def test_requests_are_bounded():
    require_room(MOST_NUMBERS, "this")
    with pytest.raises(InputError, match="this would hold 50,000,001 numbers"):
        require_room(MOST_NUMBERS + 1, "this")
