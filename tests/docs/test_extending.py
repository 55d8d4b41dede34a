"""What the pages of docs/extending make stands the tests that everything of its kind stands."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
import torch

from analyses import list_analyses, registry, run_analysis
from interp import config, load_model
from interp.positions import ENCODINGS
from interp.pretrained import registry as families
from tests.docs.pages import DOCS, blocks
from tests.interp import test_shapes
from tests.interp.positions import test_init

_UNDOES = "# this page only"


@pytest.fixture
def made_by(monkeypatch):
    """Runs a page but for the block that undoes it; gives its names. All is undone afterwards."""
    monkeypatch.setattr(config, "PositionalEmbeddingType", config.PositionalEmbeddingType)
    monkeypatch.setattr(families, "_FAMILIES", families._FAMILIES)
    monkeypatch.setitem(ENCODINGS, "kerple", None)  # the page puts its class there

    def made_by(name: str) -> dict[str, Any]:
        list_analyses()
        monkeypatch.setattr(registry, "_registered", dict(registry._registered))
        module = ModuleType(f"{name.replace('-', '_')}_extended")
        monkeypatch.setitem(sys.modules, module.__name__, module)
        page = (DOCS / "extending" / f"{name}.md").read_text(encoding="utf-8")
        for block in blocks(page):
            if block.language == "python" and _UNDOES not in block.text:
                exec(compile(block.text, name, "exec", dont_inherit=True), vars(module))
        return vars(module)

    return made_by


def test_a_model_family(made_by, tmp_path):
    pytest.importorskip("transformers", reason="needs the extra 'hf'")
    names = made_by("model-family")
    from tests.interp.pretrained.parity import Case

    assert names["STARCODER2"] in families.families()
    (first, make_first), (second, make_second) = names["CONFIGS"].items()
    Case(first, make_first, torch.float32).check(tmp_path / "first")
    Case(second, make_second, torch.float64).check(tmp_path / "second", generates=False)


@torch.no_grad()
def test_a_positional_encoding(made_by, make_model, monkeypatch):
    made_by("positional-encoding")
    for shape in test_shapes.SHAPES:
        test_shapes.test_padded_batch_is_its_rows(shape, "kerple", torch.float64)
        test_shapes.test_only_past_tokens_are_seen_where_attention_is_causal(shape, "kerple")
        test_shapes.test_beyond_n_ctx_where_the_definition_allows(shape, "kerple")
        test_shapes.test_fused_and_spelled_out_attention_agree(shape, "kerple")
    for shape in ("decoder", "encoder-decoder"):
        test_shapes.test_a_cache_changes_nothing(shape, "kerple", True)
    monkeypatch.setattr(test_init, "ENCODINGS", {"kerple": ENCODINGS["kerple"]})
    test_init.test_without_positions_order_of_the_past_is_lost(make_model)


def test_an_analysis(made_by, tmp_path, monkeypatch):
    """On a model it fits, saved and loaded, and on those that it refuses; nothing is drawn."""
    pytest.importorskip("seaborn", reason="needs the extra 'plots'")
    from tests.analyses.test_every_analysis import _in_order

    monkeypatch.setattr("interp.charts.mpl.draw", lambda chart, table: None)
    monkeypatch.setattr("interp.charts.export.svg", lambda figure, chart: "<svg></svg>")
    monkeypatch.setattr("interp.charts.export.png", lambda figure, chart: b"PNG")
    made_by("analysis")
    assert "prediction-depth" in [each.name for each in list_analyses()]
    model = load_model("zoo:copy-rotary", device="cpu")
    result = run_analysis("prediction-depth", model, tokens=[5, 9, 7, 5, 9])
    _in_order("prediction-depth", result, tmp_path)
    analysis = registry.get_analysis("prediction-depth")
    for refused in ("zoo:translation", "zoo:brackets"):
        assert analysis.supports(load_model(refused, device="cpu"))
