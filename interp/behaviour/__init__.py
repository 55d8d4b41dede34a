"""Heads by what they do: where they look, and whether that is more than chance.

```python
from interp.behaviour import found_heads, head_scores, repeated_tokens

scores = head_scores(model, repeated_tokens(model).tokens)
scores["induction"].score, scores["induction"].stderr    # [layer, head]
found_heads(scores)                                      # none in a model without such heads
```
"""

from interp.behaviour.detector import HEAD_NAMES, detect_head
from interp.behaviour.in_context import (
    Estimate,
    in_context_score,
    mean_loss,
    predicts_next_tokens,
    token_losses,
)
from interp.behaviour.offsets import OffsetScores, offset_scores
from interp.behaviour.repeated import RepeatedTokens, repeated_tokens
from interp.behaviour.scores import (
    BEHAVIOURS,
    BehaviourScore,
    FoundHead,
    found_heads,
    head_scores,
    shows,
)
from interp.behaviour.training import CheckpointScores, scores_over_checkpoints

__all__ = [
    "BEHAVIOURS",
    "HEAD_NAMES",
    "BehaviourScore",
    "CheckpointScores",
    "Estimate",
    "FoundHead",
    "OffsetScores",
    "RepeatedTokens",
    "detect_head",
    "found_heads",
    "head_scores",
    "in_context_score",
    "mean_loss",
    "offset_scores",
    "predicts_next_tokens",
    "repeated_tokens",
    "scores_over_checkpoints",
    "shows",
    "token_losses",
]
