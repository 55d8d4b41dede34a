"""Processes, told apart and ended."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest

from dashboards.jobs import process
from dashboards.jobs.process import Process


def wait_for(happened, seconds=20):
    due = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < due
        time.sleep(0.01)


@pytest.fixture
def stubborn(monkeypatch):
    """A process that leads a group, with a child; neither ends when it is asked to."""
    monkeypatch.setattr(process, "GRACE", 0.3)
    script = "trap '' TERM; sleep 600 & echo $!; wait; sleep 600"
    leader = subprocess.Popen(
        ["bash", "-c", script], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    child = int(leader.stdout.readline())
    yield Process.of(leader.pid), Process.of(child)
    for each in (leader.pid, child):
        try:
            os.kill(each, signal.SIGKILL)
        except ProcessLookupError:
            continue
    leader.wait()
    leader.stdout.close()


def test_what_does_not_end_when_asked_is_ended_with_all_it_started(stubborn):
    leader, child = stubborn
    assert leader.alive and child.alive and leader != child
    leader.end()
    wait_for(lambda: not leader.alive and not child.alive)
    leader.end()  # once more does nothing


def test_another_process_of_the_same_id_is_left_alone(stubborn):
    leader, child = stubborn
    other = Process(pid=leader.pid, started="at another time")
    assert not other.alive
    other.end()
    assert leader.alive and child.alive


def test_no_process_has_an_id_that_is_too_large():
    assert Process.of(2**22 + 1) is None


def test_a_zombie_is_dead():
    child = os.fork()
    if child == 0:
        os._exit(0)
    wait_for(lambda: Process.of(child) is None)
    os.waitpid(child, 0)
