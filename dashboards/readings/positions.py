"""What a model's encoding of positions is, whatever the prompt."""

from __future__ import annotations

import pandas as pd

from analyses.positions.attention_tables import bias_curves_table
from analyses.positions.encoding import (
    Part,
    angles_table,
    cosines_table,
    paths_table,
    waves_table,
)
from dashboards.page.subject import Subject
from dashboards.readings.base import reading
from interp import HookedTransformer
from interp.position_effects import bias_curves


@reading(max_entries=16)
def cosines(model: HookedTransformer, subject: Subject, n: int, part: Part) -> pd.DataFrame:
    """The cosine of every two positions' vectors."""
    return cosines_table(model, n, part)


@reading(max_entries=16)
def waves(model: HookedTransformer, subject: Subject, n: int, part: Part) -> pd.DataFrame:
    """The spectrum of the positions' vectors."""
    return waves_table(model, n, part)


@reading(max_entries=16)
def paths(model: HookedTransformer, subject: Subject, n: int, part: Part) -> pd.DataFrame:
    """The leading components of the positions' vectors."""
    return paths_table(model, n, part)


@reading(max_entries=16)
def angles(model: HookedTransformer, subject: Subject, n: int, layer: int) -> pd.DataFrame:
    """How far each rotary band has turned at each distance."""
    return angles_table(model, n, layer)


@reading(max_entries=16)
def biases(model: HookedTransformer, subject: Subject, n: int, part: Part) -> pd.DataFrame:
    """What ALiBi or relative positions add to the scores."""
    return bias_curves_table(bias_curves(model, n, part))
