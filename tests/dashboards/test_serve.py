from __future__ import annotations

import pytest

from dashboards import serve


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "localhost", "127.8.0.1"])
def test_a_loopback_address_is_private(address):
    assert "only this machine" in serve.who_can_reach(address)


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "10.0.0.4", "example.org"])
def test_any_other_address_is_told_to_be_open(address):
    told = serve.who_can_reach(address)
    assert "no password" in told and address in told


def test_streamlit_is_given_what_it_was_started_with(monkeypatch, capsys):
    pytest.importorskip("streamlit", reason="needs the extra 'dashboard'")
    seen = []
    monkeypatch.setattr(serve, "preload", lambda: seen.append("preloaded"))
    monkeypatch.setattr("streamlit.web.cli.main", lambda: seen.extend(serve.sys.argv))
    serve.main(["app.py", "--server.address", "127.0.0.1", "--", "--runs", "d"])
    assert seen == ["preloaded", "streamlit", "run", "app.py", "--server.address", "127.0.0.1",
                    "--", "--runs", "d"]  # fmt: skip
    assert "127.0.0.1" in capsys.readouterr().out
