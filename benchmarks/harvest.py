"""Activations to disk and back, beside the bare forward pass and a plain loop.

python -m benchmarks.harvest MODEL TEXT: the model's directory and a text, stories260K and
tinyshakespeare say. Every side runs the same tokens in the same batches; sides take turns, and
times are medians of wall seconds. What is printed is Markdown.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks.machine import describe
from interp import HookedTransformer, load_model
from interp.engines import make_engine
from interp.harvest import CorpusSettings, harvest

BATCH = 32
BLOCK = 1 << 20


@dataclass(frozen=True)
class Case:
    """Which hooks are written, as what."""

    label: str
    hooks: tuple[str, ...]
    dtype: str
    statistics: tuple[str, ...] = ()


@dataclass(frozen=True)
class Bench:
    """What every side is given.

    Attributes:
        model: The model.
        source: Its directory, for workers and for TransformerLens.
        corpus: The text and how it is cut.
        blocks: Its tokens, as every side but a harvest reads them: `[batch, pos]`.
        folder: An empty directory on the disk that is written to.
    """

    model: HookedTransformer
    source: str
    corpus: CorpusSettings
    blocks: tuple[Tensor, ...]
    folder: Path

    @property
    def n_tokens(self) -> int:
        """Of all blocks."""
        return sum(block.numel() for block in self.blocks)

    def fresh(self, name: str) -> Path:
        """A path without anything there."""
        path = self.folder / name
        shutil.rmtree(path, ignore_errors=True)
        return path


def cases(model: HookedTransformer) -> tuple[Case, ...]:
    """From one hook to all that a dictionary of a whole model reads."""
    last = f"blocks.{model.cfg.n_layers - 1}"
    one, every = f"{last}.hook_resid_post", "blocks.*.hook_resid_post"
    return (
        Case("resid_post of the last layer, fp16", (one,), "float16"),
        Case("the same with moments", (one,), "float16", ("moments",)),
        Case("resid_post of every layer, fp16", (every,), "float16"),
        Case(
            "resid_post, z and mlp_out of every layer, fp16",
            (every, "blocks.*.attn.hook_z", "blocks.*.hook_mlp_out"),
            "float16",
        ),
        Case("patterns of the last layer, fp16", (f"{last}.attn.hook_pattern",), "float16"),
    )


def bare(bench: Bench, case: Case) -> None:
    """The run alone, as far as the hooks need it, without a hook."""
    with torch.inference_mode():
        for block in bench.blocks:
            bench.model(block, stop_at_layer=bench.model.cfg.n_layers)


def whole(bench: Bench, case: Case) -> None:
    """The run alone, with logits."""
    with torch.inference_mode():
        for block in bench.blocks:
            bench.model(block)


def recorded(bench: Bench, case: Case) -> None:
    """The run with the hooks recorded, and nothing done with them."""
    with torch.inference_mode():
        for block in bench.blocks:
            bench.model.run_with_cache(block, names_filter=list(case.hooks), return_type=None)


def harvested(bench: Bench, case: Case) -> None:
    """interp's harvest in one process."""
    _harvest(bench, case, "local", bench.model)


def harvested_by_ray(bench: Bench, case: Case) -> None:
    """The same by two workers on Ray, which is started and stopped in this time."""
    _harvest(bench, case, make_engine("ray", workers=2), bench.source)


def _harvest(bench: Bench, case: Case, engine: Any, model: HookedTransformer | str) -> None:
    out = bench.fresh("harvest")
    harvest(
        model,
        bench.corpus,
        case.hooks,
        out,
        dtype=case.dtype,
        batch_size=BATCH,
        statistics=case.statistics,
        engine=engine,
    )


def plain_loop(bridge: Any) -> Callable[[Bench, Case], None]:
    """What one would write with TransformerLens: record, narrow, `torch.save` a file a batch."""

    def run(bench: Bench, case: Case) -> None:
        out = bench.fresh("loop")
        out.mkdir()
        names = [name for name in bench.model.hook_dict if _asked(name, case.hooks)]
        with torch.inference_mode():
            for number, block in enumerate(bench.blocks):
                _, cache = bridge.run_with_cache(block, names_filter=names)
                narrow = {name: cache[name].flatten(0, 1).half() for name in names}
                torch.save(narrow, out / f"{number}.pt")

    return run


def _asked(name: str, hooks: tuple[str, ...]) -> bool:
    from fnmatch import fnmatchcase

    return any(fnmatchcase(name, hook) for hook in hooks)


def make_bridge(source: str) -> Any:
    """TransformerLens's bridge around the same weights."""
    from transformer_lens.model_bridge import sources
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(source, local_files_only=True).eval()
    return sources.build_bridge_from_module(
        model, type(model).__name__, hf_config=model.config, tokenizer=None
    )


def compare(bench: Bench, rounds: int, quick: bool) -> Iterator[str]:
    """Rows of the table of writing."""
    sides: dict[str, Callable[[Bench, Case], None]] = {
        "bare run of the layers": bare,
        "bare run with logits": whole,
        "recorded, not written": recorded,
        "interp, one process": harvested,
        "interp, Ray, 2 workers, start included": harvested_by_ray,
        "TransformerLens and torch.save": plain_loop(make_bridge(bench.source)),
    }
    for case in cases(bench.model)[: 1 if quick else None]:
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(rounds):
            for name, side in sides.items():
                start = time.perf_counter()
                side(bench, case)
                seconds[name].append(time.perf_counter() - start)
        size = sum(p.stat().st_size for p in (bench.folder / "harvest" / "shards").iterdir())
        base = statistics.median(seconds["bare run of the layers"])
        for name, times in seconds.items():
            median = statistics.median(times)
            yield (
                f"| {case.label} | {name} | {median:.2f} | {bench.n_tokens / median:,.0f} | "
                f"{base / median:.2f} | {size / bench.n_tokens:,.0f} |"
            )


