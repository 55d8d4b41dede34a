"""Models by construction: weights written by hand, whose mechanism is known exactly.

```python
truth = known.induction()
truth.model, truth.clean, truth.corrupted    # a HookedTransformer in fp64, and prompts for it
truth.edges                                  # the true circuit
truth.direct["L1H1"]                         # the head's exact direct logit difference, [batch]
truth.expected["attribution_patching"]       # what a first-order method finds, by its definition
```
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from interp.zoo.known.bracket_counter import bracket_counter
from interp.zoo.known.cancellation import cancellation
from interp.zoo.known.induction import induction
from interp.zoo.known.name_mover import name_mover
from interp.zoo.known.previous_token import previous_token
from interp.zoo.known.truth import KnownModel
from interp.zoo.known.wiring import SATURATED

MODELS: Mapping[str, Callable[..., KnownModel]] = {
    "previous_token": previous_token,
    "induction": induction,
    "name_mover": name_mover,
    "bracket_counter": bracket_counter,
    "cancellation": cancellation,
}
"""Every model by name; `induction` is worth a second look with `saturated=True`."""

__all__ = [
    "MODELS",
    "SATURATED",
    "KnownModel",
    "bracket_counter",
    "cancellation",
    "induction",
    "name_mover",
    "previous_token",
]
