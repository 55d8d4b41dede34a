"""`harvest`: a corpus and a model → a dataset of activations on disk."""

from __future__ import annotations

import dataclasses
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch

from interp.devices.parsing import parse_dtype
from interp.engines import Engine, LocalEngine, make_engine
from interp.errors import InputError, require
from interp.files.disk import disk_errors, sync_directory
from interp.files.lock import LOCK, locked
from interp.harvest.corpus import CorpusSettings, TokenStore, prepare_tokens
from interp.harvest.corpus.settings import require_utf8
from interp.harvest.dataset import ActivationDataset
from interp.harvest.journal import append_to_journal, mend_journal, read_journal
from interp.harvest.leftovers import MODEL, is_unfinished, remove_leftovers
from interp.harvest.make_shard import hook_specs
from interp.harvest.manifest import (
    MANIFEST,
    HookSpec,
    Manifest,
    read_manifest,
    require_same,
    write_manifest,
)  # fmt: skip
from interp.harvest.plan import ShardPlan
from interp.harvest.settings import BATCH_SIZE, SHARD_TOKENS, HarvestSettings, PositionsInput
from interp.harvest.shard_files import SHARDS, Receipt, damage
from interp.harvest.statistics import HookStatistics
from interp.harvest.verify import require_whole_tokens
from interp.harvest.worker import TOKENS, ShardWorkerFactory
from interp.pretrained import load_model
from interp.progress import report, stage
from interp.transformer import HookedTransformer
from interp.weights import weight_hash

_TOKENS_PART = 0.1  # of the whole work, for whoever hears of progress
Corpus = CorpusSettings | str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


def harvest(
    model: HookedTransformer | str | os.PathLike[str],
    corpus: Corpus,
    hooks: str | Iterable[str],
    out: str | os.PathLike[str],
    *,
    dtype: torch.dtype | str | None = None,
    positions: PositionsInput = "all",
    sample: float | int | None = None,
    seed: int = 0,
    skip_special: bool = False,
    batch_size: int = BATCH_SIZE,
    shard_tokens: int = SHARD_TOKENS,
    statistics: str | Iterable[str] = (),
    verify: bool = False,
    engine: str | Engine = "local",
) -> ActivationDataset:
    """Run a model over a corpus and keep what passes through some hooks, every token once.

    Stopped at any moment, the same call goes on: finished shards are kept, and only what is missing
    is made. A shard's contents depend on the arguments and its number alone, not on who makes it.

    Args:
        model: A decoder or an encoder, without hooks attached; or what `load_model` opens.
        corpus: Files, or with more to say about them, `CorpusSettings`.
        hooks: Hook names and globs. Each must have a value for every token.
        out: The dataset's directory: a new or an empty one, or one that `harvest` began.
        dtype, positions, sample, seed, skip_special, batch_size, shard_tokens, statistics: See
            `HarvestSettings`.
        verify: Of a dataset that was begun: compare the checksums of its tokens and finished
            shards, and make those shards again that are damaged. Shards whose files are missing or
            too short are made again without it, too.
        engine: Who makes shards: `local`, `ray`, or an engine from `interp.engines.make_engine`.

    Returns:
        The complete dataset.

    Raises:
        InputError: for arguments that break a rule, and for a dataset that was begun with another
            model, corpus or other settings; the message says which.
        LockedError: if another process writes this dataset.
        UnstorableError: if the model computes what cannot be stored.
        DiskError: if a file cannot be written.
    """
    settings = HarvestSettings.make(
        hooks,
        dtype,
        positions,
        statistics,
        sample=sample,
        seed=seed,
        skip_special=skip_special,
        batch_size=batch_size,
        shard_tokens=shard_tokens,
    )
    corpus = _corpus_settings(corpus)
    chosen_engine = make_engine(engine) if isinstance(engine, str) else engine
    folder = Path(out).absolute()
    _require_ours(folder)
    source = model
    if not isinstance(model, HookedTransformer):
        model = load_model(os.fspath(model))
    _require_harvestable(model)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with locked(folder) as token:
        remove_leftovers(folder)
        with stage(0, 10, "tokens"), disk_errors(folder):
            tokens = prepare_tokens(corpus, model, folder / TOKENS)
            report(1, _told(tokens))
        if verify:
            require_whole_tokens(tokens)
        manifest = _begin(folder, model, tokens, settings)
        finished = _finished(folder, manifest, verify)
        missing = [shard for shard in range(manifest.n_shards) if shard not in finished]
        if missing:
            with _for_workers(source, model, chosen_engine, folder) as shared:
                worker = ShardWorkerFactory(shared, str(folder), token)
                chosen_engine.run(worker, missing, _Finishing(folder, manifest, len(missing)))
            remove_leftovers(folder)  # what workers of a driver that was killed had begun since
    return ActivationDataset(folder)


def _told(tokens: TokenStore) -> str:
    told = f"{tokens.n_tokens:,} tokens, {tokens.n_sequences:,} sequences of {tokens.length}"
    return f"{told}; {tokens.n_left_out:,} tokens in none" if tokens.n_left_out else told


def _corpus_settings(corpus: Corpus) -> CorpusSettings:
    if isinstance(corpus, CorpusSettings):
        return corpus
    if isinstance(corpus, str | os.PathLike):
        return CorpusSettings(files=(os.fspath(corpus),))
    require(
        isinstance(corpus, Iterable),
        f"a corpus must be files or settings. Received {corpus!r:.200}",
    )
    return CorpusSettings(files=tuple(os.fspath(path) for path in corpus))


