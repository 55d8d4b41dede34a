"""A generated part of a page is replaced, and only that."""

import pytest

from docs.generate.marked import replaced
from interp.errors import InputError

_PAGE = """# Page

<!-- generated: a -->
old
<!-- end: a -->

between

<!-- generated: b -->
<!-- end: b -->
"""


def test_only_the_part_of_that_name_changes():
    once = replaced(_PAGE, "a", r"new \1 text")
    assert "new \\1 text" in once
    assert "old" not in once
    assert once.split("between")[1] == _PAGE.split("between")[1]
    assert replaced(once, "a", r"new \1 text") == once


@pytest.mark.parametrize("page", ["# Page", _PAGE + _PAGE])
def test_a_part_must_be_there_once(page):
    with pytest.raises(InputError, match=r"Received [02]"):
        replaced(page, "a", "new")
