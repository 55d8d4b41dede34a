"""Which families there are, and which of them a config belongs to."""

from __future__ import annotations

from interp.errors import InputError
from interp.pretrained.family import Family, HfConfig
from interp.pretrained.gpt2 import GPT2
from interp.pretrained.llama import LLAMA

_FAMILIES = (GPT2, LLAMA)


def families() -> list[Family]:
    """Every supported family."""
    return list(_FAMILIES)


def family_of(config: HfConfig) -> Family:
    """The family that a Hugging Face config belongs to.

    Raises:
        InputError: if it is none of the supported ones.
    """
    named = list(config.get("architectures") or ())
    for family in _FAMILIES:
        if set(named) & set(family.architectures):
            return family
        if not named and config.get("model_type") in family.model_types:
            return family
    supported = ", ".join(a for f in _FAMILIES for a in f.architectures)
    found = ", ".join(named) or config.get("model_type") or "none"
    raise InputError(f"the architecture must be one of {supported}. This model's is {found}.")
