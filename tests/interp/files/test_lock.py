"""One driver at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from interp.files.disk import DiskError
from interp.files.lock import LOCK, LockedError, locked, require_held

# What `locked` does, without waiting for torch to be imported.
_HOLDER = """
import fcntl, os, sys
handle = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(handle, fcntl.LOCK_EX)
os.write(handle, b"a process that was started for a test")
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_driver_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    refused = pytest.raises(LockedError, match=str(os.getpid()))
    with locked(tmp_path), refused, locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_another_process_and_its_death(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _HOLDER, str(tmp_path / LOCK)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        with pytest.raises(LockedError, match="started for a test"), locked(tmp_path):
            pass
        holder.kill()
        holder.wait()
        with locked(tmp_path):
            pass


def test_what_a_link_leads_to_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("three years")
    (tmp_path / LOCK).symlink_to(tmp_path / "mine")
    with pytest.raises(DiskError), locked(tmp_path):
        pass
    assert (tmp_path / "mine").read_text() == "three years"


def test_workers_notice_that_their_driver_is_gone(tmp_path: Path) -> None:
    with locked(tmp_path) as token:
        require_held(tmp_path, token)
        assert (tmp_path / LOCK).read_text() == token
    require_held(tmp_path, token)  # nobody else has come
    with locked(tmp_path), pytest.raises(LockedError, match="dropped"):
        require_held(tmp_path, token)
