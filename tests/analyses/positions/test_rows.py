"""The settings that all analyses of position share."""

import pytest
import torch
from pydantic import ValidationError

from analyses.positions.rows import RowsParams, resolve_rows
from interp import load_model
from interp.position_effects import position_rows
from interp.zoo.tasks import TASKS


@pytest.fixture(scope="module")
def induction():
    return load_model("zoo:induction", device="cpu")


def test_every_setting_reaches_the_rows(induction):
    text = "aBcDeFgHiJ" * 9
    asked = RowsParams(sequences=3, length=12, seed=5, text=text, rows="text", prepend_bos=False)
    found = resolve_rows(induction, asked)
    expected = position_rows(induction, 3, 12, 5, [text], "text", prepend_bos=False)
    other = resolve_rows(induction, asked.model_copy(update={"seed": 6}))
    assert torch.equal(found.tokens, expected.tokens) and found.kind == "text"
    assert not found.begins_with_bos and not torch.equal(found.tokens, other.tokens)


def test_by_default_they_are_those_of_the_task(induction):
    rows = resolve_rows(induction, RowsParams(sequences=4))
    assert rows.kind == "task repeat" and torch.equal(rows.tokens, TASKS["repeat"].rows(4).tokens)
    assert resolve_rows(induction, RowsParams(sequences=4, rows="repeated")).length == 64


@pytest.mark.parametrize("wrong", [{"sequences": 1}, {"length": 1}, {"seed": -1}, {"rows": "all"}])
def test_bad_settings_are_refused(wrong):
    with pytest.raises(ValidationError):
        RowsParams(**wrong)
