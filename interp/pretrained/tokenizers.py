"""A model directory's tokenizer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from interp.errors import InputError, require_extra
from interp.files import plain_name, read_json, require_no_links_out, short

_SETTINGS = "tokenizer_config.json"
_TEMPLATES = "additional_chat_templates"  # the one directory below that transformers reads
_FILES = (
    "tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt",
    "spiece.model", "sentencepiece.bpe.model", "source.spm",
)  # fmt: skip


def open_tokenizer(name: str | Path) -> Any:
    """The Hugging Face tokenizer in a directory, or of that name on the hub.

    Raises:
        InputError: if there is none, or it cannot be reached.
        MissingExtraError: if transformers is not installed.
    """
    if os.path.isdir(name):
        tokenizer = load_tokenizer(name)
        if tokenizer is None:
            raise InputError(f"{name} holds no tokenizer.")
        return tokenizer
    require_extra("transformers", "hf")
    from transformers import AutoTokenizer

    try:
        # trust_remote_code: left out, transformers would ask at the terminal whether to run code.
        return AutoTokenizer.from_pretrained(str(name), trust_remote_code=False)
    except (OSError, ValueError) as fault:
        reason = short(next(iter(str(fault).strip().splitlines()), type(fault).__name__))
        raise InputError(f"there is no tokenizer {str(name)!r} to be had: {reason}") from fault


def load_tokenizer(directory: str | Path) -> Any:
    """The Hugging Face tokenizer in a directory; None where there is none.

    Files of this directory are all that is read, and code that is in it is not run.

    Raises:
        InputError: if it is damaged, needs code of its own, or leads out of the directory.
        MissingExtraError: if there is one and transformers is not installed.
    """
    folder = Path(directory)
    if not any(os.path.isfile(folder / name) for name in _FILES):
        return None
    require_no_links_out(folder)
    if (folder / _TEMPLATES).is_dir():
        require_no_links_out(folder / _TEMPLATES)
    settings = folder / _SETTINGS
    if settings.is_file():
        _require_own_files(settings)
    require_extra("transformers", "hf")
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    try:
        if not settings.is_file():
            return PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
        return AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except BaseException as fault:
        # The tokenizers library raises nothing narrower than Exception, and where its Rust panics
        # something that is none.
        if not isinstance(fault, Exception) and type(fault).__name__ != "PanicException":
            raise
        raise InputError(f"the tokenizer in {folder} cannot be read: {short(fault)}") from fault


def _require_own_files(settings: Path) -> None:
    """Check that a tokenizer's settings name no file elsewhere: some transformers would read it."""
    found = read_json(settings)
    for name, value in found.items():
        # Many old ones say where their special tokens were when they were made; nothing reads it.
        if not name.endswith(("_file", "_files")) or name == "special_tokens_map_file":
            continue
        for file in value if isinstance(value, list) else [value]:
            if file is not None:
                plain_name(file, f"{name} in {settings}")
