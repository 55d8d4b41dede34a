"""From an empty directory and a bare Python to the demo and the tests, timed: a page of it.

    python3 -m tests.packaging.fresh_machine --docs docs/measured/fresh-machine.md    # `make fresh`

What is committed is cloned. Nothing of this process but the settings of pip and of a proxy reaches
the commands, and the Python that they find is an empty environment of this one: it has pip and
setuptools. Only the standard library is imported here.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.packaging.environment import Environment, bare, run

ROOT = Path(__file__).resolve().parents[2]
_LINES = 14  # of an output, at its end

_HEAD = """# A fresh machine

What a newcomer waits for, and what comes out: from an empty directory, with a Python in which no
package is installed, an empty home, and no variables but PATH, the language, and what pip and a
proxy need. Made by `make fresh`; do not edit.

{machine}

| step | command | seconds |
|---|---|---|
{rows}

Installing is most of the first `make demo`: packages came from {source}, so a slow network adds to
it. {tests}

## What was printed

The end of each output; `~` stands for the empty directory.
"""


@dataclass(frozen=True)
class Step:
    """A command that was run: what it is for, what was typed, how long it took, what it printed."""

    title: str
    typed: str
    seconds: float
    told: str


def bare_python(folder: Path) -> Path:
    """A Python without packages, but for those that nothing can be installed without.

    Raises:
        SystemExit: If it sees packages nevertheless.
    """
    made = run([sys.executable, "-m", "venv", str(folder)], folder.parent, bare(folder.parent))
    python = folder / "bin" / "python3"
    script = (
        "import importlib.metadata as m; print(*(d.metadata['Name'] for d in m.distributions()))"
    )
    seen = run([str(python), "-c", script], folder.parent, bare(folder.parent)).told.split()
    if made.code or set(seen) - {"pip", "setuptools"}:
        raise SystemExit(f"there is no bare Python here: {made.told or seen}")
    return python


def machine() -> str:
    """What it was measured on, in a sentence."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cpu = platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        named = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.M)
        cpu = named[1] if named else cpu
    cores = len(os.sched_getaffinity(0))
    return (
        f"Measured on {cores} cores ({cpu}), {memory:.0f} GiB of memory, no GPU asked for, "
        f"{platform.system()}, Python {platform.python_version()}."
    )


def steps(scratch: Path, repository: Path, tests: bool) -> list[Step]:
    """Run them all, one after another.

    Raises:
        SystemExit: If one fails; with its output.
    """
    python = bare_python(scratch / "python")
    home, checkout = scratch / "home", scratch / "interp"
    home.mkdir()
    variables = bare(home, python.parent)
    done: list[Step] = []

    def step(title: str, typed: str, command: list[str], folder: Path) -> None:
        ended = run(command, folder, variables)
        told = ended.told.replace(str(scratch), "~")
        if ended.code:
            raise SystemExit(f"{typed} ended with {ended.code}:\n{told}")
        done.append(Step(title, typed, ended.seconds, told))
        print(f"{title}: {ended.seconds:.0f} s", flush=True)

    clone = ["git", "clone", "--quiet", str(repository), "interp"]
    step("clone", "git clone … interp && cd interp", clone, scratch)
    step("install, and the demo", "make demo", ["make", "demo"], checkout)
    step("the demo again", "make demo", ["make", "demo"], checkout)
    if tests:
        step("the tests", "make test", ["make", "test"], checkout)
    step("build a wheel", "make dist", ["make", "dist"], checkout)
    (wheel,) = (checkout / "dist").glob("*.whl")
    place = Environment(scratch / "elsewhere", checkout / "constraints.txt")
    installed = place.install(wheel, "hf", "plots")
    typed = f"pip install -c constraints.txt 'dist/{wheel.name}[hf,plots]'"
    done.append(Step("the wheel, elsewhere", typed, installed.seconds, installed.told))
    demo = place.call("interp", "demo")
    if demo.code:
        raise SystemExit(demo.told)
    done.append(Step("its demo", "interp demo", demo.seconds, demo.told))
    return done


def page(done: list[Step]) -> str:
    """The page of what was run."""
    rows = "\n".join(
        f"| {each.title} | `{each.typed}` | {_seconds(each.seconds)} |" for each in done
    )
    local = any(name in os.environ for name in ("PIP_FIND_LINKS", "PIP_INDEX_URL"))
    tests = "The tests were left out this time."
    if any(each.typed == "make test" for each in done):
        tests = "The tests run in two processes of one thread each."
    head = _HEAD.format(
        machine=machine(),
        rows=rows,
        source="an index on the same machine" if local else "the package index",
        tests=tests,
    )
    outputs = []
    for each in done:
        lines = [line.rstrip() for line in each.told.strip().splitlines()]
        shown = ["…", *lines[-_LINES:]] if len(lines) > _LINES else lines
        if shown:
            body = "\n".join(line[:160] for line in shown)
            outputs.append(
                f"### {each.title.capitalize()}\n\n```text\n$ {each.typed}\n{body}\n```\n"
            )
    return head + "\n" + "\n".join(outputs)


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f}" if seconds < 10 else f"{seconds:.0f}"


def main() -> None:
    """Run the steps and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--docs", type=Path, required=True, help="The page to write.")
    parser.add_argument("--repository", default=ROOT, help="What is cloned: its last commit.")
    parser.add_argument("--no-tests", action="store_true", help="Leave `make test` out.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="interp-fresh-") as scratch:
        repository = Path(given.repository).resolve()
        done = steps(Path(scratch).resolve(), repository, not given.no_tests)
    given.docs.write_text(page(done), encoding="utf-8")


if __name__ == "__main__":
    main()
