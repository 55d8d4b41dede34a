"""The science: canned analyses, registered by name, a folder for each topic.

```python
from analyses import list_analyses, run_analysis

[(each.name, each.question) for each in list_analyses()]
result = run_analysis("head-scores", model)          # tables, figures, checks, provenance
```

An analysis is a class in a file of its own (`base.Analysis`); files of its tables and figures stand
beside it. `inputs` is what several are given, `results` what all give back, and `grids` runs one
over many settings and models. What is computed is `interp`'s.
"""

from analyses.base import Analysis, Parameters
from analyses.grids import run_grid
from analyses.registry import get_analysis, list_analyses, register, run_analysis
from analyses.results.result import AnalysisResult, Check

__all__ = [
    "Analysis",
    "AnalysisResult",
    "Check",
    "Parameters",
    "get_analysis",
    "list_analyses",
    "register",
    "run_analysis",
    "run_grid",
]
