"""A small saved model that reads words, for the pages."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

WORDS = ["<bos>", "<unk>", "the", "cat", "sat", "on", "mat", "a", "dog", "*", "$x$", "_", "saw"]


@pytest.fixture(scope="session", autouse=True)
def installed_packages_read_once() -> Iterator[None]:
    """Streamlit looks through every installed package when a page is opened: half of the time."""
    scanner = pytest.importorskip("streamlit.components.v2.manifest_scanner")
    with pytest.MonkeyPatch.context() as patch:
        scan = functools.cache(scanner.scan_component_manifests)
        patch.setattr(scanner, "scan_component_manifests", scan)
        yield


@pytest.fixture(scope="session")
def word_tokenizer():
    """One token for each word; `<bos>` begins a text."""
    transformers = pytest.importorskip("transformers", reason="needs the extra 'hf'")
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {word: i for i, word in enumerate(WORDS)}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<bos>", unk_token="<unk>"
    )


@pytest.fixture(scope="session")
def words_model(tmp_path_factory, make_model, word_tokenizer) -> Path:
    """The directory of a tiny random model that reads words."""
    model = make_model(word_tokenizer, d_vocab=len(WORDS), model_name="words", seed=3)
    return model.save(tmp_path_factory.mktemp("models") / "words")


@pytest.fixture(scope="session")
def mute_model(tmp_path_factory, make_model) -> Path:
    """The directory of a tiny random model without a tokenizer."""
    return make_model(model_name="mute").save(tmp_path_factory.mktemp("models") / "mute")
