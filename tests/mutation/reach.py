"""Which tests run which lines, and how long they take."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import coverage
import pytest

from tests.mutation.mutants import Mutant

Reach = dict[str, dict[str, list[str]]]  # path → line → what runs it


class Follower:
    """A pytest plugin: what every test runs, and every fixture, which more than one may share."""

    def __init__(self, paths: Iterable[str]) -> None:
        self.coverage = coverage.Coverage(
            data_file=None, include=list(paths), branch=False, config_file=False
        )
        self.seconds: dict[str, float] = {}
        self.failed: list[str] = []
        self._context = ""

    def _enter(self, context: str) -> str:
        before, self._context = self._context, context
        self.coverage.switch_context(context)
        return before

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        """A test begins and ends."""
        self._enter(item.nodeid)
        start = time.process_time()
        result = yield
        self.seconds[item.nodeid] = time.process_time() - start
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Any:
        """A fixture is made."""
        before = self._enter(fixture_name(fixturedef))
        try:
            return (yield)
        finally:
            self._enter(before)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test that fails already, or cannot run here, is of no use."""
        if not report.passed:
            self.failed.append(report.nodeid)

    @staticmethod
    def nothing() -> dict[str, Any]:
        """What `found` gives of no tests."""
        return {"reach": {}, "seconds": {}, "failed": []}

    def found(self, root: str) -> dict[str, Any]:
        """Path → line → what runs it; how long each test took; those that do not pass."""
        data = self.coverage.get_data()
        reach: Reach = {
            file.removeprefix(root + "/"): {
                str(line): [x for x in contexts if x]
                for line, contexts in data.contexts_by_lineno(file).items()
            }
            for file in data.measured_files()
        }
        return {"reach": reach, "seconds": self.seconds, "failed": self.failed}


def fixture_name(fixturedef: Any) -> str:
    """A fixture's name among contexts."""
    return f"fixture {fixturedef.baseid}::{fixturedef.argname}"


def tests_by_context(items: Iterable[Any]) -> dict[str, set[str]]:
    """Test or fixture → the tests that run it."""
    found = defaultdict(set)
    for item in items:
        found[item.nodeid].add(item.nodeid)
        for definitions in item._fixtureinfo.name2fixturedefs.values():
            for definition in definitions:
                found[fixture_name(definition)].add(item.nodeid)
    return found


def tests_of(mutant: Mutant, reach: Reach, contexts: dict[str, set[str]]) -> set[str]:
    """The tests that run a mutant's lines."""
    lines = reach.get(mutant.path, {})
    first, last = mutant.lines
    reached = {x for line in range(first, last + 1) for x in lines.get(str(line), [])}
    return set().union(*(contexts.get(x, set()) for x in reached))
