from __future__ import annotations

import os

import pytest

from dashboards import cli
from dashboards.options import read_options


@pytest.fixture
def started(monkeypatch):
    """The command that `interp dashboard` turns into."""

    def started(*args):
        seen = []
        monkeypatch.setattr(cli, "require_extra", lambda *_: None)
        monkeypatch.setattr(os, "execv", lambda path, command: seen.extend(command))
        with pytest.raises(SystemExit):
            cli.main(["dashboard", *args])
        return seen

    return started


def option(command, name):
    return command[command.index(name) + 1]


def test_the_dashboard_is_private_unless_told_otherwise(started):
    command = started()
    assert option(command, "--server.address") == "localhost"
    assert option(command, "--browser.gatherUsageStats") == "false"
    assert option(command, "--server.showEmailPrompt") == "false"
    assert option(started("--address", "0.0.0.0"), "--server.address") == "0.0.0.0"


def test_no_browser_is_opened_where_none_is_wanted(started):
    assert "--server.headless" not in started()
    assert option(started("--no-open"), "--server.headless") == "true"


def test_what_the_command_hands_over_is_read(started, tmp_path):
    command = started("--model", "a", "--model", "b c", "--model", "a", "--runs", str(tmp_path))
    options = read_options(command[command.index("--") + 1 :])
    assert (options.models, options.runs) == (("a", "b c"), tmp_path)
