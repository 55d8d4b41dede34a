"""A configuration in a notebook: what was set, what followed, what was left alone."""

from __future__ import annotations

import dataclasses

from interp import HookedTransformerConfig
from interp.display.config import config_html, grouped
from tests.interp.charts.test_export import Reader


def config(**fields) -> HookedTransformerConfig:
    small = {"n_layers": 2, "d_model": 8, "n_heads": 2, "n_ctx": 4, "d_vocab": 5, "device": "cpu"}
    return HookedTransformerConfig(**{**small, **fields})


def test_fields_are_grouped_by_where_they_come_from() -> None:
    cfg = config(act_fn="relu", qk_norm="head", d_mlp=7)
    chosen, filled_in, rest = grouped(cfg)
    assert chosen == {
        "n_layers": 2, "d_model": 8, "n_ctx": 4, "n_heads": 2, "d_mlp": 7, "act_fn": "relu",
        "d_vocab": 5, "device": cfg.device, "qk_norm": "head",
    }  # fmt: skip
    assert filled_in == {
        "d_head": 4, "d_vocab_out": 5, "attention_dir": "causal", "n_key_value_heads": 2,
        "attn_scale": 2.0, "initializer_range": 0.8 / 8**0.5, "final_norm": True,
        "attn_types": ("global", "global"),
    }  # fmt: skip
    every = {field.name for field in dataclasses.fields(cfg) if field.init}
    assert chosen.keys() | filled_in.keys() | rest.keys() == every
    assert len(chosen) + len(filled_in) + len(rest) == len(every)


def test_a_filled_in_field_that_is_changed_is_set() -> None:
    cfg = config(act_fn="relu")
    assert cfg.is_filled_in("d_mlp") and not cfg.is_filled_in("n_heads")
    cfg.d_mlp = 9
    assert not cfg.is_filled_in("d_mlp") and grouped(cfg)[0]["d_mlp"] == 9


def test_values_are_shown_as_one_would_write_them() -> None:
    page = Reader(config(act_fn="relu", dtype="float64", model_name="<b>a</b>")._repr_html_())
    shown = dict(cells for cells in page.cells if cells)
    assert page.open == [] and "b" not in [tag for tag, _ in page.tags]
    assert shown["dtype"] == "float64" and shown["device"] == "cpu"
    assert shown["model_name"] == "'<b>a</b>'" and shown["eps"] == "1e-05"
    assert "9 fields set" in page.texts["summary"]
    assert config_html(config(act_fn="relu")) == config(act_fn="relu")._repr_html_()
