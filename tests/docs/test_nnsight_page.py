"""What the page of nnsight sets side by side gives the same numbers, where nnsight is installed."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "coming-from-nnsight.md"

AGREE = """
for ours, theirs in {
    "read": (resid, their_resid),
    "z": (cache["z", 1].flatten(2), their_z),
    "logits": (logits, their_logits),
    "edited": (silenced, their_silenced),
    "patched": (patched, their_patched),
    "gradient": (gradient, their_gradient),
    "first row": (rows[:1], their_row_0),
    "second row": (rows[1:], their_row_1),
    "lens": (early, their_early),
    "stopped": (resid_1, their_resid_1),
    "pattern": (pattern, their_pattern),
}.values():
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
assert written.tolist() == their_written.tolist()
assert (silenced - logits).abs().max() > 1e-4 and (patched - logits).abs().max() > 1e-4
assert (first - logits).abs().max() > 1e-4
print("the same")
"""


@pytest.mark.skipif(
    not os.environ.get("INTERP_EXHAUSTIVE"), reason="make test-exhaustive: it takes a while"
)
def test_both_sides_give_the_same_numbers(tmp_path: Path) -> None:
    if importlib.util.find_spec("nnsight") is None:
        pytest.skip("needs nnsight")
    # In a file: nnsight reads the bodies of its contexts from their source.
    blocks = re.findall(r"^```python[^\n]*\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    script = tmp_path / "page.py"
    script.write_text("\n".join([*blocks, AGREE]), encoding="utf-8")
    told = subprocess.run(
        [sys.executable, "-W", "ignore", str(script)],
        env={**os.environ, "PYTHONPATH": str(PAGE.parents[1])},
        capture_output=True,
        text=True,
    )
    assert told.returncode == 0, told.stderr[-3000:]
    assert told.stdout.splitlines()[-1] == "the same"
