"""Compiled runs: what is recorded, edited and patched is fixed, and then it is one program.

`HookedTransformer.compile` gives a `CompiledModel`. What may still change from run to run is its
input, and in each row of it a `Patch`.
"""

from interp.compiled.model import CompiledModel
from interp.compiled.patch import Patch

__all__ = ["CompiledModel", "Patch"]
