"""Statistics of attention patterns in O(n) memory, computed beside fused attention.

```python
from interp.kernels import attention_statistics, pattern_statistics

found = attention_statistics(model, tokens)          # every layer, while the model runs
found["entropy"], found["previous_mass"]             # [layer, batch, head, pos]
pattern_statistics(q, k, tokens=tokens)              # of queries and keys at hand
```
"""

from interp.kernels.pattern import pattern_statistics
from interp.kernels.recorder import attention_statistics
from interp.kernels.statistics import STATISTICS, PatternStatistics

__all__ = [
    "STATISTICS",
    "PatternStatistics",
    "attention_statistics",
    "pattern_statistics",
]
