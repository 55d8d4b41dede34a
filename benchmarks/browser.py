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
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
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
def serving(options: Sequence[str], log: Path) -> Iterator[str]:
    """A dashboard on a free port of this machine, for the length of a `with` block.

    Args:
        options: Of `interp dashboard`.
        log: A file for what it prints.

    Yields:
        Its address, once it answers.

    Raises:
        RuntimeError: If it ends, or does not answer within a minute.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "dashboards.cli", "dashboard", "--no-open"]
    command += ["--port", str(port), *options]
    with log.open("w") as out, subprocess.Popen(command, stdout=out, stderr=out) as server:
        try:
            _wait_for(f"http://127.0.0.1:{port}/_stcore/health", server, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def _wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
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
