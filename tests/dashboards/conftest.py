"""A small saved model that reads words, for the pages."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

import interp
from interp import HookedTransformer
from tests.dashboards.screen import PROMPT

APP = Path(interp.__file__).parents[1] / "dashboards" / "app.py"

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


@pytest.fixture
def fresh_caches():
    """Models and results of one test are not those of the next."""
    st = pytest.importorskip("streamlit", reason="needs the extra 'dashboard'")
    yield
    with pytest.MonkeyPatch.context() as patch:
        # A model that is let go has all garbage collected, that of all other tests too.
        patch.setattr("dashboards.page.subject.gc", SimpleNamespace(collect=lambda: 0))
        st.cache_data.clear()
        st.cache_resource.clear()


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs"


@pytest.fixture
def open_page(monkeypatch, words_model, runs, fresh_caches):
    """Open a page as a browser would: by its path and query."""
    from streamlit.testing.v1 import AppTest
    from streamlit.util import calc_hash

    def open_page(page="prompt", models=(words_model,), **query):
        offered = [part for model in models for part in ("--model", str(model))]
        monkeypatch.setattr(sys, "argv", [str(APP), *offered, "--runs", str(runs)])
        app = AppTest.from_file(str(APP), default_timeout=120)
        if page != "prompt":
            # AppTest has no other way to open a page that is a function.
            app._page_hash = calc_hash(page)
        app.query_params.update(query)
        app.run()
        assert not app.exception
        return app

    return open_page


@pytest.fixture
def model(words_model):
    return HookedTransformer.load(words_model)


@pytest.fixture(scope="module")
def saved_run(words_model, tmp_path_factory):
    """A directory with a result, to be copied."""
    from analyses import run_analysis
    from analyses.results import storage

    model = HookedTransformer.load(words_model)
    result = run_analysis("head-attribution", model, prompt=PROMPT)
    folder = tmp_path_factory.mktemp("saved") / "run"
    return storage.save(result, folder, pictures=False)


@pytest.fixture
def sizes(monkeypatch):
    """Analyses that are registered for a test, and count their runs."""
    from analyses import registry
    from tests.dashboards.small_analyses import Lengthy, Sizes

    registry.list_analyses()
    for each in (Sizes, Lengthy):
        monkeypatch.setitem(registry._registered, each.name, each)
        monkeypatch.setattr(each, "runs", 0)
    return Sizes


@pytest.fixture
def undrawn(monkeypatch):
    """Results are saved with an empty report and no pictures, which take seconds to draw."""
    from analyses.results import storage

    monkeypatch.setattr(storage, "_draw", lambda result, folder: (folder / storage.REPORT).touch())


@pytest.fixture
def done_here(monkeypatch, undrawn):
    """Jobs start no process: gives a function that does the latest one's work in this one."""
    from dashboards import jobs
    from dashboards.jobs import launch, worker

    monkeypatch.setattr(launch, "_launch", lambda folder: None)
    monkeypatch.setattr(worker, "_note", lambda folder: None)  # it would be ended as the worker
    monkeypatch.setattr(worker.os, "nice", lambda more: 0)
    monkeypatch.setattr(worker.signal, "signal", lambda *_: None)
    monkeypatch.setattr(worker.signal, "pthread_sigmask", lambda *_: None)

    def do(runs):
        job = jobs.find(runs)[0]
        worker.main(job.folder)
        return job

    return do