def start_of_ray(bench: Bench) -> float:
    """Seconds until two workers that have opened the model could begin: a harvest of one batch."""
    tokens = bench.blocks[0].numel()
    corpus = CorpusSettings(files=bench.corpus.files, length=bench.corpus.length, max_tokens=tokens)
    out = bench.fresh("start")
    start = time.perf_counter()
    harvest(
        bench.source,
        corpus,
        "blocks.0.hook_resid_pre",
        out,
        dtype="float16",
        engine=make_engine("ray", workers=2),
    )
    return time.perf_counter() - start


def read_back(bench: Bench, rounds: int) -> Iterator[str]:
    """Rows of the table of reading: a dataset of one hook, its pages in memory."""
    out = bench.fresh("read")
    case = cases(bench.model)[0]
    data = harvest(bench.model, bench.corpus, case.hooks, out, dtype=case.dtype, batch_size=BATCH)
    n, row_bytes = len(data), data[0].nbytes

    def rows_one_by_one() -> int:
        at = torch.randint(n, (20_000,), generator=torch.Generator().manual_seed(0)).tolist()
        for row in at:
            data[row]
        return len(at)

    def batches(**how: Any) -> Callable[[], int]:
        def read() -> int:
            return sum(len(batch) for batch in data.batches(1024, **how))

        return read

    def loader() -> int:
        order = data.order(1024, seed=0)
        made = DataLoader(data, sampler=order, batch_size=None, num_workers=1)
        return sum(len(batch) for batch in made)

    ways: dict[str, Callable[[], int]] = {
        "as they lie, batches of 1,024": batches(shuffle=False),
        "shuffled in windows of 131,072": batches(seed=0, window=131_072),
        "shuffled altogether": batches(seed=0),
        "shuffled altogether, DataLoader with a worker": loader,
        "single random rows": rows_one_by_one,
    }
    for name, way in ways.items():
        times = []
        for _ in range(rounds):
            start = time.perf_counter()
            read = way()
            times.append((time.perf_counter() - start) / read)
        each = statistics.median(times)
        yield f"| {name} | {1 / each:,.0f} | {row_bytes / each / 1e6:,.0f} | {each * 1e6:.2f} |"


def disk_rates(folder: Path, gib: float) -> str:
    """Bytes a second of a plain file, flushed to the disk, and of its checksum."""
    block = os.urandom(BLOCK)
    path = folder / "rate"
    n = int(gib * 2**30) // BLOCK
    start = time.perf_counter()
    with path.open("wb") as file:
        for _ in range(n):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    written = n * BLOCK / (time.perf_counter() - start)
    start = time.perf_counter()
    with path.open("rb") as file:
        hashlib.file_digest(file, "sha256")
    hashed = n * BLOCK / (time.perf_counter() - start)
    path.unlink()
    return (
        f"The disk takes {written / 1e6:,.0f} MB/s ({gib:g} GiB, flushed); reading a file from "
        f"memory and its SHA-256 run at {hashed / 1e6:,.0f} MB/s."
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.harvest", description=__doc__)
    parser.add_argument("model", help="a directory in Hugging Face's format")
    parser.add_argument("text", help="a file of text")
    parser.add_argument("--quick", action="store_true", help="one case, once, a part of the text")
    parser.add_argument("--rounds", type=int, help="how many turns to take")
    parser.add_argument("--tokens", type=int, help="how much of the text; all of it unless given")
    parser.add_argument("--length", type=int, default=256, help="tokens of a sequence")
    given = parser.parse_args()
    rounds = given.rounds or (1 if given.quick else 3)
    model = load_model(given.model)
    corpus = CorpusSettings(
        files=(given.text,),
        length=given.length,
        max_tokens=given.tokens or (50_000 if given.quick else None),
    )
    with tempfile.TemporaryDirectory(dir=".") as folder:
        bench = _prepare(model, given.model, corpus, Path(folder))
        about = describe(str(model.cfg.device))
        print("# Activation datasets: writing and reading\n")
        print("; ".join(f"{k} {about[k]}" for k in ("date", "CPU", "threads", "versions")) + ".\n")
        print(
            f"{Path(given.model).name} ({model.cfg.n_layers} layers, d_model {model.cfg.d_model}) "
            f"over {Path(given.text).name}: {bench.n_tokens:,} tokens, sequences of "
            f"{given.length}, batches of {BATCH}. Times of a harvest include tokenising, "
            f"checksums, the row index and the flush to disk. "
            f"{disk_rates(bench.folder, 0.25 if given.quick else 1.0)}\n"
        )
        print("| written | side | s | tokens/s | of the bare run | bytes/token on disk |")
        print("|---|---|---|---|---|---|")
        for row in compare(bench, rounds, given.quick):
            print(row, flush=True)
        print(
            f"\nOf Ray's times {start_of_ray(bench):.1f} s are its start, two processes that "
            "import torch and open the model, and its end.\n"
        )
        print("| reading one hook of fp16 back | rows/s | MB/s | µs a row |")
        print("|---|---|---|---|")
        for row in read_back(bench, rounds):
            print(row, flush=True)


def _prepare(model: HookedTransformer, source: str, corpus: CorpusSettings, folder: Path) -> Bench:
    """The tokens of the corpus, from a harvest's own store."""
    out = folder / "tokens"
    data = harvest(model, corpus, "hook_tokens", out, sample=1)
    store = data.tokens
    assert len(data) == store.n_sequences
    blocks = store.read(0, store.n_sequences).tokens.split(BATCH)
    return Bench(model, source, corpus, blocks, folder)


if __name__ == "__main__":
    main()
