"""`interp run`: an analysis once, or over a grid of models and settings."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dashboards.commands import Json
from dashboards.commands.engine import (
    Address,
    CpusPerWorker,
    EngineName,
    GpusPerWorker,
    StallSeconds,
    ThreadsPerWorker,
    Workers,
)
from dashboards.commands.summary import summary
from dashboards.commands.terminal import (
    print_error,
    print_json,
    print_result,
    progress_bar,
    waiting,
)
from interp.errors import InputError

if TYPE_CHECKING:
    from analyses import AnalysisResult
    from interp.engines import Engine


def run(
    name: Annotated[str, typer.Argument(help="The analysis, as `interp analyses` lists it.")],
    out: Annotated[Path, typer.Option(help="Where to save the result; an older one is replaced.")],
    model: Annotated[
        list[str] | None,
        typer.Option(help="As `interp models` lists it; several are an axis of a grid."),
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set a parameter.")
    ] = None,
    grid: Annotated[
        list[str] | None,
        typer.Option(
            "--grid",
            metavar="KEY=V1,V2",
            help="Run it for each value, and for each combination where it is repeated; values "
            "that hold commas as a JSON list. The same command goes on where it was stopped.",
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Smaller settings.")] = False,
    device: Annotated[str | None, typer.Option(help="Where the model runs: cpu, cuda.")] = None,
    dtype: Annotated[str | None, typer.Option(help="Its number format: float32, bfloat16.")] = None,
    seed: Annotated[int | None, typer.Option(help="Set the parameter `seed`.")] = None,
    interventions: Annotated[
        Path | None,
        typer.Option(help="JSON of interventions that the model is analysed with."),
    ] = None,
    engine: EngineName = "local",
    workers: Workers = None,
    address: Address = None,
    cpus_per_worker: CpusPerWorker = None,
    gpus_per_worker: GpusPerWorker = None,
    threads_per_worker: ThreadsPerWorker = None,
    stall_seconds: StallSeconds = None,
    json: Json = False,
) -> None:
    """Run an analysis and save its result; over a grid, save one result of all runs."""
    from analyses import get_analysis
    from dashboards.settings import parse_axes, parse_settings
    from interp.engines import LocalEngine, make_engine

    analysis = get_analysis(name)
    pairs = list(set_ or []) + ([] if seed is None else [f"seed={seed}"])
    settings = parse_settings(analysis.Params, pairs)
    axes = parse_axes(analysis.Params, grid or [])
    models = list(model or [])
    plan = () if interventions is None else _interventions(interventions)
    chosen = make_engine(
        engine,
        workers=workers,
        address=address,
        cpus_per_worker=cpus_per_worker,
        gpus_per_worker=gpus_per_worker,
        threads_per_worker=threads_per_worker,
        stall_seconds=stall_seconds,
    )
    common: dict[str, Any] = {"quick": quick, "interventions": plan}
    if not analysis.needs_model and (device is not None or dtype is not None):
        raise InputError(f"{name} takes no model, so neither --device nor --dtype")
    if analysis.needs_model and not models:
        raise InputError(f"{name} needs a model: give --model")
    if axes or len(models) > 1:
        result = _run_grid(name, models, settings, axes, out, device, dtype, chosen, common)
    elif not isinstance(chosen, LocalEngine):
        raise InputError(f"--engine {engine} is for grids: give --grid, or --model several times")
    else:
        result = _run_once(name, models, settings, out, device, dtype, common)
    if json:
        print_json(summary(result, out))
    else:
        print_result(result)
        print(f"saved to {out}")
    if not result.passed:
        failed = [check.name for check in result.checks if not check.passed]
        print_error(f"{len(failed)} of {len(result.checks)} checks failed: {'; '.join(failed)}")
        raise typer.Exit(1)


def _run_once(
    name: str,
    models: list[str],
    settings: dict[str, Any],
    out: Path,
    device: str | None,
    dtype: str | None,
    common: dict[str, Any],
) -> "AnalysisResult":
    from analyses import run_analysis
    from analyses.results.storage import require_replaceable

    require_replaceable(out)
    loaded = None
    if models:
        with waiting(f"loading {models[0]}"):
            loaded = _load(models[0], device, dtype)
    with waiting(f"running {name}"):
        result = run_analysis(name, loaded, **common, **settings)
    with waiting(f"saving to {out}"):
        result.save(out)
    return result


def _run_grid(
    name: str,
    models: list[str],
    settings: dict[str, Any],
    axes: dict[str, list[Any]],
    out: Path,
    device: str | None,
    dtype: str | None,
    engine: "Engine",
    common: dict[str, Any],
) -> "AnalysisResult":
    from analyses import run_grid
    from interp.progress import listening

    _floating_point(dtype)
    with progress_bar(f"running {name}") as tell, listening(tell):
        return run_grid(
            name, models, settings, axes, out=out, device=device, dtype=dtype, engine=engine,
            **common,
        )  # fmt: skip


def _load(name: str, device: str | None, dtype: str | None) -> Any:
    import interp

    given: dict[str, Any] = {}
    if device is not None:
        given["device"] = device
    if dtype is not None:
        given["dtype"] = _floating_point(dtype)
    return interp.load_model(name, **given)


def _floating_point(dtype: str | None) -> Any:
    import torch

    if dtype is None:
        return None
    found = getattr(torch, dtype, None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise InputError(f"--dtype takes a floating-point format of torch, got {dtype!r}")
    return found


def _interventions(file: Path) -> Any:
    from interp.interventions import Interventions

    if not file.is_file():
        raise InputError(f"--interventions takes a file of JSON. There is no file {file}.")
    return Interventions.from_json(file.read_text(encoding="utf-8"))
