"""Contrast by WCAG 2; distances in OKLab, also as seen with red-green blindness."""

from itertools import combinations

import numpy as np
import pytest

from interp.charts.palette import DARK, LIGHT, ramp, theme

THEMES = pytest.mark.parametrize("colors", [LIGHT, DARK], ids=["light", "dark"])

# Ottosson's OKLab, and Machado et al.'s simulations of whole protanopia and deuteranopia, all of
# linear RGB.
TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
PROTANOPIA = np.array(
    [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ]
)
DEUTERANOPIA = np.array(
    [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ]
)


def linear(color):
    parts = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def oklab(color, seen=None):
    rgb = linear(color) if seen is None else seen @ linear(color)
    return TO_LAB @ np.cbrt(TO_LMS @ np.clip(rgb, 0, 1))


def contrast(one, other):
    dark, light = sorted(float(linear(c) @ [0.2126, 0.7152, 0.0722]) for c in (one, other))
    return (light + 0.05) / (dark + 0.05)


def test_contrast_as_the_standard_computes_it():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@THEMES
def test_what_is_read_stands_out_from_the_page(colors):
    assert contrast(colors.ink, colors.paper) >= 7
    assert contrast(colors.ink, colors.blank) >= 4.5
    for color in (colors.positive, colors.negative, colors.accent):
        assert contrast(color, colors.paper) >= 4.5
    for n in range(1, 31):
        groups = colors.group_colors(n)
        assert len(set(groups)) == n
        assert min(contrast(color, colors.paper) for color in groups) >= 3


@THEMES
@pytest.mark.parametrize("seen", [None, PROTANOPIA, DEUTERANOPIA], ids=["all", "prot", "deut"])
def test_groups_differ_also_for_the_color_blind(colors, seen):
    pairs = combinations(colors.categorical, 2)
    assert min(np.linalg.norm(oklab(a, seen) - oklab(b, seen)) for a, b in pairs) >= 0.1


@THEMES
@pytest.mark.parametrize("seen", [None, PROTANOPIA, DEUTERANOPIA], ids=["all", "prot", "deut"])
def test_the_sign_can_be_seen_by_the_color_blind(colors, seen):
    ends = (colors.diverging[0], colors.diverging[-1]), (colors.negative, colors.positive)
    for one, other in ends:
        apart = oklab(one, seen)[1:] - oklab(other, seen)[1:]
        assert np.linalg.norm(apart) >= 0.08


@THEMES
def test_scales_run_from_the_page_to_the_strongest(colors):
    """Lightness rises or falls all the way from zero; both halves of a diverging scale alike."""
    page, farther = oklab(colors.paper)[0], np.sign(oklab(colors.ink)[0] - oklab(colors.paper)[0])
    middle = len(colors.diverging) // 2
    up = [oklab(c)[0] for c in colors.diverging[middle:]]
    down = [oklab(c)[0] for c in colors.diverging[middle::-1]]
    for lightness in ([oklab(c)[0] for c in colors.sequential], up, down):
        assert abs(lightness[0] - page) < 0.06
        assert (np.diff(lightness) * farther > 0).all()
    np.testing.assert_allclose(up, down, atol=0.02)


@THEMES
def test_a_blank_cell_is_not_taken_for_zero(colors):
    for zero in (colors.sequential[0], colors.diverging[len(colors.diverging) // 2]):
        assert np.linalg.norm(oklab(zero) - oklab(colors.blank)) >= 0.09
    assert contrast(colors.blank, colors.paper) >= 1.3


def test_a_ramp_goes_through_its_stops():
    stops = ("#000000", "#ffffff", "#ff0000")
    assert [ramp(stops, at) for at in (0, 0.5, 1)] == list(stops)
    assert theme(True) is DARK and theme(False) is LIGHT
