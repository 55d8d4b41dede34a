"""Interventions: small values that say what they change in a run, and make the hooks for it.

```python
ablated = [Mean(Place("z", layers=0, heads=1), reference), KnockOutEdge("L0H2->L1H0.k")]
with applied(model, ablated):
    logits = model(tokens)
model.run_with_hooks(tokens, fwd_hooks=hooks_for(model, ablated))
Interventions(ablated).to_json()
```
"""

from interp.interventions.apply import Interventions, applied, hooks_for
from interp.interventions.base import Intervention
from interp.interventions.dataset_means import mean_reference
from interp.interventions.directions import RemoveSubspace, Steer, SwapSubspace
from interp.interventions.freezing import FreezeNorms, FreezePatterns
from interp.interventions.knockouts import KnockOutAttention, KnockOutEdge, KnockOutHead
from interp.interventions.places import Place
from interp.interventions.positions import (
    FreezePositions,
    ShiftPositions,
    ShufflePositions,
    SwapPositions,
    ZeroPositions,
)
from interp.interventions.reference import Reference
from interp.interventions.replacements import Mean, Noise, Patch, Resample, Scale, Zero

__all__ = [
    "FreezeNorms",
    "FreezePatterns",
    "FreezePositions",
    "Intervention",
    "Interventions",
    "KnockOutAttention",
    "KnockOutEdge",
    "KnockOutHead",
    "Mean",
    "Noise",
    "Patch",
    "Place",
    "Reference",
    "RemoveSubspace",
    "Resample",
    "Scale",
    "ShiftPositions",
    "ShufflePositions",
    "Steer",
    "SwapPositions",
    "SwapSubspace",
    "Zero",
    "ZeroPositions",
    "applied",
    "hooks_for",
    "mean_reference",
]