def _require_ours(folder: Path) -> None:
    require_utf8("out", str(folder))
    require(not folder.exists() or folder.is_dir(), f"out must be a directory. {folder} is a file")
    if not folder.exists():
        return
    for path in (*folder.iterdir(), *(folder / SHARDS).glob("*")):
        # What a link leads to would be written over.
        require(not path.is_symlink(), f"a dataset must hold no links. {path} is one")
    if (folder / MANIFEST).exists():
        read_manifest(folder)  # another program's is refused
        return
    begun = {LOCK, TOKENS}
    others = [name for name in os.listdir(folder) if name not in begun and not is_unfinished(name)]
    require(
        not others,
        f"out must be empty, or a dataset that was begun. {folder} holds other files",
    )


def _require_harvestable(model: HookedTransformer) -> None:
    require(
        model.cfg.architecture != "encoder-decoder",
        "a harvest reads a model with one stack of blocks. This is an encoder-decoder",
    )
    for kind in sorted({p.device.type for p in model.parameters()}):
        require(
            not torch.is_autocast_enabled(kind),
            "a harvest computes in the model's own dtype: torch.autocast must be off. "
            f"It is on for {kind}",
        )
    attached, _ = model.watched_hooks()
    require(
        not attached,
        "a harvest reads the model as its weights are: nothing may be attached to its hooks. "
        f"Received a model with something at {', '.join(sorted(attached))[:200]}",
    )


def _begin(
    folder: Path, model: HookedTransformer, tokens: TokenStore, settings: HarvestSettings
) -> Manifest:
    """The dataset's manifest: the one that is there, if it says the same; else a new one."""
    dtype = None if settings.dtype is None else parse_dtype(settings.dtype)
    hooks = hook_specs(model, tokens, settings.hooks, dtype)
    _require_measurable(hooks, settings.statistics)
    plan = ShardPlan.make(
        tokens.n_sequences, tokens.length, settings.shard_tokens, settings.batch_size
    )
    manifest = Manifest(
        settings=dataclasses.replace(settings, hooks=tuple(hooks)),
        model={
            "name": model.cfg.model_name,
            "weight_hash": weight_hash(model),
            "cfg": model.cfg.to_dict(),
        },
        tokens={
            name: getattr(tokens, name)
            for name in ("digest", "n_sequences", "length", "n_documents", "n_tokens")
        },
        hooks=hooks,
        sequences_per_shard=plan.sequences_per_shard,
        n_shards=plan.n_shards,
    )
    if (folder / MANIFEST).exists():
        require_same(folder, read_manifest(folder), manifest)
    else:
        write_manifest(folder, manifest)
    with disk_errors(folder):
        (folder / SHARDS).mkdir(exist_ok=True)
        sync_directory(folder)
    return manifest


def _require_measurable(hooks: Mapping[str, HookSpec], statistics: tuple[str, ...]) -> None:
    """Check that the statistics are for such hooks, before anything is computed."""
    for name, spec in hooks.items() if statistics else ():
        require(
            not name.endswith("hook_attn_scores"),
            f"statistics need finite values. {name} is -inf where it is masked",
        )
        try:
            HookStatistics.measure(torch.empty(0, *spec.shape, dtype=spec.dtype), statistics)
        except InputError as fault:
            raise InputError(f"{name} has no such statistics: {fault}") from fault


def _finished(folder: Path, manifest: Manifest, verify: bool) -> set[int]:
    """The shards that need not be made."""
    mend_journal(folder)
    receipts = read_journal(folder, manifest.n_shards)
    whole = set()
    for shard, receipt in receipts.items():
        if verify:
            report(_TOKENS_PART, f"checking shard {shard + 1} of {manifest.n_shards}")
        if damage(folder, receipt, verify) is None:
            whole.add(shard)
    return whole


@contextmanager
def _for_workers(
    source: HookedTransformer | str | os.PathLike[str],
    model: HookedTransformer,
    engine: Engine,
    folder: Path,
) -> Iterator[HookedTransformer | str]:
    """The model in the form that the engine's workers get it in."""
    if isinstance(engine, LocalEngine):
        yield model
    elif isinstance(source, HookedTransformer):
        try:
            with disk_errors(folder):
                model.save(folder / MODEL)
            yield str(folder / MODEL)
        finally:
            shutil.rmtree(folder / MODEL, ignore_errors=True)
    else:
        path = Path(source)
        yield str(path.absolute() if path.exists() else source)


class _Finishing:
    """Writes finished shards into the journal, and says how far it is."""

    def __init__(self, folder: Path, manifest: Manifest, n_missing: int) -> None:
        self.folder, self.manifest = folder, manifest
        self.n_done = manifest.n_shards - n_missing
        self.n_tokens = 0
        self.begun = time.monotonic()

    def __call__(self, shard: int, receipt: Receipt) -> None:
        append_to_journal(self.folder, receipt)
        self.n_done += 1
        self.n_tokens += len(self.manifest.plan.sequences(shard)) * self.manifest.tokens["length"]
        rate = self.n_tokens / max(time.monotonic() - self.begun, 1e-9)
        n_shards = self.manifest.n_shards
        report(
            _TOKENS_PART + (1 - _TOKENS_PART) * self.n_done / n_shards,
            f"shard {self.n_done} of {n_shards}, {rate:,.0f} tokens/s",
        )
