"""Models larger than one device: tensor parallelism whose hooks see whole tensors."""

from interp.parallel.errors import ReplicaError
from interp.parallel.make import load_tensor_parallel, tensor_parallel
from interp.parallel.model import TensorParallelTransformer
from interp.parallel.ranks import Ranks

__all__ = [
    "Ranks",
    "ReplicaError",
    "TensorParallelTransformer",
    "load_tensor_parallel",
    "tensor_parallel",
]
