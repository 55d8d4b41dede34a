from __future__ import annotations

from typing import Any

import pytest

from interp import InputError
from interp.pretrained import families
from interp.pretrained.registry import family_of


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({"architectures": ["GPT2LMHeadModel"]}, "GPT-2"),
        ({"architectures": ["GPT2Model"], "model_type": "llama"}, "GPT-2"),
        ({"architectures": ["LlamaForCausalLM"], "model_type": "llama"}, "Llama"),
        ({"architectures": None, "model_type": "llama"}, "Llama"),
        ({"model_type": "gpt2"}, "GPT-2"),
    ],
)
def test_family(config: dict[str, Any], name: str) -> None:
    assert family_of(config).name == name


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({"architectures": ["BertForQuestionAnswering"], "model_type": "bert"}, "BertForQuestion"),
        ({"architectures": ["LlamaForSequenceClassification"], "model_type": "llama"}, "Sequence"),
        ({"model_type": "mamba"}, "mamba"),
        ({}, "none"),
    ],
)
def test_unsupported(config: dict[str, Any], found: str) -> None:
    with pytest.raises(InputError, match=f"GPT2LMHeadModel.*LlamaForCausalLM.*{found}"):
        family_of(config)


def test_families_is_a_list_of_its_own() -> None:
    families().clear()
    assert {family.name for family in families()} >= {"GPT-2", "Llama"}
