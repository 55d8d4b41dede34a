"""What may be harvested, in the one form in which it is written down."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from interp.errors import InputError
from interp.harvest.settings import HarvestSettings, checked_positions, positions_slice


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("all", "all"),
        (":", "all"),
        ("0:", "all"),
        (slice(None), "all"),
        ("last", "last"),
        ("2:5", "2:5"),
        (" 2 : -1 ", "2:-1"),
        (slice(None, None, 3), "::3"),
        (slice(1, 9, 2), "1:9:2"),
        ("::1", "all"),
        ([3], (3,)),
        ([5, 0, -1], (-1, 0, 5)),
        (range(3), (0, 1, 2)),
    ],
)
def test_positions_have_one_form(given: Any, kept: Any) -> None:
    assert checked_positions(given) == kept
    assert checked_positions(kept) == kept


@pytest.mark.parametrize("text", ["2:5", "1:9:2", ":-1", "::3", "all"])
def test_a_range_means_what_it_says(text: str) -> None:
    expected = list(range(12)) if text == "all" else eval(f"list(range(12))[{text}]")
    assert list(range(12))[positions_slice(text)] == expected
    assert list(range(12))[positions_slice("last")] == [11]


@pytest.mark.parametrize(
    "wrong",
    ["first", "", "3", "1:2:3:4", "a:b", "5:1:-1", slice(3, 0, -1), [], [1.5], [True], [2, 2],
     3, None, {"a": 1}, "1" * 5000 + ":"],
)  # fmt: skip
def test_other_positions_are_refused(wrong: Any) -> None:
    with pytest.raises(InputError, match="positions must"):
        checked_positions(wrong)


def test_settings_survive_json() -> None:
    made = HarvestSettings.make(
        ["hook_embed", "blocks.*"], torch.bfloat16, [4, -2], "moments", sample=0.25, seed=2**64 - 1
    )
    assert made.dtype == "bfloat16" and made.statistics == ("moments",)
    assert HarvestSettings.from_dict(json.loads(json.dumps(made.to_dict()))) == made
    whole = HarvestSettings.make("x", sample=2)
    again = HarvestSettings.from_dict(json.loads(json.dumps(whole.to_dict())))
    assert again == whole and isinstance(again.sample, int)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hooks", []), ("hooks", 3), ("hooks", [3]), ("dtype", "int8"), ("dtype", 3),
        ("dtype", ["float16"]),
        ("sample", 0), ("sample", 0.0), ("sample", 1.5), ("sample", float("nan")),
        ("sample", True), ("sample", -2), ("sample", "half"), ("seed", -1), ("seed", 2**64),
        ("seed", 1.0), ("skip_special", 1), ("batch_size", 0), ("batch_size", True),
        ("shard_tokens", 0), ("statistics", ["moments", "moments"]), ("statistics", ["modes"]),
    ],
)  # fmt: skip
def test_what_breaks_a_rule_is_refused(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=name if name != "statistics" else "statistic"):
        HarvestSettings.make(**{"hooks": "x", name: value})


def test_a_seed_without_a_sample_is_refused() -> None:
    with pytest.raises(InputError, match=r"seed is of a sample.*seed=3 with sample=None"):
        HarvestSettings.make("x", seed=3)


@pytest.mark.parametrize("change", [{"colour": 1}, {"seed": None}, {"hooks": "x"}])
def test_fields_from_a_file_are_checked(change: dict[str, Any]) -> None:
    fields = HarvestSettings.make("x").to_dict()
    with pytest.raises(InputError):
        HarvestSettings.from_dict({**fields, **change})
    fields.pop("seed")
    with pytest.raises(InputError, match="seed"):
        HarvestSettings.from_dict(fields)
