from __future__ import annotations

import os

from tests.docs.pages import blocks
from tests.packaging.environment import bare, run
from tests.packaging.fresh_machine import Step, page


def test_a_bare_machine_hands_nothing_on(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_OF_THIS_PROCESS", "1")
    monkeypatch.setenv("PIP_DEFAULT_TIMEOUT", "7")
    done = run(["env"], tmp_path, bare(tmp_path, tmp_path / "bin"))
    seen = dict(line.split("=", 1) for line in done.told.splitlines())
    assert done.code == 0 and seen["PIP_DEFAULT_TIMEOUT"] == "7"
    assert seen["HOME"] == str(tmp_path)
    assert seen["PATH"].split(os.pathsep)[0] == str(tmp_path / "bin")
    ours = {"HOME", "PATH", "LANG", "PWD", "SHLVL", "_", "OLDPWD"}
    assert all(name in ours or name.startswith("PIP_") for name in seen if "PROXY" not in
               name.upper() and not name.startswith("SSL_CERT"))  # fmt: skip


def test_the_page_has_every_step_with_the_end_of_its_output():
    steps = [
        Step("the demo", "make demo", 123.4, "\n".join(f"line {i}" for i in range(50))),
        Step("its demo", "interp demo", 4.56, "saved\n"),
        Step("clone", "git clone", 0.2, ""),
    ]
    text = page(steps)
    assert (
        "| the demo | `make demo` | 123 |" in text and "| its demo | `interp demo` | 4.6 |" in text
    )
    first, second = blocks(text)
    assert first.text.splitlines()[:3] == ["$ make demo", "…", "line 36"]
    assert first.text.splitlines()[-1] == "line 49"
    assert second.text == "$ interp demo\nsaved\n"
    assert "left out this time" in text
    assert "left out this time" not in page([*steps, Step("the tests", "make test", 9.0, "ok")])
