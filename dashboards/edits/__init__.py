"""Interventions in a short notation that stands in an address: see `notation` for the grammar.

```python
parse("zero:L0H3; scale:L1MLP@-1*0.5")          # two `Edit`s; `written` joins them again
plan("zero:L0H3", model, tokens)                # interventions of `interp.interventions`
python_of("zero:L0H3", tokens)                  # the lines of Python that make the same
in_words(parse("zero:L0H3")[0])                 # "output of head 3, layer 0: zero"
```
"""

from dashboards.edits.building import plan, python_of, runs_wanted
from dashboards.edits.notation import MAX_EDITS, MAX_LENGTH, VERBS, Direction, Edit, parse, written
from dashboards.edits.places import Edge, Entries, Positions
from dashboards.edits.words import in_words

__all__ = [
    "MAX_EDITS",
    "MAX_LENGTH",
    "VERBS",
    "Direction",
    "Edge",
    "Edit",
    "Entries",
    "Positions",
    "in_words",
    "parse",
    "plan",
    "python_of",
    "runs_wanted",
    "written",
]
