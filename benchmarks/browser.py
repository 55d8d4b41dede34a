"""A dashboard of its own and a headless Chromium that looks at it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
PROGRAM = (sys.executable, "-m", "dashboards.cli")
LAPTOP, PHONE = {"width": 1366, "height": 900}, {"width": 390, "height": 844}

_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# Nothing runs, every figure has its drawing, nothing is of an earlier run or still to come, and
# the browser has painted twice.
DRAWN = """() => {
    const app = document.querySelector('[data-testid=stApp]');
    const figures = [...document.querySelectorAll('[data-testid=stPlotlyChart]')];
    return document.querySelector('h1') && app
        && app.getAttribute('data-test-script-state') === 'notRunning'
        && figures.every((figure) => figure.querySelector('.js-plotly-plot .main-svg'))
        && !document.querySelector('[data-stale=true], [data-testid=stSkeleton]')
        && new Promise((painted) => requestAnimationFrame(
            () => requestAnimationFrame(() => painted(true))));
}"""


@contextmanager
def serving(
    options: Sequence[str],
    log: Path,
    program: Sequence[str] = PROGRAM,
    seconds: float = 60.0,
    **process: Any,
) -> Iterator[str]:
    """A dashboard on a free port of this machine, for the length of a `with` block.

    Args:
        options: Of `interp dashboard`.
        log: A file for what it prints.
        program: The command `interp`; that of this very Python, if none is given.
        seconds: How long it may take until it answers.
        **process: Of `subprocess.Popen`: `cwd`, `env`.

    Yields:
        Its address, once it answers.

    Raises:
        RuntimeError: If it ends, or does not answer in time.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [*program, "dashboard", "--no-open", "--port", str(port), *options]
    with (
        log.open("w") as out,
        subprocess.Popen(command, stdout=out, stderr=out, **process) as server,
    ):
        try:
            _wait_for(f"http://127.0.0.1:{port}/_stcore/health", server, log, seconds)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def _wait_for(url: str, server: subprocess.Popen[bytes], log: Path, seconds: float) -> None:
    for _ in range(round(10 * seconds)):
        if server.poll() is not None:
            raise RuntimeError(f"the dashboard ended:\n{log.read_text()}")
        try:
            with urllib.request.urlopen(url):
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"the dashboard does not answer:\n{log.read_text()}")


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium for the length of a `with` block."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_FLAGS)
        try:
            yield browser
        finally:
            browser.close()


def settled(page: Page) -> None:
    """Wait until a page is drawn to its end."""
    page.wait_for_function(DRAWN, polling="raf")
