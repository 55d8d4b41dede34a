import threading

import pytest

from interp.engines import LocalEngine
from interp.errors import InputError


class Recorder:
    """Notes what is called in which thread; an item may fail in either step."""

    def __init__(self, make_fails=None, finish_fails=None, gate=None):
        self.calls, self.made_not_finished, self.most = [], 0, 0
        self.make_fails, self.finish_fails, self.gate = make_fails, finish_fails, gate

    def make(self, item):
        self.calls.append(("make", item, threading.current_thread()))
        if item == self.make_fails:
            raise KeyboardInterrupt if item == 99 else RuntimeError(f"make {item}")
        self.made_not_finished += 1
        self.most = max(self.most, self.made_not_finished)
        if self.gate is not None and item == 1:
            self.gate.set()  # 0 is being finished: it waits for this
        return item

    def finish(self, made):
        self.calls.append(("finish", made, threading.current_thread()))
        if self.gate is not None and made == 0:
            assert self.gate.wait(10), "1 was not made while 0 was finished"
        self.made_not_finished -= 1
        if made == self.finish_fails:
            raise OSError(f"finish {made}")
        return made * 10


def run(worker, items):
    told = []
    here = threading.current_thread()

    def done(item, result):
        assert threading.current_thread() is here
        told.append((item, result))

    try:
        LocalEngine().run(lambda: worker, items, done)
    except BaseException as fault:
        return told, fault
    return told, None


def test_items_are_done_in_order_and_told_once():
    worker = Recorder()
    told, fault = run(worker, [4, 2, 7])
    assert (told, fault) == ([(4, 40), (2, 20), (7, 70)], None)
    assert {thread for step, _, thread in worker.calls if step == "make"} == {
        threading.current_thread()
    }
    writers = {thread for step, _, thread in worker.calls if step == "finish"}
    assert len(writers) == 1 and threading.current_thread() not in writers


def test_one_is_finished_while_the_next_is_made_and_at_most_one_waits():
    worker = Recorder(gate=threading.Event())
    told, fault = run(worker, range(8))
    assert (len(told), fault) == (8, None)
    assert worker.most == 2


@pytest.mark.parametrize(
    ("worker", "told", "fault"),
    [
        (Recorder(make_fails=2), [(0, 0), (1, 10)], "make 2"),
        (Recorder(finish_fails=2), [(0, 0), (1, 10)], "finish 2"),
        (Recorder(make_fails=0), [], "make 0"),
        (Recorder(finish_fails=4), [(0, 0), (1, 10), (2, 20), (3, 30)], "finish 4"),
    ],
)
def test_an_error_comes_after_all_that_was_finished_is_told(worker, told, fault):
    found, raised = run(worker, range(5))
    assert (found, str(raised)) == (told, fault)


def test_an_interrupt_loses_nothing_that_was_made():
    told, fault = run(Recorder(make_fails=99), [0, 99, 1])
    assert told == [(0, 0)] and isinstance(fault, KeyboardInterrupt)


def test_an_error_of_done_ends_the_work():
    told = []

    def done(item, result):
        told.append(item)
        raise OSError("no space")

    worker = Recorder()
    with pytest.raises(OSError, match="no space"):
        LocalEngine().run(lambda: worker, range(5), done)
    assert max(item for _, item, _ in worker.calls) == 1
    assert told == [0]  # and not a second time


def test_without_items_nothing_is_opened():
    LocalEngine().run(lambda: pytest.fail("opened"), [], lambda *_: pytest.fail("told"))


@pytest.mark.parametrize("items", [[0, 0], [-1], [0.5], [True]])
def test_items_are_distinct_whole_numbers(items):
    with pytest.raises(InputError, match="item"):
        LocalEngine().run(lambda: pytest.fail("opened"), items, lambda *_: None)
