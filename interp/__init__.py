"""interp: a Transformer one can look inside.

The names below are what research scripts import; `import interp` loads torch and little else.
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
