from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp import InputError
from interp.files import parse_json, read_json, strict_json

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**280), 10**280)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs",))),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=12,
)


@given(VALUES, st.booleans())
def test_whatever_python_writes_plainly_is_read_the_same(value: object, ascii_only: bool) -> None:
    try:
        text = json.dumps(value, ensure_ascii=ascii_only)
        data = text.encode()
    except UnicodeEncodeError:  # half of a character in a name
        return
    if "\\ud" in text:
        return
    assert parse_json(text) == parse_json(data) == value


REFUSED = {
    "nothing": b"",
    "half": b'{"a": ',
    "two documents": b"{} {}",
    "a name twice": b'{"a": 1, "b": {"x": 1, "x": 1}}',
    "NaN": b'{"a": NaN}',
    "infinity": b"[-Infinity]",
    "an infinite float": b'{"a": 1e999}',
    "a number without an end": b"1" * 5000,
    "a number without a float": b"[1" + b"0" * 400 + b"]",
    "a byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "UTF-32": '{"a": 1}'.encode("utf-32"),
    "not UTF-8": b'{"a": "\xff"}',
    "half of a character": b'{"a": "\\ud800"}',
    "half of a character in a name": b'[{"\\udfff": 1}]',
    "lists within lists": b"[" * 200 + b"]" * 200,
    "lists within lists without an end": b"[" * 200_000,
    "objects within objects": b'{"a":' * 200_000,
    "a control character": b'"\x01"',
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
def test_what_readers_could_take_differently_is_refused_in_a_line(
    data: bytes, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as fault:
        parse_json(data)
    assert 0 < len(str(fault.value)) < 400 and "\n" not in str(fault.value)
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(InputError, match=r"a\.json is damaged: ."):
        read_json(tmp_path / "a.json")


def test_limits_are_where_they_say() -> None:
    deepest = strict_json.MOST_NESTED
    assert parse_json("[" * deepest + "]" * deepest)
    with pytest.raises(InputError, match="100 levels"):
        parse_json("[" * (deepest + 1) + "1" + "]" * (deepest + 1))
    assert math.isfinite(float(parse_json("9" * strict_json.MOST_DIGITS)))
    with pytest.raises(InputError, match="300 digits"):
        parse_json("9" * (strict_json.MOST_DIGITS + 1))


def test_long_documents_are_refused_before_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strict_json, "MOST_BYTES", 10)
    (tmp_path / "a.json").write_text('{"a": 123}')
    assert read_json(tmp_path / "a.json") == {"a": 123}
    (tmp_path / "a.json").write_text('{"a": 1234}')
    with pytest.raises(InputError, match=r"a\.json is damaged: JSON must be at most 10 bytes"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize("text", [None, 3, object()])
def test_no_text_is_refused(text: object) -> None:
    with pytest.raises(InputError):
        parse_json(text)  # type: ignore[arg-type]


def test_only_objects_and_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[1]")
    with pytest.raises(InputError, match=r"must hold a JSON object\. It holds a list"):
        read_json(tmp_path / "a.json")
    with pytest.raises(InputError, match="does not exist"):
        read_json(tmp_path)
