"""Shared by the tests of compiled runs."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from interp.compiled.model import CompiledModel


@pytest.fixture(autouse=True, scope="package")
def quick_collections() -> Iterator[None]:
    """Compiling hooks collects garbage: not among all that other tests have loaded."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs are traced and run as they are: all but what torch's compilers do to them."""
    monkeypatch.setattr(CompiledModel, "_compile", lambda self, program: program.graph)
