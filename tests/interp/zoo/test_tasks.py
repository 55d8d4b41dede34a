"""Rows of the tasks against what a plain loop over tokens finds in them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp import HookedTransformer, HookedTransformerConfig, InputError, zoo
from interp.zoo.recipes.symbols import VOCABULARY
from interp.zoo.tasks import TASKS, task_of

LENGTHS = {"copy": (8, 400), "repeat": (8, 200), "count": (2, 400)}
copying = pytest.mark.parametrize("name", ["copy", "repeat"])


def texts(rows):
    return [[VOCABULARY[token] for token in row] for row in rows.tokens.tolist()]


def by_row(rows):
    """Tokens, targets and scored of each row, as lists."""
    return zip(*(x.tolist() for x in vars(rows).values()), strict=True)


def stretch_of(tokens, targets, scored):
    """Where the second stretch begins, where the first did, and how long they are."""
    places = [t for t, yes in enumerate(scored) if yes]
    assert places == list(range(places[0], places[-1] + 1))
    whole = [*tokens, targets[-1]]
    return places[0], whole.index(whole[places[0]]), len(places) + 1


@pytest.mark.parametrize("name", TASKS)
@given(data=st.data())
@settings(max_examples=25)
def test_rows_are_as_asked_for(name, data):
    length = data.draw(st.integers(*LENGTHS[name]))
    n, seed = data.draw(st.integers(1, 5)), data.draw(st.integers(0, 10**6))
    rows = TASKS[name].rows(n, length, seed)
    assert rows.tokens.shape == rows.targets.shape == rows.scored.shape == (n, length)
    assert rows.tokens.dtype == rows.targets.dtype == torch.int64
    assert rows.scored.dtype == torch.bool and rows.scored.any(1).all()
    assert rows.tokens[:, 0].eq(0).all() and rows.tokens[:, 1:].min() > 0
    again = TASKS[name].rows(n, length, seed)
    assert all(map(torch.equal, vars(rows).values(), vars(again).values()))


@copying
@given(data=st.data())
@settings(max_examples=40)
def test_what_is_scored_is_what_followed_the_one_earlier_occurrence(name, data):
    task = TASKS[name]
    length = data.draw(st.integers(*LENGTHS[name]))
    offsets = data.draw(st.sampled_from(task.offsets))
    rows = task.rows(4, length, data.draw(st.integers(0, 10**6)), offsets)
    for tokens, targets, scored in by_row(rows):
        assert targets[:-1] == tokens[1:]
        start, first, k = stretch_of(tokens, targets, scored)
        assert 4 <= k <= {"copy": 16, "repeat": 24}[name] and first >= 1 and first + k <= start
        if name == "repeat":
            assert first + k == start
        for t in range(start, start + k - 1):
            earlier = [s for s in range(t) if tokens[s] == tokens[t]]
            assert len(earlier) == 1 and tokens[earlier[0] + 1] == targets[t]
        # The stretch is twice in the row, and its symbols are nowhere else.
        whole = [*tokens, targets[-1]]
        stretch = whole[start : start + k]
        assert len(set(stretch)) == k
        assert [i for i, token in enumerate(whole) if token in stretch] == [
            *range(first, first + k),
            *range(start, start + k),
        ]


@pytest.mark.parametrize("name", TASKS)
def test_whether_answers_are_the_next_tokens(name):
    rows = TASKS[name].rows(50, seed=4)
    known = rows.scored[:, :-1]
    same = rows.targets[:, :-1][known] == rows.tokens[:, 1:][known]
    assert bool(same.all()) == TASKS[name].next_tokens


@given(length=st.integers(2, 300), seed=st.integers(0, 10**6))
@settings(max_examples=25)
def test_counting_goes_on_from_the_first_digit(length, seed):
    rows = TASKS["count"].rows(4, length, seed)
    assert rows.scored[:, 1:].all() and not rows.scored[:, 0].any()
    for row, targets in zip(texts(rows), rows.targets.tolist(), strict=True):
        assert row[0] == "<bos>" and row[1] in "01234"
        assert all(text.isalpha() for text in row[2:])
        count = int(row[1])
        for t in range(1, length):
            assert VOCABULARY[targets[t]] == str(count)
            count = 0 if count == 4 else count + 1


def test_every_digit_and_letter_comes():
    rows = texts(TASKS["count"].rows(2000, 10, 3))
    assert {row[1] for row in rows} == set("01234")
    assert len({text for row in rows for text in row[2:]}) == 52


def test_positions_alone_give_nothing_away():
    """Stretches of each length, at many places and distances, up to the ends of the row."""
    rows = TASKS["copy"].rows(4000, None, 5)
    found = [stretch_of(*row) for row in by_row(rows)]
    assert {k for _, _, k in found} == set(range(4, 17))
    assert {start - first - k for start, first, k in found} >= set(range(30))
    assert {first for _, first, _ in found} >= set(range(1, 30))
    assert rows.scored.any(0)[8:].all()
    # At each place the answer is as likely to be any of the symbols.
    answers = rows.targets[rows.scored]
    share = answers.bincount(minlength=64).double() / len(answers)
    assert (share[1:] - 1 / 63).abs().max() < 0.3 / 63 and share[0] == 0


def test_distances_scale_or_stay_as_they_were():
    def gaps(length, offsets):
        rows = TASKS["copy"].rows(1500, length, 6, offsets)
        found = [stretch_of(*row) for row in by_row(rows)]
        gap = torch.tensor([start - first - k for start, first, k in found]).double()
        return gap, max(start for start, _, _ in found)

    trained, _ = gaps(48, "trained")
    stays, last = gaps(384, "trained")
    grows, _ = gaps(384, "scaled")
    assert trained.max() <= 40 and stays.max() <= 40 and last > 350
    assert stays.mean().item() == pytest.approx(trained.mean().item(), rel=0.1)
    # The gap is the least of two draws from what the stretches leave: a third of it on average.
    assert grows.mean().item() == pytest.approx((384 - 20) / 3, rel=0.1)
    assert trained.mean().item() == pytest.approx((48 - 20) / 3, rel=0.1)
    default = TASKS["copy"].rows(3, 100, 1)
    assert default.tokens.equal(TASKS["copy"].rows(3, 100, 1, "scaled").tokens)


def test_rows_do_not_depend_on_the_global_generator():
    first = TASKS["copy"].rows(5, 60, 2)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    assert first.tokens.equal(TASKS["copy"].rows(5, 60, 2).tokens)
    assert torch.get_rng_state().equal(state)
    assert not first.tokens.equal(TASKS["copy"].rows(5, 60, 3).tokens)


def test_tasks_are_of_the_models_that_ship():
    names = [name for name in zoo.entries() if task_of(name) is not None]
    assert len(names) == 15 and "zoo:induction" in names
    for name in names:
        task, entry = task_of(name), zoo.entries()[name]
        assert task.name == {"induction": "repeat"}.get(name[4:], name[4:].split("-")[0])
        assert entry.training.get("length", 64) == task.trained_length
    assert task_of("zoo:translation") is None and task_of("copy-rotary") is None
    cfg = HookedTransformerConfig(
        n_layers=0, d_model=4, n_heads=1, n_ctx=8, d_vocab=9, attn_only=True, device="cpu"
    )
    model = HookedTransformer(cfg)
    assert task_of(model) is None
    model.cfg.model_name = "zoo:count-t5"
    assert task_of(model) is TASKS["count"]


@torch.no_grad()
def test_the_induction_model_does_its_task():
    model, task = zoo.load("zoo:induction", device="cpu"), TASKS["repeat"]
    rows = task.rows(100, seed=8)
    right = model(rows.tokens).argmax(-1) == rows.targets
    assert right[rows.scored].double().mean() > 0.98
    assert right[~rows.scored].double().mean() < 0.1


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("copy", {"n": 0}, "n must be a whole number of at least 1. Received 0"),
        ("copy", {"n": 1, "length": 7}, "length must be a whole number of at least 8. Received 7"),
        ("count", {"n": 1, "length": 1}, "length must be .* at least 2. Received 1"),
        ("count", {"n": 1, "seed": -1}, "seed must be .* at least 0. Received -1"),
        ("count", {"n": 1, "offsets": "trained"}, "of 'count' must be one of 'scaled'. Received"),
        ("repeat", {"n": 1, "offsets": "scaled"}, "of 'repeat' must be one of 'trained'. Rec"),
        ("copy", {"n": 1, "offsets": "far"}, "of 'copy' must be one of 'scaled', 'trained'. Re"),
    ],
)
def test_bad_rows_are_refused(name, arguments, message):
    with pytest.raises(InputError, match=message):
        TASKS[name].rows(**arguments)
