"""How a notebook shows what interp is made of: HTML that needs no server and no other file.

Models, configurations, caches, harvested datasets, interventions and circuits show themselves when
they are the last line of a cell. Tokens, attributions and attention patterns are plain strings and
tensors, which cannot; these functions show them:

```python
show_tokens(model, "k d R 7 q k d R")
show_attribution(model.to_str_tokens(prompt), scores)
show_attention(model.to_str_tokens(prompt), cache["pattern", 1])
```

Colours are laid over the notebook's own page, thinner for smaller numbers, so that zero is the page
in a light and in a dark theme. Only `show_attention` holds a script, for pointing and enlarging;
without it the pictures stand still. Where HTML is not shown there is the text of `repr`.
"""

from interp.display.attention import ShownAttention, show_attention
from interp.display.attribution import ShownAttribution, show_attribution
from interp.display.tokens import ShownTokens, show_tokens

__all__ = [
    "ShownAttention",
    "ShownAttribution",
    "ShownTokens",
    "show_attention",
    "show_attribution",
    "show_tokens",
]
