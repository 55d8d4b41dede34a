"""What parity tests measured, and the page made of it: see `parity`."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor


@dataclass
class Figures:
    """What was measured of one configuration.

    Attributes:
        family, configuration, architecture, dtype: What was compared.
        residual: The largest error of a residual stream.
        pattern: Of an attention pattern.
        logits: Of the logits.
        generation: How many greedy tokens are the same, of how many. None: no decoder.
    """

    family: str
    configuration: str
    architecture: str
    dtype: str
    residual: float = 0.0
    pattern: float = 0.0
    logits: float = 0.0
    generation: list[int] | None = None

    def note(self, name: str, ours: Tensor, theirs: Tensor, tolerance: float) -> None:
        """Take an error in, and fail where it is too large."""
        assert ours.shape == theirs.shape, f"{name}: {tuple(ours.shape)}, {tuple(theirs.shape)}"
        ours, theirs = ours.double(), theirs.double()
        error = float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1.0))
        kind = "logits" if name.startswith("logits") else "residual"
        kind = "pattern" if "hook_pattern" in name else kind
        setattr(self, kind, max(getattr(self, kind), error))
        assert error <= tolerance, f"{name}: {error:.1e} > {tolerance:.0e}"

    def store(self) -> None:
        """Write the figures into the folder that PARITY_OUT names, if it does."""
        folder = os.environ.get("PARITY_OUT")
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            parts = (self.architecture, self.configuration, self.dtype)
            name = "-".join(parts).replace(" ", "-").replace("/", "-")
            (Path(folder) / f"{name}.json").write_text(json.dumps(asdict(self)))


_HEAD = """# Beside Hugging Face

Every family with random weights in which nothing is at a neutral value: `interp` beside
transformers' own code, in float32 and in float64 (where transformers casts to float32 inside, its
code was run with float64 in that place). An error is max |ours - theirs| / max(1, max |theirs|),
the largest of all layers and of a full batch, one padded on the right and one padded on the left.
Greedy tokens are ours with a key/value cache against theirs. Where rotary
frequencies depend on the length of the text (Llama dynamic), both are without one.

Made by `make parity`; do not edit.

| family | class | configuration | dtype | residual stream | pattern | logits | greedy tokens |
|---|---|---|---|---|---|---|---|
"""


def table(folder: Path) -> str:
    """The page made of a folder of figures."""
    found = [Figures(**json.loads(p.read_text())) for p in sorted(folder.glob("*.json"))]
    found.sort(key=lambda f: (f.family.lower(), f.architecture, f.configuration, f.dtype))
    lines = []
    for f in found:
        tokens = "—" if f.generation is None else "{} of {} equal".format(*f.generation)
        errors = " | ".join(f"{x:.0e}" if x else "0" for x in (f.residual, f.pattern, f.logits))
        lines.append(
            f"| {f.family} | `{f.architecture}` | {f.configuration} | {f.dtype} | {errors} "
            f"| {tokens} |"
        )
    return _HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(table(Path(sys.argv[1])))
