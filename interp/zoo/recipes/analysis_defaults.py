"""A model's default settings, the same for all analyses that take the same kind of input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PROMPT_ANALYSES = ("head-attribution", "logit-lens", "input-attribution", "information-flow")
PAIR_ANALYSES = (
    "activation-patching",
    "path-patching",
    "attribution-patching",
    "circuit-search",
    "ablations",
)


def defaults_for(prompt: str, pairs: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Settings of each analysis by its name: of those of one prompt, and of those of pairs."""
    return {
        **{name: {"prompt": prompt} for name in PROMPT_ANALYSES},
        **{name: dict(pairs) for name in PAIR_ANALYSES},
    }
