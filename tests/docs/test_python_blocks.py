"""Every Python block of every page runs: a page's blocks one after another, in one namespace."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from tests.docs.pages import Block, all_pages, blocks, name_of

NO_RUN = "no-run"


def _python(page: Path) -> list[Block]:
    return [block for block in blocks(page.read_text("utf-8")) if block.language == "python"]


def _runs(block: Block) -> bool:
    return NO_RUN not in block.options


def _model_and_corpus(folder: Path) -> None:
    """What the page of scale takes as given: a model's directory, a text, activations of both.

    The model is small and random, with as many layers and as wide a stream as the page says.
    """
    from interp import HookedTransformer, load_model
    from interp.harvest import harvest

    zoo = load_model("zoo:induction")
    cfg = zoo.cfg.replace(n_layers=6, d_model=64, init_weights=True)
    model = HookedTransformer(cfg, zoo.tokenizer)
    model.save(folder / "stories260K")
    (folder / "corpus.txt").write_text("k d R 7 q k d R 7 q k d R 7 q\n" * 40)
    hooks = "blocks.*.hook_resid_post"
    harvest(model, folder / "corpus.txt", hooks, folder / "activations", statistics="moments")


_GIVEN: dict[str, Callable[[Path], None]] = {"docs/scale.md": _model_and_corpus}


@pytest.mark.parametrize(
    "page", [page for page in all_pages() if any(map(_runs, _python(page)))], ids=name_of
)
def test_blocks_run(page, tmp_path, monkeypatch, as_before):
    if name_of(page) in _GIVEN:
        _GIVEN[name_of(page)](tmp_path)
    monkeypatch.chdir(tmp_path)
    module = ModuleType(page.stem.replace("-", "_") + "_page")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for block in filter(_runs, _python(page)):
        exec(_compiled(block, page), vars(module))


@pytest.mark.parametrize(
    "page", [page for page in all_pages() if not all(map(_runs, _python(page)))], ids=name_of
)
def test_blocks_that_cannot_run_here_compile(page):
    for block in _python(page):
        _compiled(block, page)
        assert set(block.options) <= {NO_RUN}, f"{name_of(page)}:{block.line}: {block.options}"


def _compiled(block: Block, page: Path):
    # Empty lines in front: a traceback shows the line of the page.
    return compile("\n" * (block.line - 1) + block.text, os.fspath(page), "exec", dont_inherit=True)
