import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.engines.base import EngineError
from interp.engines.handing_out import MOST_DEATHS, HandingOut
from tests.covering import examples


def test_items_are_handed_out_in_order_each_once():
    items = HandingOut([3, 1, 2])
    assert [items.next([]), items.next([3]), items.next([3, 1]), items.next([])] == [3, 1, 2, None]
    assert not items.finished
    for item in (1, 3, 2):
        items.done(item)
    assert items.finished


def test_what_may_have_cost_a_worker_its_life_is_tried_alone():
    items = HandingOut([0, 1, 2, 3])
    held = [items.next([]), items.next([0])]
    items.died(held, "gone")
    assert items.next([7]) == 2  # a busy worker gets no suspect
    assert items.next([]) == 0  # a free one does, first of all,
    assert items.next([0]) is None  # and nothing beside it
    items.done(0)
    assert [items.next([]), items.next([1])] == [1, None]


def test_an_item_that_kills_every_worker_ends_the_work_and_an_innocent_one_beside_it_does_not():
    items = HandingOut([5, 6])
    items.died([items.next([]), items.next([5])], "first")
    assert items.next([]) == 5
    items.done(5)  # the innocent one
    for _ in range(MOST_DEATHS - 2):
        assert items.next([]) == 6
        items.died([6], "again")
    assert items.next([]) == 6
    with pytest.raises(EngineError, match=r"3 workers died while they had item 6 .* said: at last"):
        items.died([6], "at last")


@settings(max_examples=examples(60), deadline=None)
@given(st.integers(0, 20), st.integers(1, 4), st.randoms(use_true_random=False))
def test_with_any_deaths_every_item_is_done_once(n, n_workers, random):
    """A plain simulation: workers take, finish and die at random; no item dies twice alone."""
    items = HandingOut(range(n))
    hands = [[] for _ in range(n_workers)]
    finished, died = [], set()
    while not items.finished:
        hand = random.choice(hands)
        move = random.choice(["take", "finish", "die"])
        if move == "take" and len(hand) < 2:
            item = items.next(hand)
            if item is not None:
                hand.append(item)
        elif move == "finish" and hand:
            item = hand.pop(random.randrange(len(hand)))
            items.done(item)
            finished.append(item)
        elif move == "die" and hand and not died & set(hand):
            died |= set(hand)
            items.died(hand, "")
            hand.clear()
        assert all(len(hand) == 1 for hand in hands if died & set(hand))
    assert sorted(finished) == list(range(n))
