"""interp: a Transformer one can look inside.

The names below are what research scripts import; `import interp` loads torch and little else.

```python
from interp import load_model

model = load_model("zoo:induction")                  # or a directory, or a hub name
logits, cache = model.run_with_cache("k d R 7 q k d R")
cache["pattern", 1]                                  # [batch, head, pos, key_pos]
```

Where what is, by what one wants to do:

- open a trained model: `pretrained`, `zoo`; make one: `config`, `training`; toys of superposition:
  `toys`;
- know the model itself: `transformer`, made of `components` and `positions`; `run` is one run of
  it, `hooks` and `cache` what is seen of that;
- change a run: `interventions`, `patching`, `circuits`;
- explain a prediction: `attribution`, `lens`, and the decompositions that a cache has;
- tell what parts do: `behaviour`, `weight_circuits`, `position_effects`, `probes`, `sae`;
- make text, and activations by the million: `tokenization`, `generation`, `harvest`, `kernels`;
- use several devices, or be faster: `devices`, `parallel`, `compiled`, `engines`, `numerics`;
- show it: `display` in notebooks, `charts` for tables.
"""

from typing import TYPE_CHECKING, Any

from interp.cache import ActivationCache
from interp.config import HookedTransformerConfig
from interp.errors import InputError, InterpError
from interp.factored import FactoredMatrix
from interp.hooks import HookPoint
from interp.numerics import NonFiniteError, OutOfMemoryError, deterministic
from interp.pretrained import load_model
from interp.root import HookedRootModule
from interp.run.kv_cache import KeyValueCache
from interp.transformer import HookedTransformer

if TYPE_CHECKING:
    from interp.compiled import Patch

__version__ = "0.1.0"

__all__ = [
    "ActivationCache",
    "FactoredMatrix",
    "HookPoint",
    "HookedRootModule",
    "HookedTransformer",
    "HookedTransformerConfig",
    "InputError",
    "InterpError",
    "KeyValueCache",
    "NonFiniteError",
    "OutOfMemoryError",
    "Patch",
    "deterministic",
    "load_model",
]


def __getattr__(name: str) -> Any:
    """`Patch`, loaded when it is used: with it comes what compiles."""
    if name == "Patch":
        from interp.compiled import Patch

        return Patch
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
