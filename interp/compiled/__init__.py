"""Compiled runs: what is recorded, edited and patched is fixed, and then it is one program."""

from interp.compiled.model import CompiledModel
from interp.compiled.patch import Patch

__all__ = ["CompiledModel", "Patch"]
