"""A model directory's tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from interp.errors import InputError, require_extra

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
    if Path(name).is_dir():
        tokenizer = load_tokenizer(name)
        if tokenizer is None:
            raise InputError(f"{name} holds no tokenizer.")
        return tokenizer
    require_extra("transformers", "hf")
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(name))
    except (OSError, ValueError) as fault:
        reason = str(fault).strip().splitlines()[0]
        raise InputError(f"there is no tokenizer {str(name)!r} to be had: {reason}") from fault


def load_tokenizer(directory: str | Path) -> Any:
    """The Hugging Face tokenizer in a directory; None where there is none.

    Raises:
        MissingExtraError: if there is one and transformers is not installed.
    """
    folder = Path(directory)
    if not any((folder / name).is_file() for name in _FILES):
        return None
    require_extra("transformers", "hf")
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    try:
        if not (folder / "tokenizer_config.json").is_file():
            return PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception as fault:  # the tokenizers library raises nothing narrower
        raise InputError(f"the tokenizer in {folder} cannot be read: {fault}") from fault
