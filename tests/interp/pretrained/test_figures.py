"""The page of figures, and that an ordinary run writes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from interp.pretrained import families
from tests.interp.pretrained.figures import Figures, table

PAGE = Path(__file__).resolve().parents[3] / "docs" / "measured" / "parity.md"


def _figures(dtype: str = "float32") -> Figures:
    figures = Figures("Llama", "odd, a/b", "LlamaForCausalLM", dtype)
    figures.note("logits", torch.tensor([2.0, 4.0]), torch.tensor([2.0, 4.0]), 0.0)
    figures.note("blocks.0.hook_resid_pre", torch.tensor([1e-3]), torch.zeros(1), 1.0)
    figures.note("blocks.0.hook_resid_pre", torch.tensor([99.0]), torch.tensor([100.0]), 1.0)
    return figures


def test_figures_are_relative_and_the_largest() -> None:
    figures = _figures()
    assert (figures.residual, figures.logits, figures.pattern) == (0.01, 0.0, 0.0)
    with pytest.raises(AssertionError, match=r"x: 5\.0e-01 > 1e-01"):
        figures.note("x", torch.tensor([1.0]), torch.tensor([2.0]), 0.1)
    with pytest.raises(AssertionError, match="x: nan"):
        figures.note("x", torch.tensor([torch.nan]), torch.tensor([2.0]), 0.1)


def test_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PARITY_OUT", raising=False)
    _figures().store()
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv("PARITY_OUT", str(tmp_path / "out"))
    for dtype in ("float64", "float32"):
        _figures(dtype).store()
    assert table(tmp_path / "out").splitlines()[-2:] == [
        f"| Llama | `LlamaForCausalLM` | odd, a/b | {dtype} | 1e-02 | 0 | 0 | — |"
        for dtype in ("float32", "float64")
    ]


def test_every_family_is_on_the_page() -> None:
    """With two configurations or more, in both dtypes. `make parity` makes it anew."""
    rows = [line.split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    for family in families():
        of_family = [row for row in rows if row[0] == f"| {family.name}"]
        assert len({row[2] for row in of_family}) >= 2, family.name
        assert {row[3] for row in of_family} == {"float32", "float64"}, family.name
