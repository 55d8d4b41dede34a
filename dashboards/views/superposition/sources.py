"""Results that the Superposition page opens: those that ship, and those that were saved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from analyses import AnalysisResult
from analyses.superposition.families import Family, families_of
from analyses.superposition.shipped import HERE
from dashboards.drawing.wording import plain
from dashboards.page.address import Choices
from dashboards.runs import saved
from interp.errors import InputError

PREFIX = "superposition-"
SHIPPED, RUN = "shipped", "run"


@dataclass(frozen=True)
class Source:
    """A result that can be opened.

    Attributes:
        kind: `shipped` or `run`.
        name: Its name there.
        analysis: What it is a result of.
        directory: That of all of its kind.
    """

    kind: str
    name: str
    analysis: str
    directory: Path

    @property
    def key(self) -> str:
        """As the address has it."""
        return f"{self.kind}:{self.name}"

    @property
    def label(self) -> str:
        """As a box shows it."""
        return f"{self.name} ({'ships with interp' if self.kind == SHIPPED else 'saved run'})"

    @property
    def code(self) -> str:
        """Python that opens it as `result`."""
        if self.kind == SHIPPED:
            return (
                "from analyses.superposition.shipped import load_shipped\n\n"
                f"result = load_shipped({self.name!r})\n"
            )
        return (
            "from analyses import AnalysisResult\n\n"
            f"result = AnalysisResult.load({str((self.directory / self.name).resolve())!r})\n"
        )

    def family_code(self, number: int) -> str:
        """Python that opens one of its families of toys as `family`, beside `one_toy`."""
        return (
            f"{self.code}\n"
            "from analyses.superposition import one_toy\n"
            "from analyses.superposition.families import families_of\n\n"
            f"family = families_of(result)[{number}]\n"
        )


def sources(runs: Path, is_wanted: Callable[[str], bool]) -> list[Source]:
    """Results of the analyses that are wanted, those that ship first."""
    shipped = sorted(saved.find(HERE), key=lambda run: run.name)
    found = [Source(SHIPPED, run.name, run.analysis, HERE) for run in shipped]
    found += [
        Source(RUN, run.name, run.analysis, runs)
        for run in saved.find(runs)
        if not run.fault and run.analysis.startswith(PREFIX)
    ]
    return [each for each in found if is_wanted(each.analysis)]


def choose(
    choices: Choices,
    name: str,
    label: str,
    runs: Path,
    is_wanted: Callable[[str], bool],
    default: str,
) -> Source:
    """Let the reader choose one of them.

    Args:
        choices: Of the page.
        name: Of the choice in the address.
        label: Of the box.
        runs: Where results are saved.
        is_wanted: Tells of an analysis, by name, whether its results are offered.
        default: The key of the one that is shown at first.

    Raises:
        InputError: If that one is not there.
    """
    found = {each.key: each for each in sources(runs, is_wanted)}
    if default not in found:
        raise InputError(f"the result {default!r} does not ship with this interp.")
    key = choices.choice(
        name, label, list(found), default, show=lambda key: plain(found[key].label)
    )
    return found[key]


def choose_family(
    choices: Choices,
    names: tuple[str, str],
    runs: Path,
    is_wanted: Callable[[str], bool],
    default: str,
) -> tuple[Source, int, Family]:
    """Let the reader choose a result and one of its families of toys, side by side.

    Args:
        choices: Of the page.
        names: Of the two choices in the address.
        runs, is_wanted, default: As for `choose`.

    Returns:
        The result, the family's number in it, and the family.

    Raises:
        InputError: As `choose` and `load`.
    """
    first, second = st.columns(2)
    with first:
        source = choose(choices, names[0], "Toys", runs, is_wanted, default)
    result = load(source)
    families = families_of(result)
    with second:
        labels = [family.name for family in families]
        label = choices.choice(names[1], "Which of them", labels, labels[0], show=plain)
    tell(source, result)
    number = labels.index(label)
    return source, number, families[number]


def load(source: Source) -> AnalysisResult:
    """Read a result; once for as long as it stays as it is.

    Raises:
        InputError: If it is damaged.
    """
    return saved.load(source.directory, source.name)


def tell(source: Source, result: AnalysisResult) -> None:
    """What a result was made with, in a line."""
    parameters = result.provenance.parameters
    told = ", ".join(
        f"{name} = {parameters[name]}"
        for name in ("n_features", "d_hidden", "n_seeds", "steps", "batch_size", "lr", "decay")
        if parameters.get(name) is not None
    )
    failed = sum(not check.passed for check in result.checks)
    checks = f"{failed} of {len(result.checks)} checks FAILED" if failed else "all checks passed"
    st.caption(
        plain(
            f"{result.name}: {told}; seed {result.provenance.seed}; "
            f"{result.provenance.seconds:.0f} s on {result.provenance.device}; {checks}."
        )
    )
