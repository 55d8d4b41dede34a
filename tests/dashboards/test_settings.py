from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field

from analyses import Parameters, get_analysis
from analyses.base import OPENS_MODELS
from dashboards.settings import describe, parse_settings, require_no_paths
from interp.errors import InputError


class Params(Parameters):
    n: int = Field(3, description="How many.", ge=1, lt=10)
    text: str = Field("a", description="A text.")
    maybe: int | None = Field(None, description="A number or nothing.")
    words: list[str] = Field(["x"], description="Words.", min_length=1)
    either: str | list[str] = Field("x", description="One or many.")
    how: Literal["mean", "zero"] = Field("mean", description="How.")
    which: Literal[1, 2] = Field(1, description="Which.")
    pairs: tuple[tuple[int, int], ...] = Field((), description="Pairs.")
    on: bool = Field(False, description="Whether.")
    share: Annotated[float, Field(gt=0)] = Field(0.5, description="A share.")


@pytest.mark.parametrize(
    ("pair", "value"),
    [
        ("n=4", 4),
        ("text=4", "4"),
        ("text=[1]", "[1]"),
        ("text=a=b", "a=b"),
        ("text=", ""),
        ("text=null", "null"),
        ("maybe=null", None),
        ("maybe=4", 4),
        ('words=["a", "b"]', ["a", "b"]),
        ("either=a", "a"),
        ('either=["a"]', ["a"]),
        ("how=zero", "zero"),
        ("which=2", 2),
        ("pairs=[[1, 2]]", ((1, 2),)),
        ("on=true", True),
        ("share=1e-3", 0.001),
    ],
)
def test_values_are_read_by_their_fields(pair, value):
    key = pair.partition("=")[0]
    read = getattr(Params.model_validate(parse_settings(Params, [pair])), key)
    assert read == value and type(read) is type(value)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["n"], "--set takes key=value, got 'n'"),
        (["m=1"], r"unknown parameter 'm'"),
        (["n=1", "n=2"], "--set n is given twice"),
        (["words=a,b"], r"parameter 'words' takes JSON \(Expecting value\), got 'a,b'"),
    ],
)
def test_bad_pairs_are_explained(pairs, message):
    with pytest.raises(InputError, match=message):
        parse_settings(Params, pairs)


def test_describe():
    told = {each["name"]: each for each in describe(Params)}
    assert told["n"] == {
        "name": "n",
        "type": "int",
        "default": 3,
        "bounds": ">= 1, < 10",
        "help": "How many.",
    }
    assert told["maybe"]["type"] == "int | null"
    assert told["how"]["type"] == "'mean' | 'zero'"
    assert told["words"]["type"] == "list[str]" and told["words"]["bounds"] == "length >= 1"
    assert told["pairs"]["type"] == "tuple[tuple[int, int], ...]"
    assert told["share"]["bounds"] == "> 0"


class Opening(Parameters):
    beside: list[str] = Field([], json_schema_extra=OPENS_MODELS)
    note: list[str] = Field([])


def test_a_page_opens_models_of_the_zoo_alone(tmp_path: Path) -> None:
    require_no_paths(Opening, {"beside": ["zoo:induction"], "note": [str(tmp_path)]})
    require_no_paths(Opening, {})
    for name in (str(tmp_path), "gpt2", "zoo:../induction", "zoo:nothing"):
        with pytest.raises(InputError, match="the zoo's only") as fault:
            require_no_paths(Opening, {"beside": ["zoo:induction", name]})
        assert repr(name) in str(fault.value)


@pytest.mark.parametrize("given", [5, True, [["zoo:induction"]], {"a": 1}, "/etc"])
def test_what_is_no_list_of_names_is_refused_in_words(given: object) -> None:
    with pytest.raises(InputError, match="the zoo's only"):
        require_no_paths(Opening, {"beside": given})


def test_one_name_or_part_needs_no_json() -> None:
    report = get_analysis("position-report").Params
    asked = parse_settings(report, ["beside=zoo:induction", "parts=length"])
    assert report(**asked) == report(beside=["zoo:induction"], parts=["length"])
    many = parse_settings(report, ['beside=["a", "b"]', 'parts=["length", "probes"]'])
    assert report(**many) == report(beside=["a", "b"], parts=["length", "probes"])


def test_a_page_reads_no_files() -> None:
    lens = get_analysis("logit-lens").Params
    require_no_paths(lens, {"tuned_from": ""})
    with pytest.raises(InputError, match="'tuned_from' opens files"):
        require_no_paths(lens, {"tuned_from": "/etc"})


def test_the_report_beside_others_is_under_that_rule() -> None:
    with pytest.raises(InputError, match="beside"):
        require_no_paths(get_analysis("position-report").Params, {"beside": ["/etc"]})
