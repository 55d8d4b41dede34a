"""Bridges of TransformerLens 4, built offline, for the tests of both directions."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

MakeBridge = Callable[..., Any]


@pytest.fixture(scope="session")
def make_bridge() -> MakeBridge:
    """A bridge of a copy of a Hugging Face model; raw, or in compatibility mode."""
    builder = pytest.importorskip(
        "transformer_lens.model_bridge.sources._bridge_builder", reason="needs the extra 'lens'"
    )

    def make(hf_model: Any, mode: str = "plain", tokenizer: Any = None) -> Any:
        theirs = copy.deepcopy(hf_model)  # the bridge works on the model it is given
        bridge = builder.build_bridge_from_module(
            theirs, type(hf_model).__name__, hf_config=hf_model.config, tokenizer=tokenizer
        )
        if mode != "plain":
            bridge.enable_compatibility_mode(no_processing=mode == "raw", disable_warnings=True)
        return bridge

    return make


@pytest.fixture(scope="session")
def symbols(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tokenizer with a token for each letter; from a directory, as TransformerLens reopens it.

    BOS is EOS too: to a tokenizer without EOS it would add one that the model does not know.
    """
    transformers = pytest.importorskip("transformers", reason="needs the extra 'hf'")
    from interp.zoo.recipes.symbols import make_tokenizer

    folder: Path = tmp_path_factory.mktemp("symbols")
    tokenizer = make_tokenizer()
    tokenizer.eos_token = tokenizer.bos_token
    tokenizer.save_pretrained(folder)
    return transformers.AutoTokenizer.from_pretrained(folder)
