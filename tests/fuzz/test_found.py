"""What the fuzzer has found, each fault as one small input."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from interp import InputError, load_model
from interp.circuits import Circuit
from interp.harvest.journal import JOURNAL, read_journal
from interp.interventions import Interventions, Mean, Reference
from interp.interventions.parts import Part
from interp.pretrained.registry import family_of


@pytest.mark.parametrize(
    "config",
    [{"architectures": 0.5}, {"architectures": [["a"]]}, {"architectures": [3]},
     {"architectures": "GPT2LMHeadModel"}, {"model_type": ["gpt2"]}, {"model_type": 3}],
)  # fmt: skip
def test_architectures_that_are_no_names(config: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="must be a"):
        family_of(config)


def test_an_architecture_of_two_lines_is_told_in_one() -> None:
    with pytest.raises(InputError, match="architecture must be one of") as fault:
        family_of({"architectures": ["a\nb\u202e"]})
    assert str(fault.value).isprintable()


def test_a_reference_with_a_row_that_is_none() -> None:
    plan = json.loads(Mean("hook_embed", Reference([[1, 2]])).to_json())
    plan["reference"]["tokens"] = [None]
    with pytest.raises(InputError, match=r"must be rows of token ids\. Received None"):
        Part.from_json(json.dumps(plan))


@pytest.mark.parametrize("kind", ["pipe", "directory"])
def test_a_journal_that_is_no_file(kind: str, tmp_path: Path) -> None:
    path = tmp_path / JOURNAL
    os.mkfifo(path) if kind == "pipe" else path.mkdir()
    with pytest.raises(InputError, match=r"journal\.jsonl must be a file"):
        read_journal(tmp_path, 1)


def test_a_message_is_bounded_whatever_the_value() -> None:
    text = json.dumps({"version": 1, "kind": "x" * 50_000})
    with pytest.raises(InputError) as fault:
        Interventions.from_json(text)
    assert len(str(fault.value)) <= 3010 and str(fault.value).startswith("unknown kind")


def test_a_graph_that_unfolds() -> None:
    bomb = '<!DOCTYPE a [<!ENTITY b "xxxxxxxxxx"><!ENTITY c "&b;&b;&b;">]><a>&c;</a>'
    with pytest.raises(InputError, match="must declare no entities"):
        Circuit.from_graphml(bomb)


def test_bad_words_that_are_no_tokens(tmp_path: Path) -> None:
    from tests.fuzz.targets import GPT2

    GPT2(tmp_path / "m")
    for words in (3, [3], [["a"]], {"a": 1}):
        (tmp_path / "m" / "generation_config.json").write_text(json.dumps({"bad_words_ids": words}))
        with pytest.raises(InputError, match="bad_words_ids must be lists of tokens"):
            load_model(tmp_path / "m", device="cpu")
