import pytest

from interp.charts.tokens import printable, shortened, visible


@pytest.mark.parametrize(
    ("token", "shown"),
    [
        (" the", "·the"),
        ("a\nb", "a↵b"),
        ("\t", "⇥"),
        ("\r", "␍"),
        ("", "∅"),
        ("\x00", r"\x00"),
        ("\u200b", r"\u200b"),  # zero width
        ("\u00a0", r"\xa0"),  # no-break space
        ("naïve 你", "naïve·你"),
    ],
)
def test_visible(token, shown):
    assert visible(token) == shown


def test_shortened_keeps_what_fits():
    assert shortened("abcd", 4) == "abcd"
    assert shortened("abcde", 4) == "abc…"


def test_a_name_keeps_its_spaces_and_shows_what_cannot_be_printed():
    assert printable("a b\n\x00\u202e\u2003é") == "a b\\n\\x00\\u202e\\u2003é"
