"""The colours that every drawing library shares. All are legible with red-green blindness."""

# ColorBrewer's RdBu, reversed: blue below zero, white at it, red above.
DIVERGING = (
    "#053061",
    "#2166ac",
    "#4393c3",
    "#92c5de",
    "#d1e5f0",
    "#f7f7f7",
    "#fddbc7",
    "#f4a582",
    "#d6604d",
    "#b2182b",
    "#67001f",
)

# ColorBrewer's Blues, from white.
SEQUENTIAL = (
    "#ffffff",
    "#deebf7",
    "#c6dbef",
    "#9ecae1",
    "#6baed6",
    "#4292c6",
    "#2171b5",
    "#08519c",
    "#08306b",
)

# Okabe and Ito's set for groups; after the last it starts again.
CATEGORICAL = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#7f7f7f",
    "#000000",
)

POSITIVE, NEGATIVE = "#b2182b", "#2166ac"
BLANK = "#d9d9d9"  # a cell without a number
INK, GRID = "#222222", "#dddddd"


def group_colors(n: int) -> list[str]:
    """Colours for `n` groups: distinct hues while they last, else a ramp in the groups' order."""
    if n <= len(CATEGORICAL):
        return list(CATEGORICAL[:n])
    # The palest blues would vanish on white, so the ramp starts at the fourth.
    return [ramp(SEQUENTIAL[3:], i / (n - 1)) for i in range(n)]


def ramp(stops: tuple[str, ...], at: float) -> str:
    """The colour at `at`, from 0 to 1, along evenly spaced hex colours."""
    place = at * (len(stops) - 1)
    left = min(int(place), len(stops) - 2)
    share = place - left
    pair = zip(_channels(stops[left]), _channels(stops[left + 1]), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pair)


def _channels(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)
