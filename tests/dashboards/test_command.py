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
    assert option(command, "--server.address") == "127.0.0.1"
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


def test_every_model_of_a_directory_is_offered(started, tmp_path):
    for name in ("b", "a"):
        (tmp_path / "models" / name).mkdir(parents=True)
        (tmp_path / "models" / name / "config.json").write_text("{}")
    (tmp_path / "models" / "notes").mkdir()
    command = started("--model", "z", "--models-dir", str(tmp_path / "models"))
    options = read_options(command[command.index("--") + 1 :])
    assert options.models == ("z", str(tmp_path / "models/a"), str(tmp_path / "models/b"))


def test_a_directory_without_models_is_refused(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(cli, "require_extra", lambda *_: None)
    with pytest.raises(SystemExit) as end:
        cli.main(["dashboard", "--models-dir", str(tmp_path)])
    assert end.value.code == 2
    assert "--models-dir takes a directory whose subdirectories hold models" in (
        capsys.readouterr().err
    )
