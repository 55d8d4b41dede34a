"""A model's tree in a notebook: what stands in it, beside sums made another way."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from interp import HookedTransformer, HookPoint
from interp.devices.memory import readable
from tests.interp.charts.test_export import Reader
from tests.interp.kinds import KINDS

MakeModel = Callable[..., HookedTransformer]


class Tree(Reader):
    """The summaries of a tree, each with how deep it stands, in order."""

    def __init__(self, text: str) -> None:
        self.summaries: list[tuple[int, str]] = []
        super().__init__(text)

    def handle_data(self, data: str) -> None:
        super().handle_data(data)
        if self.open and self.open[-1] == "summary":
            self.summaries.append((self.open.count("details"), data))


def size_of(modules: list[nn.Module]) -> tuple[int, int]:
    """Parameters and bytes, every storage's own numbers once."""
    found: dict[int, Any] = {}
    for module in modules:
        for part in module.modules():
            for parameter in part._parameters.values():
                if parameter is not None:
                    found[id(parameter)] = parameter
    numbers = sum(torch.Size(p.shape).numel() for p in found.values())
    return numbers, sum(p.numel() * p.dtype.itemsize for p in found.values())


@pytest.mark.parametrize("kind", KINDS)
def test_counts_are_those_of_the_parameters(make_model: MakeModel, kind: str) -> None:
    model = make_model(**KINDS[kind])
    tree = Tree(model._repr_html_())
    assert tree.open == []
    assert "script" not in [tag for tag, _ in tree.tags]
    numbers, n_bytes = size_of([model])
    assert f"{numbers:,} parameters, {readable(n_bytes)}; float32 on cpu" in tree.summaries[0][1]
    children = [(n, m) for n, m in model.named_children() if not isinstance(m, HookPoint)]
    shown = [text for depth, text in tree.summaries if depth == 2]
    assert len(shown) == len(children)
    for text, (name, module) in zip(shown, children, strict=True):
        numbers, n_bytes = size_of([module])
        plural = "" if numbers == 1 else "s"
        expected = f"{type(module).__name__}, {numbers:,} parameter{plural}, {readable(n_bytes)}"
        assert text == f"{name}: {expected}"


def test_every_weight_and_hook_has_its_place(make_model: MakeModel) -> None:
    model = make_model(n_layers=3)
    html = model._repr_html_()
    page = Reader(html)
    rows = {tuple(cells[:2]) for cells in page.cells if cells}
    expected = {
        (name.rsplit(".", 1)[-1], str(list(p.shape))) for name, p in model.named_parameters()
    }
    buffers = {
        (name.rsplit(".", 1)[-1] + ", a buffer", str(list(b.shape)))
        for name, b in model.named_buffers()
    }
    assert rows == expected | buffers
    hooks = {name.rsplit(".", 1)[-1] for name in model.hook_dict}
    assert set(re.findall(r"<code>(\w+)</code>", html)) == hooks
    assert f"{len(model.hook_dict)} hook points" in page.texts["p"]


def test_blocks_that_are_alike_stand_there_once(make_model: MakeModel) -> None:
    model = make_model(n_layers=6)
    each, n_bytes = size_of([model.blocks[0]])
    summaries = [text for _, text in Tree(model._repr_html_()).summaries]
    alike = f"0 … 5: TransformerBlock, 6 alike, each {each:,} parameters, {readable(n_bytes)}"
    assert [text for text in summaries if "TransformerBlock" in text] == [alike]
    model.blocks[2].attn.hook_z.add_hook(lambda z, hook: None)
    html = model._repr_html_()
    found = [text.split(":")[0] for _, text in Tree(html).summaries if "TransformerBlock" in text]
    assert found == ["0 … 1", "2", "3 … 5"]
    assert "hook_z (1 fwd attached)" in html
    assert all(a != b for a, b in pairwise(found))


def test_a_large_model_is_shown_small_and_never_read(make_model: MakeModel) -> None:
    html = make_model(n_layers=12).to("meta")._repr_html_()
    assert "on meta" in html and len(html) < 20_000


def test_a_tied_weight_is_counted_once_and_named(make_model: MakeModel) -> None:
    tied, untied = (make_model(tie_word_embeddings=tied) for tied in (True, False))
    assert "W_U is W_E, transposed" in tied._repr_html_()
    assert "transposed" not in untied._repr_html_()
    assert size_of([untied])[0] - size_of([tied])[0] == 24 * 31


def test_a_name_is_no_markup(make_model: MakeModel) -> None:
    name = "<script>alert(1)</script>\u202e\x00"
    page = Reader(make_model(model_name=name)._repr_html_())
    assert "script" not in [tag for tag, _ in page.tags]
    assert r"<script>alert(1)</script>\u202e\x00" in page.texts["summary"]
