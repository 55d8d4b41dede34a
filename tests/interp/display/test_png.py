"""Small pictures, read back by another reader."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from interp.display.png import png_url

image = pytest.importorskip("PIL.Image", reason="needs Pillow, which the extra 'plots' brings")


@settings(max_examples=30, deadline=None, derandomize=True)
@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_opacity_is_the_level_and_the_colour_the_same_everywhere(levels):
    head, _, data = png_url(levels, "#2171b5").partition(",")
    assert head == "data:image/png;base64"
    found = np.array(image.open(io.BytesIO(base64.b64decode(data))).convert("RGBA"))
    assert np.array_equal(found[..., 3], levels)
    assert (found[..., :3] == (0x21, 0x71, 0xB5)).all()
