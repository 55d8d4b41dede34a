"""Who is timed. Each package's file has one class with one method per task that it can do."""

from __future__ import annotations

from benchmarks.contenders.base import Contenders, Job
from benchmarks.contenders.hugging_face import HuggingFace
from benchmarks.contenders.nnsight import NNsight
from benchmarks.contenders.ours import Interp
from benchmarks.contenders.plain_torch import PlainTorch
from benchmarks.contenders.transformer_lens import TransformerLens

ALL: tuple[type[Contenders], ...] = (Interp, PlainTorch, HuggingFace, TransformerLens, NNsight)

__all__ = ["ALL", "Contenders", "Job"]
