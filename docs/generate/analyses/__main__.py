"""The command."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import docs.generate.analyses
from docs.generate.analyses.parts import names, page_of, run, with_result, with_text, write_figures
from docs.generate.analyses.settings import settings_of
from interp.files.atomic import replacing_file


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the pages anew."""
    parser = argparse.ArgumentParser(
        prog="python -m docs.generate.analyses",
        description=docs.generate.analyses.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", help="analyses; without, all that have a page")
    parser.add_argument("--text", action="store_true", help="only what needs no run")
    given = parser.parse_args(arguments)
    for name in given.names or names():
        path = page_of(name)
        page = path.read_text(encoding="utf-8")
        if not given.text:
            settings = settings_of(page)
            result = run(name, settings)
            write_figures(name, settings, result)
            page = with_result(page, settings, result)
            took = f"{result.provenance.seconds:.1f} s"
            print(name, took, "passed" if result.passed else "CHECKS FAILED", flush=True)
        with replacing_file(path) as fresh:
            fresh.write_text(with_text(name, page), encoding="utf-8")


if __name__ == "__main__":
    main()
