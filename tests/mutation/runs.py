"""A pytest plugin that gives every mutant a process of its own, forked once all is imported."""

from __future__ import annotations

import gc
import importlib
import json
import os
import resource
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import pytest
from _pytest.runner import runtestprotocol
from hypothesis import Phase, settings

from tests.mutation.mutants import Mutant, Place
from tests.mutation.planting import Functions, live_functions, plant
from tests.mutation.reach import Follower, tests_by_context, tests_of

GIB = 2**30
_LIMIT = 10.0, 5.0  # seconds of CPU that a mutant may take: a base, and times what its tests took


class Runs:
    """Tries mutants until none is left or the time is over; a line of JSON for each.

    Args:
        places: Where to make them.
        out: The file of results, which are added; places that have one there are left out.
        seconds: How long to go on.
        longest: How many seconds of tests a mutant may get.
        again: Only those that survived: the last result counts.
    """

    def __init__(
        self, places: list[Place], out: Path, seconds: float, longest: float, again: bool
    ) -> None:
        before = read_results(out)
        done = {result["name"]: result["outcome"] for result in before}
        self.paths = sorted({file.path for file, _ in places})
        self.places = [
            (file, number)
            for file, number in places
            if (done.get(f"{file.path}#{number}") in ("survived", "not reached")) == again
            and (again or f"{file.path}#{number}" not in done)
        ]
        self.out = out
        self.seconds_left = seconds
        self.longest = longest
        self.killers: dict[str, Counter[str]] = defaultdict(Counter)
        for result in before:
            self._remember(result)

    def pytest_sessionstart(self) -> None:
        """The same examples each time, and none is made smaller: one that fails is enough."""
        few = [Phase.explicit, Phase.generate]
        settings.register_profile(
            "mutation", settings(), database=None, derandomize=True, phases=few
        )
        settings.load_profile("mutation")

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Where pytest would run its tests."""
        importlib.import_module("transformer_lens")  # slow, and the oracle of many tests
        gc.unfreeze()  # what is frozen, gc.get_objects does not give
        self.live = live_functions(self.paths)
        gc.freeze()
        self.items = {item.nodeid: item for item in session.items}
        self.contexts = tests_by_context(session.items)
        self._follow_new(session)
        ends = time.monotonic() + self.seconds_left
        for file, number in self.places:
            if time.monotonic() > ends:
                break
            found = self._one(file.mutant(number))
            self._remember(found)
            with self.out.open("a") as lines:
                lines.write(json.dumps(found) + "\n")
            told = f"{found['path']}:{found['line']} {found['old']} → {found['new']}"
            print(found["outcome"], f"{found['seconds']:.1f} s", told, flush=True)
        return True

    def _follow_new(self, session: pytest.Session) -> None:
        """What tests run, kept in a file beside the results: only new ones are looked at."""
        known = self.out.with_suffix(".reach.json")
        found = json.loads(known.read_text()) if known.exists() else Follower.nothing()
        new = [item for item in session.items if item.nodeid not in found["seconds"]]
        if new:
            _wait(_forked(lambda: self._follow(session, new, known)), 3600)
            for kind, values in json.loads(known.read_text()).items():
                _merge(found[kind], values)
            known.write_text(json.dumps(found))
        self.reach, self.seconds = found["reach"], found["seconds"]
        for name in found["failed"]:
            self.items.pop(name, None)

    def _follow(self, session: pytest.Session, items: list[Any], out: Path) -> int:
        root = session.config.rootpath
        follower = Follower(str(root / path) for path in self.paths)
        session.config.pluginmanager.register(follower)
        follower.coverage.start()
        for item, following in _with_next(items):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        follower.coverage.stop()
        out.write_text(json.dumps(follower.found(str(root))))
        return 0

    def _remember(self, result: Mapping[str, Any]) -> None:
        if result["killer"]:
            for place in ("", result["path"] + result["function"]):
                self.killers[place][result["killer"]] += 1

    def _chosen(self, mutant: Mutant) -> tuple[list[Any], int]:
        """Its tests, up to a time in all, and how many it has.

        First what killed its neighbours, then those of its file, then what kills much quickly.
        """
        names = tests_of(mutant, self.reach, self.contexts) & set(self.items)
        here, anywhere = self.killers[mutant.path + mutant.function], self.killers[""]
        mirror = f"/test_{Path(mutant.path).stem}.py::"

        def rank(name: str) -> tuple[float, bool, float, str]:
            quickness = self.seconds[name] / (1 + anywhere[name])
            return -here[name], mirror not in name, quickness, name

        ranked = sorted(names, key=rank)
        chosen, spent = [], 0.0
        for name in ranked:
            spent += self.seconds[name]
            if spent <= self.longest or not chosen:
                chosen.append(self.items[name])
        return chosen, len(names)

    def _one(self, mutant: Mutant) -> dict[str, Any]:
        items, reached = self._chosen(mutant)
        expected = sum(self.seconds[item.nodeid] for item in items)
        limit = _LIMIT[0] + _LIMIT[1] * expected
        told = self.out.with_suffix(".killer")
        told.unlink(missing_ok=True)
        start = time.monotonic()
        status = "none" if not items else ""
        if items:
            live = self.live[mutant.path]
            child = _forked(lambda: _try(mutant, live, items, told, limit))
            status = _wait(child, 10 * limit)
        killer = told.read_text() if told.exists() else ""
        outcomes = {"0": "survived", "1": "killed", "2": "not planted", "none": "not reached"}
        return {
            "name": mutant.name,
            "path": mutant.path,
            "function": mutant.function,
            "line": mutant.lines[0],
            "old": mutant.old,
            "new": mutant.new,
            "outcome": outcomes.get(status, "timeout"),
            "killer": killer,
            "tests": len(items),
            "reached": reached,
            "seconds": time.monotonic() - start,
        }


def read_results(path: Path) -> list[dict[str, Any]]:
    """What earlier calls have written, of each mutant the last; none where there is no file."""
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    return list({result["name"]: result for result in map(json.loads, lines)}.values())


def _try(mutant: Mutant, live: Functions, items: list[Any], told: Path, limit: float) -> int:
    """In a process of its own: plant the mutant, run tests until one fails."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 4 * GIB, used + 4 * GIB))
    resource.setrlimit(resource.RLIMIT_CPU, (int(limit), int(limit) + 1))
    try:
        if not plant(mutant, live):
            return 2
    except ValueError:  # other closure variables
        return 2
    for item, following in _with_next(items):
        reports = runtestprotocol(item, nextitem=following, log=False)
        if any(report.failed for report in reports):
            told.write_text(item.nodeid)
            return 1
    return 0


def _merge(into: Any, new: Any) -> None:
    """Add what a nested structure of dictionaries and lists has to another."""
    if isinstance(into, list):
        into += new
        return
    for key, value in new.items():
        if isinstance(value, dict | list) and key in into:
            _merge(into[key], value)
        else:
            into[key] = value


def _with_next(items: list[Any]) -> Iterator[tuple[Any, Any]]:
    return zip(items, [*items[1:], None], strict=True)


def _forked(work: Callable[[], int]) -> int:
    child = os.fork()
    return child if child else _leave(work)


def _leave(work: Callable[[], int]) -> NoReturn:
    status = 3
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        status = work()
    finally:
        os._exit(status)


def _wait(child: int, seconds: float) -> str:
    """The child's exit status, or the signal that ended it; it is killed once the time is over."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            return str(code) if code >= 0 else signal.Signals(-code).name
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "slow"
