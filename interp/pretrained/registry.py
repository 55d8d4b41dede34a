"""Which families there are, and which of them a config belongs to."""

from __future__ import annotations

from interp.errors import InputError
from interp.files import short
from interp.pretrained.bart import BART
from interp.pretrained.bert import BERT
from interp.pretrained.bloom import BLOOM
from interp.pretrained.distilbert import DISTILBERT
from interp.pretrained.falcon import FALCON
from interp.pretrained.family import Family, HfConfig
from interp.pretrained.gemma import GEMMA, GEMMA2, GEMMA3
from interp.pretrained.gpt2 import GPT2
from interp.pretrained.gpt_neo import GPT_NEO
from interp.pretrained.gptj import GPT_J
from interp.pretrained.llama import LLAMA
from interp.pretrained.marian import MARIAN
from interp.pretrained.mistral import MISTRAL
from interp.pretrained.mixtral import MIXTRAL
from interp.pretrained.mpt import MPT
from interp.pretrained.neox import NEOX
from interp.pretrained.olmo import OLMO, OLMO2
from interp.pretrained.opt import OPT
from interp.pretrained.phi import PHI
from interp.pretrained.phi3 import PHI3
from interp.pretrained.qwen import QWEN2, QWEN3
from interp.pretrained.roberta import ROBERTA
from interp.pretrained.stablelm import STABLELM
from interp.pretrained.t5 import T5

_FAMILIES = (
    GPT2,
    LLAMA,
    MISTRAL,
    MIXTRAL,
    QWEN2,
    QWEN3,
    GEMMA,
    GEMMA2,
    GEMMA3,
    PHI3,
    OLMO,
    OLMO2,
    BERT,
    ROBERTA,
    DISTILBERT,
    T5,
    BART,
    MARIAN,
    GPT_NEO,
    GPT_J,
    NEOX,
    OPT,
    BLOOM,
    MPT,
    FALCON,
    PHI,
    STABLELM,
)


def families() -> list[Family]:
    """Every supported family."""
    return list(_FAMILIES)


def family_of(config: HfConfig) -> Family:
    """The family that a Hugging Face config belongs to.

    Raises:
        InputError: if it is none of the supported ones.
    """
    named = config.get("architectures") or []
    model_type = config.get("model_type")
    if not isinstance(named, list | tuple) or not all(isinstance(each, str) for each in named):
        raise InputError(f"architectures must be a list of names. Received {named!r:.80}.")
    if not isinstance(model_type, str | None):
        raise InputError(f"model_type must be a name. Received {model_type!r:.80}.")
    for family in _FAMILIES:
        if set(named) & set(family.architectures):
            return family
        if not named and model_type in family.model_types:
            return family
    supported = ", ".join(a for f in _FAMILIES for a in f.architectures)
    found = short(", ".join(named) or model_type or "none", 200)
    raise InputError(f"the architecture must be one of {supported}. This model's is {found}.")
