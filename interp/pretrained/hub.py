"""From a hub name to a local directory."""

from __future__ import annotations

from pathlib import Path

from interp.errors import InputError, require_extra
from interp.files import short

_PATTERNS = ["*.json", "*.safetensors", "*.model", "*.spm", "vocab.txt", "merges.txt"]


def fetch(name: str, revision: str | None = None, allow_pickle: bool = False) -> Path:
    """Download a model from the Hugging Face hub, or find it in the local hub cache.

    Args:
        name: `owner/model`, or a short name such as `gpt2`.
        revision: A branch, tag or commit. None: the default branch.
        allow_pickle: Also fetch pickled weights.

    Raises:
        InputError: if there is no such model, or it can neither be reached nor found locally.
        MissingExtraError: if huggingface-hub is not installed.
    """
    require_extra("huggingface_hub", "hf")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
    )

    patterns = [*_PATTERNS, "*.bin"] if allow_pickle else _PATTERNS
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except (
        HFValidationError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        OSError,
    ) as fault:
        where = f" at revision {revision!r}" if revision else ""
        reason = short(next(iter(str(fault).strip().splitlines()), type(fault).__name__))
        raise InputError(
            f"{name!r}{where} is no directory here, and the hub could not give it: {reason} "
            "(without a network, give a local directory or fill the hub's cache first)"
        ) from fault
