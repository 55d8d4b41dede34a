"""Results that ship: they open, hold, and say what they were made with."""

from __future__ import annotations

from pathlib import Path

import pytest

import analyses.superposition.shipped as shipped
from analyses.registry import get_analysis, validate_params
from analyses.superposition.families import families_of, has_toys, phase_toy
from analyses.superposition.shipped import __main__ as recipes
from analyses.superposition.shipped import list_shipped, load_shipped
from interp.errors import InputError

MOST_BYTES = 1_500_000


def test_every_recipe_ships_and_nothing_else() -> None:
    assert list_shipped() == sorted(recipes.RECIPES)


@pytest.mark.parametrize("name", list_shipped())
def test_a_result_holds_and_is_what_its_recipe_says(name: str) -> None:
    result = load_shipped(name)
    analysis, settings = recipes.RECIPES[name]
    assert result.name == analysis
    assert result.passed
    expected = {**settings, "device": "cpu"}
    said = result.provenance.parameters
    assert {setting: said[setting] for setting in expected} == expected
    validate_params(get_analysis(analysis), said)
    assert result.provenance.device == "cpu" and result.provenance.seconds > 0
    assert result.question and result.caveat


def test_they_are_small_and_have_no_pictures() -> None:
    files = [file for file in shipped.HERE.rglob("*") if file.is_file()]
    data = [file for file in files if file.suffix not in (".py", ".pyc")]
    assert {file.suffix for file in data} == {".json", ".parquet"}
    assert sum(file.stat().st_size for file in data) < MOST_BYTES


def test_toys_are_what_the_page_shows_first() -> None:
    solids = families_of(load_shipped("solids-in-three-dimensions"))[0]
    assert solids.W.shape[2:] == (3, 12)
    assert all(has_toys(load_shipped(name).name) for name in ("five-in-two-dimensions", "dynamics"))
    diagrams = load_shipped("phase-diagrams")
    assert phase_toy(diagrams, "n=3 m=2", 13, 13).shape == (2, 3)


def test_another_name_is_told() -> None:
    with pytest.raises(InputError, match=r"unknown shipped result '\.\./phase'"):
        load_shipped("../phase")
    with pytest.raises(InputError, match="unknown recipe 'nothing'"):
        recipes.make("nothing")


def test_a_recipe_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = ("superposition-toys", {"steps": 10, "n_snapshots": 1, "n_seeds": 1})
    monkeypatch.setitem(recipes.RECIPES, "tiny", tiny)
    monkeypatch.setattr(recipes, "HERE", tmp_path)
    monkeypatch.setattr(shipped, "HERE", tmp_path)
    recipes.make("tiny")
    assert list_shipped() == ["tiny"]
    assert load_shipped("tiny").passed
    assert not list(tmp_path.rglob("*.svg"))
