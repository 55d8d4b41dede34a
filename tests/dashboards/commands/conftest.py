"""How the commands are called."""

from __future__ import annotations

import pytest

from dashboards import cli


@pytest.fixture
def call(capsys):
    """Run the command line; gives its exit code, stdout and stderr."""

    def call(*args):
        with pytest.raises(SystemExit) as end:
            cli.main([str(arg) for arg in args])
        return end.value.code, *capsys.readouterr()

    return call
