"""What tests of recipes share."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from types import ModuleType

import pytest


@pytest.fixture
def run_as_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Runs a recipe as `python -m` does, but in this process, and gives what it prints."""

    def run(recipe: ModuleType, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [recipe.__name__, *arguments])
        monkeypatch.delitem(sys.modules, recipe.__name__)  # it is run anew
        with pytest.raises(SystemExit) as end:
            runpy.run_module(recipe.__name__, run_name="__main__")
        told = capsys.readouterr()
        assert end.value.code == 0, told.err
        return told.out

    return run
