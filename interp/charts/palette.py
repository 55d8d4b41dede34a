"""The colours that every drawing library shares, for light and for dark pages.

All are legible with red-green blindness. A scale's zero is what lies closest to the page, in both
themes: white on a light page, nearly black on a dark one.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Theme:
    """The colours of a page and of what is drawn on it.

    Attributes:
        ink: Of text, axes and outlines.
        paper: Behind everything.
        grid: Of lines that help to read a number.
        blank: Of a cell without a number.
        accent: Of what is chosen.
        positive, negative: Of bars and edges by their sign.
        sequential: From 0 or the least number to the largest, evenly spaced.
        diverging: From the most negative number over zero, in the middle, to the most positive.
        categorical: Of groups; they contrast with the paper by 3:1 or more, and differ from each
            other by 0.1 in OKLab or more, also as seen with red-green blindness.
        many: A ramp for more groups than `categorical` has colours, in the groups' order.
    """

    ink: str
    paper: str
    grid: str
    blank: str
    accent: str
    positive: str
    negative: str
    sequential: tuple[str, ...]
    diverging: tuple[str, ...]
    categorical: tuple[str, ...]
    many: tuple[str, ...]

    def group_colors(self, n: int) -> list[str]:
        """Colours for `n` groups: distinct hues while they last, else a ramp in their order."""
        if n <= len(self.categorical):
            return list(self.categorical[:n])
        return [ramp(self.many, i / (n - 1)) for i in range(n)]


LIGHT = Theme(
    ink="#222222",
    paper="#ffffff",
    grid="#dddddd",
    blank="#d9d9d9",
    accent="#b94e00",
    positive="#b2182b",
    negative="#2166ac",
    # ColorBrewer's Blues, from white.
    sequential=(
        "#ffffff", "#deebf7", "#c6dbef", "#9ecae1", "#6baed6",
        "#4292c6", "#2171b5", "#08519c", "#08306b",
    ),
    # ColorBrewer's RdBu, reversed: blue below zero, white at it, red above.
    diverging=(
        "#053061", "#2166ac", "#4393c3", "#92c5de", "#d1e5f0",
        "#f7f7f7",
        "#fddbc7", "#f4a582", "#d6604d", "#b2182b", "#67001f",
    ),
    # Near Okabe and Ito's hues, moved apart where those meet for the colour-blind or pale on white.
    categorical=(
        "#0459ba", "#b94e00", "#0e886d", "#d65faf", "#c08800", "#3791f4", "#535353", "#000000",
    ),
    many=("#3b0f70", "#31688e", "#1e8a80", "#5b8c1c", "#a87f00"),
)  # fmt: skip

DARK = Theme(
    ink="#e4e7eb",
    paper="#14171c",
    grid="#343a43",
    blank="#3a3f47",
    accent="#ff9e57",
    positive="#f0806a",
    negative="#5aa7e6",
    sequential=(
        "#0b0d10", "#0e2238", "#123a61", "#17548c", "#2670b3",
        "#4690cf", "#78b3e2", "#b0d4f0", "#eef6fc",
    ),
    diverging=(
        "#a6dcff", "#6cb8f2", "#3d8fd6", "#226aab", "#173c60",
        "#101215",
        "#5e251e", "#a53b2c", "#e0644b", "#fb9575", "#ffc3a6",
    ),
    categorical=(
        "#2774cf", "#ff5a1f", "#09ac86", "#ca8fe6", "#dccc09", "#a0d9df", "#6a6a6a", "#ffffff",
    ),
    many=("#7a6fe0", "#3f9bd0", "#35b8a6", "#8fd06a", "#f5e663"),
)  # fmt: skip

# The light theme's, in which still pictures are drawn.
DIVERGING, SEQUENTIAL, CATEGORICAL = LIGHT.diverging, LIGHT.sequential, LIGHT.categorical
POSITIVE, NEGATIVE = LIGHT.positive, LIGHT.negative
BLANK, INK, GRID = LIGHT.blank, LIGHT.ink, LIGHT.grid


def theme(dark: bool) -> Theme:
    """The dark theme or the light one."""
    return DARK if dark else LIGHT


def group_colors(n: int) -> list[str]:
    """The light theme's colours for `n` groups."""
    return LIGHT.group_colors(n)


def scale(stops: tuple[str, ...]) -> list[tuple[float, str]]:
    """Evenly spaced colours as (place from 0 to 1, colour), as plotly names a scale."""
    return [(i / (len(stops) - 1), color) for i, color in enumerate(stops)]


def ramp(stops: tuple[str, ...], at: float) -> str:
    """The colour at `at`, from 0 to 1, along evenly spaced hex colours."""
    place = at * (len(stops) - 1)
    left = min(int(place), len(stops) - 2)
    share = place - left
    pair = zip(channels(stops[left]), channels(stops[left + 1]), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pair)


def channels(color: str) -> tuple[int, int, int]:
    """Red, green and blue, 0..255, of a hex colour."""
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)
