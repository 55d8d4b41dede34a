from typing import Annotated, Literal

import pytest
from pydantic import Field

from analyses import Parameters
from dashboards.settings import describe, parse_settings
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
