"""The command line, `interp`.

Exit codes: 0 done; 1 a check failed or the run did; 2 the request was wrong; 130 interrupted.
"""

import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from dashboards.commands import Json
from dashboards.commands.demo import demo
from dashboards.commands.harvest import harvest
from dashboards.commands.run import run
from dashboards.commands.summary import summary
from dashboards.commands.terminal import print_error, print_json, print_result, print_rows
from dashboards.commands.tokenize import tokenize
from dashboards.commands.translate import translate
from interp.errors import InputError, InterpError, MissingExtraError, require_extra

app = typer.Typer(
    name="interp",
    help="Look inside Transformers: run analyses and read their results.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

# Click's base class of errors in the arguments. Newer typer carries a copy of click instead of
# depending on it, so the class is reached through the one error that typer exports.
_UsageError: type[Any] = typer.BadParameter.__mro__[1]


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and exit; `args` default to those of the process."""
    raise SystemExit(_run(list(sys.argv[1:] if args is None else args)))


def _run(args: list[str]) -> int:
    # Wherever it stands: errors tell people to add it to the line that failed.
    settings = {"debug": "--debug" in args}
    args = [arg for arg in args if arg != "--debug"]
    command = typer.main.get_command(app)
    try:
        code = command.main(args=args, prog_name="interp", standalone_mode=False, obj=settings)
    except _UsageError as fault:
        if not args:  # nothing was asked for: the message is the help page
            print(fault.format_message())
            return 2
        print_error(fault.format_message())
        return 2
    except (typer.Abort, KeyboardInterrupt):
        print_error("interrupted")
        return 130
    except Exception as fault:
        # The outermost frame: whatever went wrong below ends as one line and an exit code.
        if settings["debug"]:
            traceback.print_exc()
        if isinstance(fault, (InputError, MissingExtraError)):
            print_error(str(fault))
            return 2
        if isinstance(fault, InterpError):
            print_error(str(fault))
            return 1
        print_error(f"{type(fault).__name__}: {fault} (run with --debug for the traceback)")
        return 1
    return code if isinstance(code, int) else 0


def _print_version(asked: bool) -> None:
    if asked:
        from analyses.results.provenance import versions

        print(f"interp {versions()['interp']}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    context.obj["debug"] |= debug


@app.command()
def models(
    families_: Annotated[
        bool,
        typer.Option("--families", help="Only the Hugging Face families, and what is checked."),
    ] = False,
    json: Json = False,
) -> None:
    """List the models that can be loaded by name."""
    if families_:
        _list_families(json)
        return
    from interp import pretrained, zoo

    entries: list[dict[str, Any]] = [
        {"name": entry.name, "description": entry.description, "metrics": dict(entry.metrics)}
        for entry in zoo.entries().values()
    ]
    families = [
        {
            "name": family.name,
            "description": family.description,
            "architectures": list(family.architectures),
        }
        for family in pretrained.families()
    ]
    if json:
        print_json({"zoo": entries, "families": families})
        return
    print_rows(
        "zoo: small trained models that ship with interp",
        ["name", "description", "metrics"],
        [
            (e["name"], e["description"], ", ".join(f"{k}={v}" for k, v in e["metrics"].items()))
            for e in entries
        ],
    )
    print_rows(
        "families: Hugging Face models, by hub name or local directory",
        ["name", "description", "architectures"],
        [(f["name"], f["description"], ", ".join(f["architectures"])) for f in families],
    )


def _list_families(json: bool) -> None:
    from interp import pretrained
    from interp.pretrained.proof import ON_LOADING, checks

    found: list[dict[str, Any]] = [
        {
            "name": family.name,
            "description": family.description,
            "architectures": list(family.architectures),
            "shape": family.shape,
            "checked_on_loading": ON_LOADING,
            "checked_with_verify": checks(family.shape),
        }
        for family in sorted(pretrained.families(), key=lambda family: family.name.lower())
    ]
    if json:
        print_json({"families": found})
        return
    print_rows(
        "families: Hugging Face models, by hub name, local directory or from memory",
        ["name", "shape", "architectures", "description"],
        [(f["name"], f["shape"], ", ".join(f["architectures"]), f["description"]) for f in found],
    )
    by_shape = {f["shape"]: ", ".join(f["checked_with_verify"]) for f in found}
    print_rows(
        "checked: on loading always, the rest with load_model(…, verify=True)",
        ["shape", "what must hold"],
        [("all", ON_LOADING), *sorted(by_shape.items())],
    )


@app.command()
def analyses(json: Json = False) -> None:
    """List the analyses, the questions they answer and their parameters."""
    from analyses import list_analyses
    from dashboards.settings import describe

    found: list[dict[str, Any]] = [
        {
            "name": each.name,
            "question": each.question,
            "needs_model": each.needs_model,
            "parameters": describe(each.Params),
        }
        for each in list_analyses()
    ]
    if json:
        print_json({"analyses": found})
        return
    for each in found:
        title = f"{each['name']}: {each['question']}" + (
            "" if each["needs_model"] else " (no model)"
        )
        header = ["name", "type", "default", "bounds", "help"]
        print_rows(title, header, [[p[key] for key in header] for p in each["parameters"]])


@app.command()
def show(
    directory: Annotated[Path, typer.Argument(help="A saved result.")], json: Json = False
) -> None:
    """Print a saved result: tables, checks, provenance."""
    from analyses import AnalysisResult

    result = AnalysisResult.load(directory)
    if json:
        print_json(summary(result, directory))
    else:
        print_result(result)


@app.command()
def dashboard(
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = 8501,
    model: Annotated[list[str] | None, typer.Option(help="A model to offer; repeatable.")] = None,
    models_dir: Annotated[
        list[Path] | None,
        typer.Option(help="Offer every model that is a subdirectory of this one; repeatable."),
    ] = None,
    runs: Annotated[Path, typer.Option(help="Where saved results are.")] = Path("runs"),
    address: Annotated[
        str, typer.Option(help="The address to listen on; 0.0.0.0 lets other machines in.")
    ] = "127.0.0.1",
    open_: Annotated[bool, typer.Option("--open/--no-open", help="Open a browser window.")] = True,
) -> None:
    """Open the dashboard in a browser. Ends with Ctrl-C.

    The pages offer the models named here and those of the zoo; no other is ever opened.
    """
    from dashboards.options import models_in

    require_extra("streamlit", "dashboard")
    for each in models_dir or []:
        if not models_in(each):
            raise InputError(
                f"--models-dir takes a directory whose subdirectories hold models, each with its "
                f"config.json. Received {str(each)!r}."
            )
    script = Path(__file__).with_name("app.py")
    command = [sys.executable, "-m", "dashboards.serve", str(script)]
    command += ["--server.port", str(port), "--server.address", address]
    command += ["--server.showEmailPrompt", "false", "--browser.gatherUsageStats", "false"]
    if not open_:
        command += ["--server.headless", "true"]
    command.append("--")
    for name in model or []:
        command += ["--model", name]
    for folder in models_dir or []:
        command += ["--models-dir", str(folder)]
    command += ["--runs", str(runs)]
    sys.stdout.flush()
    os.execv(sys.executable, command)


app.command()(demo)
app.command()(run)
app.command()(harvest)
app.command()(tokenize)
app.command()(translate)


if __name__ == "__main__":
    main()
