"""Parameters that share a line get one each, and nothing else changes."""

import pytest

pytest.importorskip("griffe", reason="needs the extra 'docs'")

from docs.generate.docstrings import one_name_a_line

_SHARED = """What it does: q, k: are not parameters here.

Args:
    model: The model.
    q, k: Queries and keys
        of one layer.
    a, *args,
        b: The rest.
    last: With a, b: in its text.

Returns:
    x, y: two numbers.
"""

_EXPECTED = """What it does: q, k: are not parameters here.

Args:
    model: The model.
    q: Queries and keys
        of one layer.
    k: Queries and keys
        of one layer.
    a: The rest.
    *args: The rest.
    b: The rest.
    last: With a, b: in its text.

Returns:
    x, y: two numbers.
"""


def test_shared_lines_are_parted():
    found = one_name_a_line(_SHARED)
    assert [line.rstrip() for line in found.split("\n")] == _EXPECTED.split("\n")
    assert one_name_a_line(found) == found
