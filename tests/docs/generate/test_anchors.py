"""Anchors of headings are those that GitHub gives."""

import pytest

from docs.generate.anchors import anchor


@pytest.mark.parametrize(
    ("heading", "expected"),
    [
        ("Ten lines", "ten-lines"),
        ("Patching, at the speed of its arithmetic", "patching-at-the-speed-of-its-arithmetic"),
        ("A & B", "a--b"),
        ("hook_z: what a head's value is", "hook_z-what-a-heads-value-is"),
        ("Encoder–decoder", "encoderdecoder"),
        ("fp32 ≤ 1e-5", "fp32--1e-5"),
        ("Até logo", "até-logo"),
    ],
)
def test_github_s_rule(heading, expected):
    assert anchor(heading) == expected
