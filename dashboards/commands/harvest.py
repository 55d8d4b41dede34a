"""`interp harvest`: a corpus → a dataset of activations on disk."""

import time
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
from dashboards.commands.terminal import print_json, print_rows, progress_bar
from interp.errors import InputError

if TYPE_CHECKING:
    from interp.harvest import ActivationDataset


def harvest(
    model: Annotated[str, typer.Option(help="As `interp models` lists it.")],
    data: Annotated[
        list[Path],
        typer.Option(help="Text, .jsonl or .parquet, or a directory of Hugging Face's datasets."),
    ],
    hooks: Annotated[list[str], typer.Option(help="A hook name or a glob; repeatable.")],
    out: Annotated[
        Path, typer.Option(help="The dataset's directory; one that was begun is gone on with.")
    ],
    dtype: Annotated[
        str | None, typer.Option(help="What is stored: float16, bfloat16, float32, float64.")
    ] = None,
    positions: Annotated[
        str, typer.Option(help="all, last, a range such as 4:-1, or a list such as 0,3.")
    ] = "all",
    sample: Annotated[
        str | None, typer.Option(help="Keep a part (0.1), or so many of each sequence (8).")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the sample.")] = 0,
    skip_special: Annotated[
        bool, typer.Option("--skip-special", help="Leave out tokens that are of no document.")
    ] = False,
    format_: Annotated[
        str | None, typer.Option("--format", help="text, jsonl, parquet or hf; else by each name.")
    ] = None,
    column: Annotated[str, typer.Option(help="What holds a row's text.")] = "text",
    documents: Annotated[
        str, typer.Option(help="What a document of a text file is: file, line or paragraph.")
    ] = "file",
    layout: Annotated[
        str, typer.Option(help="packed, or padded: each document by itself.")
    ] = "packed",
    length: Annotated[int | None, typer.Option(help="Tokens of a sequence.")] = None,
    prepend_bos: Annotated[
        bool | None, typer.Option("--prepend-bos/--no-prepend-bos", help="Begin with BOS.")
    ] = None,
    separator: Annotated[
        str | None, typer.Option(help="Between packed documents: eos, none or a token.")
    ] = None,
    incomplete: Annotated[
        str, typer.Option(help="The last packed sequence, if it is not full: drop it, or pad it.")
    ] = "drop",
    overlong: Annotated[
        str, typer.Option(help="A padded document that is too long: cut it, or split it.")
    ] = "cut",
    max_documents: Annotated[int | None, typer.Option(help="Read no more than these.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Take no more than these.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Sequences of one run.")] = None,
    shard_tokens: Annotated[int | None, typer.Option(help="Tokens of a shard, at most.")] = None,
    statistics: Annotated[
        list[str] | None,
        typer.Option(help="Sum up: moments, quantiles, covariance, max_activating; repeatable."),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Check finished shards; make damaged ones again.")
    ] = False,
    engine: EngineName = "local",
    workers: Workers = None,
    address: Address = None,
    cpus_per_worker: CpusPerWorker = None,
    gpus_per_worker: GpusPerWorker = None,
    threads_per_worker: ThreadsPerWorker = None,
    stall_seconds: StallSeconds = None,
    json: Json = False,
) -> None:
    """Run a model over a corpus and keep what passes through some hooks.

    Stopped at any moment, the same command goes on.
    """
    from interp.engines import make_engine
    from interp.harvest import CorpusSettings
    from interp.harvest import harvest as make_dataset
    from interp.progress import listening

    given: dict[str, Any] = {"batch_size": batch_size, "shard_tokens": shard_tokens}
    corpus: dict[str, Any] = {
        "files": tuple(map(str, data)),
        "format": format_,
        "column": column,
        "documents": documents,
        "layout": layout,
        "length": length,
        "prepend_bos": prepend_bos,
        "separator": separator,
        "incomplete": incomplete,
        "overlong": overlong,
        "max_documents": max_documents,
        "max_tokens": max_tokens,
    }
    chosen = make_engine(
        engine,
        workers=workers,
        address=address,
        cpus_per_worker=cpus_per_worker,
        gpus_per_worker=gpus_per_worker,
        threads_per_worker=threads_per_worker,
        stall_seconds=stall_seconds,
    )
    before, began = _n_made(out), time.perf_counter()
    with progress_bar(f"harvesting {model}") as tell, listening(tell):
        found = make_dataset(
            model,
            CorpusSettings(**corpus),
            hooks,
            out,
            dtype=dtype,
            positions=_positions(positions),
            sample=_sample(sample),
            seed=seed,
            skip_special=skip_special,
            statistics=statistics or (),
            verify=verify,
            engine=chosen,
            **{name: value for name, value in given.items() if value is not None},
        )
    told = _summary(found, out, _n_made(out) - before, time.perf_counter() - began)
    if json:
        print_json(told)
        return
    rows = [(key.replace("_", " "), _told(value)) for key, value in told.items()]
    print_rows("activations", ["", ""], rows)


def _n_made(out: Path) -> int:
    """How many shards were made so far, those that were made again counted again."""
    from interp.harvest.journal import JOURNAL

    path = out / JOURNAL
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def _summary(data: "ActivationDataset", out: Path, made: int, seconds: float) -> dict[str, Any]:
    manifest, tokens = data.manifest, data.tokens.n_sequences * data.tokens.length
    made_tokens = min(made * manifest.sequences_per_shard * data.tokens.length, tokens)
    return {
        "directory": str(out),
        "hooks": list(data.hooks),
        "rows": len(data),
        "tokens": tokens,
        "documents": data.tokens.n_documents,
        "shards": manifest.n_shards,
        "shards_made_now": made,
        "bytes": sum(file.stat().st_size for file in out.rglob("*") if file.is_file()),
        "seconds": round(seconds, 3),
        "tokens_per_second": round(made_tokens / seconds, 1),
        "same_bits_promised": data.promises_same_bits,
    }


def _told(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(value)
    return f"{value:,}" if isinstance(value, int | float) else str(value)


def _positions(text: str) -> str | list[int]:
    """A range or a word as it stands; else a list of numbers."""
    if ":" in text or text.isalpha():
        return text
    try:
        return [int(each) for each in text.split(",")]
    except ValueError:
        raise InputError(
            f"--positions takes all, last, a range or a list of numbers, got {text!r}"
        ) from None


def _sample(text: str | None) -> int | float | None:
    if text is None:
        return None
    try:
        return int(text) if text.strip().isdigit() else float(text)
    except ValueError:
        raise InputError(f"--sample takes a part or a whole number, got {text!r}") from None
