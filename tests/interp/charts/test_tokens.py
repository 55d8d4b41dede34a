import pytest

from interp.charts.tokens import shortened, visible


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
