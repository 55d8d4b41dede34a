"""The three floors, and what flows through them from a text to a page: one picture."""

from __future__ import annotations

from docs.generate.architecture.picture import FLOOR_COLORS, Picture
from docs.generate.source import ROOT
from interp.charts.palette import INK
from interp.errors import InputError

_WIDTH, _HEIGHT = 980.0, 640.0
_LEFT, _INNER = 16.0, 948.0
_SMALL = 11.0


def draw_flow() -> str:
    """The picture as SVG. Every file and folder that it names exists.

    Raises:
        InputError: If one does not.
    """
    picture = Picture(
        _WIDTH,
        _HEIGHT,
        "From a text to a page",
        "In interp a text becomes tokens; the model runs them, with hook points that a plan says "
        "which to compute; a cache keeps what was recorded; methods read and patch. Analyses make "
        "results of that, which the command line and the dashboard show.",
    )
    _dashboards(picture)
    _analyses(picture)
    _interp(picture)
    return picture.svg()


def _dashboards(picture: Picture) -> None:
    color = _band(picture, "dashboards", 14, 122, "the screen: shows, and computes nothing itself")
    _box(picture, "dashboards", 40, 50, 220, ("cli.py", "commands/"), "interp run, show, harvest …")
    _box(picture, "dashboards", 300, 50, 260, ("app.py", "views/"), "pages; an address is a view")
    _box(picture, "dashboards", 600, 50, 160, ("runs/",), "results, found again")
    _box(picture, "dashboards", 784, 50, 160, ("jobs/",), "long runs, a process each")
    picture.arrow([(600, 82), (560, 82)], color)
    picture.arrow([(784, 82), (760, 82)], color)


def _analyses(picture: Picture) -> None:
    color = _band(picture, "analyses", 158, 142, "the science: a question, settings, checks")
    _box(picture, "analyses", 40, 202, 190, ("registry.py",), "analyses by name")
    _box(
        picture, "analyses", 262, 202, 400,
        ("attribution/", "patching/", "heads/", "lenses/", "…"), "a file for each analysis",
    )  # fmt: skip
    _box(picture, "analyses", 694, 202, 250, ("results/",), "tables, figures, checks, provenance")
    picture.arrow([(230, 234), (262, 234)], color)
    picture.arrow([(662, 234), (694, 234)], color)
    picture.text(470, 290, "with the methods below", _SMALL, "start")
    picture.arrow([(135, 114), (135, 202)], FLOOR_COLORS["dashboards"])
    picture.text(144, 150, "by name", _SMALL, "start")
    picture.arrow([(730, 202), (730, 114)], color)
    picture.text(740, 150, "saved, whole or not at all", _SMALL, "start")


def _interp(picture: Picture) -> None:
    color = _band(picture, "interp", 322, 304, "the instrument: one model, every tensor of it")
    picture.text(62, 531, "“k d R 7 q k”", 12)
    _box(picture, "interp", 136, 496, 130, ("tokenization/",), "text → ids")
    _model(picture, color)
    _box(
        picture,
        "interp",
        724,
        496,
        220,
        ("run/recording.py", "cache.py"),
        "what was asked for",
    )
    picture.arrow([(104, 528), (136, 528)], color)
    picture.arrow([(266, 528), (298, 528)], color)
    picture.arrow([(692, 528), (724, 528)], color)
    x = 40.0
    methods = (
        (320, ("patching/", "interventions/", "circuits/"), "change a run, and see"),
        (316, ("attribution/", "lens/", "behaviour/"), "what is owed to what, what is read off"),
        (244, ("probes/", "sae/", "harvest/"), "from many recordings"),
    )
    for width, names, meaning in methods:
        _box(picture, "interp", x, 366, width, names, meaning)
        x += width + 12
    picture.arrow([(834, 496), (834, 430)], color)
    picture.text(842, 466, "read", _SMALL, "start")
    picture.arrow([(340, 430), (340, 468)], color)
    picture.text(348, 453, "hooks", _SMALL, "start")
    picture.box(40, 355, 904, 1, color, 1, 0.6)  # all of the methods together
    picture.arrow([(462, 355), (462, 266)], color)


def _model(picture: Picture, color: str) -> None:
    """The model itself: its parts, the points between them, and who says what is computed."""
    x, y, width, height = 298.0, 468.0, 394.0, 144.0
    picture.box(x, y, width, height, color, 0.1, 1.6)
    picture.text(x + 12, y + 20, _real("interp", "transformer.py"), 12, "start", True, code=True)
    picture.text(x + width - 12, y + 20, _real("interp", "config.py"), _SMALL, "end", code=True)
    parts = (("embed", 62), ("block", 62), ("…", 26), ("block", 62), ("norm", 56), ("unembed", 66))
    at = x + 12
    for i, (name, wide) in enumerate(parts):
        picture.box(at, y + 32, wide, 26, INK, 0.04, 1)
        picture.text(at + wide / 2, y + 49, name, _SMALL)
        if i:  # a hook point between two parts
            picture.box(at - 5.2, y + 41.5, 7, 7, color, 1, 1)
        at += wide + 3.5
    lines = (
        (("components/", "positions/"), "every tensor passes a point"),
        (("hooks.py", "root.py"), "points; attaching and undoing"),
        (("run/plan.py",), "who watches → what is computed"),
    )
    for i, (names, meaning) in enumerate(lines):
        base = y + 82 + 20 * i
        words = " ".join(_real("interp", name) for name in names)
        picture.text(x + 12, base, words, _SMALL, "start", code=True)
        picture.text(x + 166, base, meaning, _SMALL, "start")


def _band(picture: Picture, floor: str, y: float, height: float, meaning: str) -> str:
    color = FLOOR_COLORS[floor]
    picture.box(_LEFT, y, _INNER, height, color, 0.06, 0)
    picture.text(_LEFT + 10, y + 20, f"{_real('', floor)}/", 14, "start", bold=True, color=color)
    picture.text(_LEFT + 130, y + 20, meaning, 12, "start")
    return color


def _box(
    picture: Picture,
    floor: str,
    x: float,
    y: float,
    width: float,
    names: tuple[str, ...],
    meaning: str,
) -> None:
    picture.box(x, y, width, 64, FLOOR_COLORS[floor], 0.1)
    words = " ".join(_real(floor, name) for name in names)
    picture.text(x + width / 2, y + 27, words, 12, code=True)
    picture.text(x + width / 2, y + 48, meaning, _SMALL)


def _real(floor: str, name: str) -> str:
    if name != "…" and not (ROOT / floor / name).exists():
        raise InputError(f"the picture may name only what there is. Received {floor}/{name}")
    return name
