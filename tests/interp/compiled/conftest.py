"""Shared by the tests of compiled runs."""

from __future__ import annotations

import pytest

from interp.compiled.model import CompiledModel


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs are traced and run as they are: all but what torch's compilers do to them."""
    monkeypatch.setattr(CompiledModel, "_compile", lambda self, program: program.graph)
