"""A corpus made into tokens, once."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.errors import require
from interp.files.atomic import replacing_directory
from interp.files.disk import sync_directory
from interp.harvest.corpus.batches import token_batches
from interp.harvest.corpus.resolve import make_layout
from interp.harvest.corpus.settings import CorpusSettings
from interp.harvest.corpus.sources import files_of, holds_tokens, source_files
from interp.harvest.corpus.store import DOCUMENT, TokenStore
from interp.harvest.corpus.tokenizing import identity_of
from interp.harvest.corpus.writing import StoreWriter
from interp.progress import report

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer


def prepare_tokens(
    settings: CorpusSettings, model: HookedTransformer, directory: str | os.PathLike[str]
) -> TokenStore:
    """Tokenise a corpus for a model and open it; what is there already is opened as it is.

    The directory appears whole or not at all. Memory is bounded by the longest document, whatever
    the size of the corpus.

    Args:
        settings: The corpus, and how its tokens are put into sequences.
        model: Its tokenizer and config decide; the weights do not matter.
        directory: Where the tokens are kept.

    Returns:
        The tokens.

    Raises:
        InputError: if a file cannot be read as the settings say, a setting does not fit the model,
            or the directory holds something else: tokens of another corpus, tokenizer or layout
            (the message says what differs).
    """
    target = Path(directory)
    require(
        not target.exists() or (target / DOCUMENT).is_file() or _is_empty(target),
        f"tokens must go into a directory of their own. {target} is no such",
    )
    before = _stamps(settings)
    files = [file.to_dict() for file in source_files(settings)]
    are_tokens = holds_tokens(settings)
    layout = make_layout(settings, model, are_tokens)
    made_from = {
        "files": files,
        "settings": {**dataclasses.asdict(settings), "files": list(settings.files)},
        "tokenizer": None if model.tokenizer is None else identity_of(model.tokenizer),
        "d_vocab": model.cfg.d_vocab,
        "layout": layout.to_dict(),
    }
    if (target / DOCUMENT).is_file():
        store = TokenStore.open(target)
        _refuse_differences(store, made_from)
        return store
    with replacing_directory(target) as fresh:
        with StoreWriter(fresh, layout, model.cfg.d_vocab) as writer:
            for batch in token_batches(settings, model, are_tokens):
                writer.append(batch)
                report(batch.done, f"{writer.n_tokens:,} tokens, reading {batch.path}")
            shorten = settings.layout == "padded" and settings.length is None
            writer.finish(made_from, shorten)
        require(
            _stamps(settings) == before,
            "the files of a corpus must stay as they are while they are read. One has changed",
        )
    sync_directory(Path(os.path.realpath(target)).parent)
    return TokenStore.open(target)


def _is_empty(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def _stamps(settings: CorpusSettings) -> list[tuple[int, int]]:
    """What changes where a file of the corpus is written, nearly always."""
    found = [os.stat(file) for path in settings.files for file in files_of(path, settings)]
    return [(stat.st_size, stat.st_mtime_ns) for stat in found]


def _refuse_differences(store: TokenStore, made_from: dict[str, Any]) -> None:
    """Raise `InputError` unless the tokens that are there were made from the same."""
    differing = []
    for name, wanted in made_from.items():
        found = store.made_from.get(name)
        if found == wanted:
            continue
        if isinstance(wanted, dict) and isinstance(found, dict):
            differing += [
                f"{key} was {found.get(key)!r:.200} and is {value!r:.200}"
                for key, value in wanted.items()
                if found.get(key) != value
            ]
        elif name == "files":
            differing.append(_changed_files(found, wanted))
        else:
            differing.append(f"{name} was {found!r:.80} and is {wanted!r:.80}")
    require(
        not differing,
        f"{store.directory} must hold the tokens of this corpus, or nothing. It holds those of "
        f"another: {'; '.join(differing)}",
    )


def _changed_files(found: Any, wanted: list[dict[str, Any]]) -> str:
    before = {file["path"]: file["sha256"] for file in found}
    changed = [
        file["path"]
        for file in wanted
        if file["path"] in before and before[file["path"]] != file["sha256"]
    ]
    return f"other contents in {', '.join(changed)[:200]}" if changed else "other files"
