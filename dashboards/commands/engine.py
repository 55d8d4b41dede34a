"""Options of commands whose work may be shared out among workers."""

from typing import Annotated

import typer

EngineName = Annotated[
    str, typer.Option("--engine", help="Who does the work: local, or ray for several processes.")
]
Workers = Annotated[int | None, typer.Option(help="How many processes; for --engine ray.")]
Address = Annotated[
    str | None,
    typer.Option(help="A Ray cluster; without one, Ray is started here. For --engine ray."),
]
CpusPerWorker = Annotated[
    float | None, typer.Option(help="CPUs that Ray reserves for each, or a part of one.")
]
GpusPerWorker = Annotated[float | None, typer.Option(help="GPUs of each, or a part of one.")]
ThreadsPerWorker = Annotated[int | None, typer.Option(help="Torch's threads in each.")]
StallSeconds = Annotated[
    float | None, typer.Option(help="Give up after so long without anything done.")
]
